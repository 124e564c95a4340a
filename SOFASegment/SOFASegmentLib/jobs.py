"""The session's work, one job at a time, off the main thread; what it yields comes back on the main thread."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sofa_engine.errors import CancelledError, SofaError
from sofa_engine.progress import CancelToken
from sofa_engine.types import SubRegion
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.scheduler import Scheduler


class Kind(Enum):
    """What a job is for, which decides what may replace it."""

    OPEN = "open"
    REFINE = "refine"
    HISTORY = "history"
    EDIT = "edit"
    PREVIEW = "preview"
    INSIGHTS = "insights"


#: Jobs that change the session's state; the others may be dropped at any time.
CHANGING = frozenset({Kind.OPEN, Kind.REFINE, Kind.HISTORY, Kind.EDIT})


def _nothing(*_: Any) -> None:
    pass


@dataclass
class Job:
    """One piece of work for the session.

    Attributes:
        kind: what it is for.
        work: runs in the background; takes the job's cancel token and a function that hands an intermediate result to
            `onItem`; returns the result.
        subRegion: which sub-region it computes, where it computes one.
        onItem: called on the main thread with every intermediate result.
        onDone: called on the main thread with the result.
        onFailed: called on the main thread with the `SofaError`, `CancelledError` among them.
        onUnwanted: called on the main thread with a result that came after the job was abandoned, to free it.
        cancel: set to stop the work at its next batch.
    """

    kind: Kind
    work: Callable[[CancelToken, Callable[[Any], None]], Any]
    subRegion: SubRegion | None = None
    onItem: Callable[[Any], None] = _nothing
    onDone: Callable[[Any], None] = _nothing
    onFailed: Callable[[SofaError], None] = _nothing
    onUnwanted: Callable[[Any], None] = _nothing
    cancel: CancelToken = field(default_factory=CancelToken)


class JobQueue:
    """Runs jobs in the order of submission; jobs that have been overtaken are dropped or cancelled."""

    def __init__(self, scheduler: Scheduler, onIdle: Callable[[], None] = _nothing) -> None:
        self._scheduler = scheduler
        self._onIdle = onIdle
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None

    def submit(self, job: Job) -> None:
        """Append a job."""
        self._waiting.append(job)
        self._startNext()

    def has(self, kinds: Collection[Kind]) -> bool:
        """Whether a job of one of these kinds is running or waiting."""
        jobs = [*self._waiting, *([self._running] if self._running else [])]
        return any(job.kind in kinds for job in jobs)

    def overtake(self, kinds: Collection[Kind], subRegion: SubRegion | None = None) -> None:
        """Drop what waits, without a word, and cancel what runs of these kinds, for one sub-region or all (None)."""

        def overtaken(job: Job) -> bool:
            return job.kind in kinds and (subRegion is None or job.subRegion is subRegion)

        self._waiting = deque(job for job in self._waiting if not overtaken(job))
        if self._running is not None and overtaken(self._running):
            self._running.cancel.cancel()

    def cancelAll(self) -> None:
        """Cancel everything; who submitted a job hears of it through `onFailed`."""
        waiting, self._waiting = self._waiting, deque()
        if self._running is not None:
            self._running.cancel.cancel()
        for job in waiting:
            job.onFailed(CancelledError())

    def abandon(self) -> None:
        """Drop everything; nothing of it will be heard of again."""
        self._waiting.clear()
        if self._running is not None:
            self._running.cancel.cancel()
            self._running.onItem = self._running.onFailed = _nothing
            self._running.onDone = self._running.onUnwanted

    def _startNext(self) -> None:
        if self._running is None and self._waiting:
            job = self._running = self._waiting.popleft()
            self._scheduler.runInBackground(lambda: self._run(job))

    def _run(self, job: Job) -> None:
        """Run in the background; everything that it learns is posted to the main thread."""
        try:
            job.cancel.check()
            result = job.work(job.cancel, lambda item: self._scheduler.post(lambda: job.onItem(item)))
        except SofaError as error:
            self._scheduler.post(lambda error=error: self._finish(job, lambda: job.onFailed(error)))
        except Exception as error:
            logging.exception("SOFA: a job failed unexpectedly")
            self._scheduler.post(lambda error=error: self._finish(job, lambda: job.onFailed(unforeseen(error))))
        else:
            self._scheduler.post(lambda: self._finish(job, lambda: job.onDone(result)))

    def _finish(self, job: Job, tell: Callable[[], None]) -> None:
        if self._running is job:
            self._running = None
        try:
            tell()
        finally:
            self._startNext()
            if self._running is None:
                self._onIdle()


def unforeseen(error: Exception) -> SofaError:
    """Say so in a sentence; called on the main thread, since Qt is not asked for translations from others."""
    return SofaError(_("Something went wrong inside SOFA ({error}); the log has the details.").format(error=error))


def wasCancelled(error: SofaError) -> bool:
    """Whether a job ended because it was told to, which is nothing to bother the user with."""
    return isinstance(error, CancelledError)
