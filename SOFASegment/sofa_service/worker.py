"""The one thread that computes on a device: fair between sessions, newest request of a session first.

A job is a generator; the worker takes one step of it at a time and goes round the sessions, so that a drag in one
session waits for one batch of another and not for its whole refinement. A long job (first pass, waking) offers turns
to the others between its batches.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from sofa_engine.errors import CancelledError, OutOfMemoryError, SofaError
from sofa_engine.progress import CancelToken
from sofa_engine.types import SubRegion
from sofa_service.errors import ServiceError
from sofa_service.protocol import Timing

_LOG = logging.getLogger(__name__)
#: How long nobody must have asked for anything before idle time is used: a drag is never more than this apart.
_QUIET_S = 1.0
#: How long quick jobs may keep a long one waiting between two of its batches: a drag fits, a flood of them does not.
_VISIT_S = 0.25


class JobKind(Enum):
    """What a job does, which decides what it replaces."""

    OPEN = auto()
    WAKE = auto()
    FIRST_PASS = auto()
    PREVIEW = auto()
    REFINE = auto()
    CALL = auto()

    @property
    def long(self) -> bool:
        """Whether the job may take so long that others are let in between its batches."""
        return self in {JobKind.OPEN, JobKind.WAKE, JobKind.FIRST_PASS}


Steps = Generator[Any, None, Any]


@dataclass(eq=False)
class Job:
    """One request.

    Attributes:
        key: the session that it belongs to.
        steps: makes the generator whose every item goes to `emit` and whose return value is the answer. Closing it
            early must leave the session as it was.
        emit: told every item, from the worker's thread.
        finish: told the answer or the error once, from the worker's thread.
        generation: the client's number of the request.
        sub_region: what a refinement is about.
        queue_s: waited for its turns; compute_s: what they took.
    """

    key: str
    kind: JobKind
    steps: Callable[[Job], Steps]
    finish: Callable[[Any, SofaError | None], None]
    emit: Callable[[Any], None] = lambda _: None
    generation: int = 0
    sub_region: SubRegion | None = None
    cancel: CancelToken = field(default_factory=CancelToken)
    superseded: bool = False
    waiting_since: float = field(default_factory=time.perf_counter)
    queue_s: float = 0.0
    compute_s: float = 0.0
    _running: Steps | None = None

    def replaces(self, older: Job) -> bool:
        """Whether this newer request of the same session makes the older one pointless."""
        match self.kind:
            case JobKind.FIRST_PASS:
                return older.kind in {JobKind.FIRST_PASS, JobKind.PREVIEW, JobKind.REFINE}
            case JobKind.REFINE:
                return older.kind is JobKind.PREVIEW or (
                    older.kind is JobKind.REFINE and older.sub_region is self.sub_region
                )
            case JobKind.PREVIEW:
                return older.kind is JobKind.PREVIEW
            case _:
                return False

    def timing(self, encode_s: float = 0.0) -> Timing:
        """Return where the time went so far."""
        return Timing(queue_ms=self.queue_s * 1e3, compute_ms=self.compute_s * 1e3, encode_ms=encode_s * 1e3)


class Worker:
    """Runs jobs on one thread; all methods may be called from any thread."""

    def __init__(self, name: str = "sofa-worker") -> None:
        self._queues: OrderedDict[str, deque[Job]] = OrderedDict()
        self._condition = threading.Condition()
        self._active: list[Job] = []
        self._stopping = False
        self._idle_work: Callable[[], bool] = lambda: False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def use_idle_time(self, work: Callable[[], bool]) -> None:
        """Call `work` again and again while nobody asks for anything, until it returns False and after every job.

        It should be over soon, for a job that comes meanwhile waits for it.
        """
        with self._condition:
            self._idle_work = work
            self._condition.notify()

    def submit(self, job: Job, *, before: Job | None = None) -> None:
        """Queue a job behind the others of its session, `before` (the waking it depends on) just ahead of it."""
        with self._condition:
            if self._stopping:
                raise ServiceError("The engine is shutting down; start it again.")
            queue = self._queues.setdefault(job.key, deque())
            for older in queue:
                if job.replaces(older):
                    older.superseded = True
                    older.cancel.cancel()
            queue.extend(j for j in (before, job) if j is not None)
            self._condition.notify()

    def jobs(self, key: str) -> tuple[Job, ...]:
        """Return the unfinished jobs of a session, the running one first."""
        with self._condition:
            return tuple(self._queues.get(key, ()))

    def count(self) -> int:
        """Return how many jobs are unfinished."""
        with self._condition:
            return sum(map(len, self._queues.values()))

    def stop(self) -> None:
        """Cancel everything and end the thread."""
        with self._condition:
            self._stopping = True
            for job in itertools.chain.from_iterable(self._queues.values()):
                job.cancel.cancel()
            self._condition.notify()
        self._thread.join(timeout=10)

    def let_others_run(self) -> None:
        """Work on the quick jobs of other sessions for a short while; called by a long job between two batches."""
        if threading.current_thread() is not self._thread or len(self._active) > 1:
            return
        busy = {job.key for job in self._active}
        deadline = time.perf_counter() + _VISIT_S
        while time.perf_counter() < deadline:
            with self._condition:
                waiting = [q[0] for key, q in self._queues.items() if key not in busy and not q[0].kind.long]
            if not waiting:
                return
            for job in waiting:
                self._turn(job)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._turn(job)

    def _next(self) -> Job | None:
        quiet_s: float | None = _QUIET_S
        while True:
            with self._condition:
                called = self._condition.wait_for(lambda: self._queues or self._stopping, quiet_s)
                if self._queues:
                    key = next(iter(self._queues))
                    self._queues.move_to_end(key)
                    return self._queues[key][0]
                if called:
                    return None
            quiet_s = 0.0 if self._use_idle_time() else None

    def _use_idle_time(self) -> bool:
        """Return whether there is more to do in idle time."""
        try:
            return self._idle_work()
        except SofaError as error:
            _LOG.warning("Nothing is computed ahead any more: %s", error)
        except Exception:
            _LOG.exception("Computing ahead failed unexpectedly")
        return False

    def _turn(self, job: Job) -> None:
        self._active.append(job)
        start = time.perf_counter()
        job.queue_s += start - job.waiting_since
        result: Any = None
        error: SofaError | None = None
        finished = True
        try:
            job.cancel.check()
            if job._running is None:
                job._running = job.steps(job)
            item = next(job._running)
            finished = False
        except StopIteration as stop:
            result = stop.value
        except CancelledError:
            error = CancelledError("A newer request took its place." if job.superseded else "Cancelled.")
        except SofaError as exc:
            error = exc
        except MemoryError:
            error = OutOfMemoryError("The engine ran out of memory; close other cases or use a machine with more.")
        except Exception as exc:
            _LOG.exception("A job failed unexpectedly")
            error = ServiceError(f"The engine failed unexpectedly ({type(exc).__name__}); its log says where.")
        finally:
            self._active.remove(job)
            job.waiting_since = time.perf_counter()
            job.compute_s += job.waiting_since - start
        if finished:
            self._end(job, result, error)
        else:
            job.emit(item)

    def _end(self, job: Job, result: Any, error: SofaError | None) -> None:
        if job._running is not None:
            job._running.close()
        with self._condition:
            queue = self._queues[job.key]
            queue.remove(job)
            if not queue:
                del self._queues[job.key]
        job.finish(result, error)
