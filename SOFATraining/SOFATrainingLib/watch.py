"""Looking after a process from time to time, off the main thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from SOFASegmentLib.scheduler import Scheduler, Timer
from SOFATrainingLib.child import Child

_EVERY_MS = 500


class Watch:
    """Asks what is new while a process runs, and once more after it ended."""

    def __init__(
        self,
        scheduler: Scheduler,
        child: Child,
        look: Callable[[], Any],
        told: Callable[[Any], None],
        ended: Callable[[], None],
    ) -> None:
        """Start looking.

        Args:
            scheduler: how to wait and how to leave the main thread.
            child: the process.
            look: called in the background; what it returns goes to `told`.
            told: called on the main thread after every look.
            ended: called on the main thread once, after the last look.
        """
        self.child = child
        self._scheduler, self._look, self._told, self._ended = scheduler, look, told, ended
        self._timer: Timer | None = None
        self._closed = False
        self._next()

    def close(self) -> None:
        """Look no more; the process goes on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> None:
        self._timer = None
        self._scheduler.runInBackground(self._run)

    def _run(self) -> None:
        # Asked first: what a process writes before it ends is then seen by the look that follows its end.
        running, found = self.child.running, None
        try:
            found = self._look()
        except Exception:
            logging.exception("SOFA: a training could not be looked at")
        self._scheduler.post(lambda: self._tell(running, found))

    def _tell(self, running: bool, found: Any) -> None:
        if self._closed:
            return
        try:
            self._told(found)
        except Exception:
            # A picture that cannot be drawn is no reason to lose sight of a training.
            logging.exception("SOFA: news of a training could not be shown")
        if self._closed:
            return
        if running:
            self._timer = self._scheduler.callLater(_EVERY_MS, self._next)
        else:
            self._closed = True
            self._ended()
