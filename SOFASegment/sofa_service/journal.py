"""What was done to a case since its first pass, so that it can be done again elsewhere.

The engine replays a journal to wake a session that it had spilled; the client replays one to restore a session that
its engine lost. Replaying gives the same boxes, labels and steps of undo, as far as the model is deterministic.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from sofa_engine.api import Session
from sofa_engine.progress import CancelToken, ProgressCallback
from sofa_engine.types import Box, Patch, SubRegion


@dataclass(frozen=True)
class Refinement:
    """A completed `Session.refine`."""

    sub_region: SubRegion
    boxes: tuple[Box, ...]
    locked: tuple[SubRegion, ...]

    def apply(self, session: Session, cancel: CancelToken | None) -> None:
        """Do it again."""
        for _ in session.refine(self.sub_region, self.boxes, locked=self.locked, cancel=cancel):
            pass


@dataclass(frozen=True)
class Painting:
    """A completed `Session.edit`."""

    patch: Patch

    def apply(self, session: Session, cancel: CancelToken | None) -> None:
        """Do it again."""
        session.edit(self.patch)


Step = Refinement | Painting


@dataclass
class Journal:
    """Steps since the first pass; thread-safe."""

    started: bool = False
    _done: list[Step] = field(default_factory=list)
    _undone: list[Step] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def first_pass(self) -> None:
        """Begin anew."""
        with self._lock:
            self.started = True
            self._done.clear()
            self._undone.clear()

    def add(self, step: Step) -> None:
        """Append a step; what was undone before it is forgotten."""
        with self._lock:
            self._done.append(step)
            self._undone.clear()

    def undo(self) -> None:
        """Note that the last step was taken back."""
        with self._lock:
            if self._done:
                self._undone.append(self._done.pop())

    def redo(self) -> None:
        """Note that the last undone step was repeated."""
        with self._lock:
            if self._undone:
                self._done.append(self._undone.pop())

    def replay(
        self, session: Session, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> None:
        """Bring a newly opened session of the same case to where this journal ends."""
        with self._lock:
            started, done, undone = self.started, tuple(self._done), tuple(reversed(self._undone))
        if not started:
            return
        session.first_pass(progress=progress, cancel=cancel)
        for step in (*done, *undone):
            step.apply(session, cancel)
        for _ in undone:
            session.undo()
