"""Progress of work that has several stages, told as one fraction with the time that is left."""

from __future__ import annotations

import time

from sofa_engine.progress import Progress, ProgressCallback


class Stages:
    """Maps each stage's own 0 to 1 onto its share of the whole, never going back."""

    def __init__(self, callback: ProgressCallback | None, shares: dict[str, float]) -> None:
        """Prepare to tell `callback`.

        Args:
            callback: who is told; None for nobody.
            shares: relative cost of each stage, in the order in which they run.
        """
        self._callback = callback
        self._starts: dict[str, tuple[float, float]] = {}
        total, start = sum(shares.values()), 0.0
        for stage, share in shares.items():
            self._starts[stage] = (start / total, share / total)
            start += share
        self._began = time.monotonic()
        self._furthest = 0.0

    def tell(self, stage: str, fraction: float) -> None:
        """Tell how much of `stage` is done, 0 to 1."""
        if self._callback is None:
            return
        start, share = self._starts[stage]
        self._furthest = min(1.0, max(self._furthest, start + share * fraction))
        spent = time.monotonic() - self._began
        left = spent * (1 - self._furthest) / self._furthest if self._furthest > 0.02 else None
        self._callback(Progress(stage, self._furthest, left))

    def of(self, stage: str) -> ProgressCallback:
        """Return a callback for a part that reports its own progress from 0 to 1."""
        return lambda progress: self.tell(stage, progress.fraction)
