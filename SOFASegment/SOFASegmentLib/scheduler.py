"""When things run: the only way in which this package waits or leaves the main thread."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

Function = Callable[[], object]


class Timer(Protocol):
    """A call that has been put off."""

    def cancel(self) -> None:
        """Never make the call; harmless once it was made."""


class Scheduler(Protocol):
    """What a face lends to this package: QTimer and a thread in Slicer, asyncio in the browser face."""

    def callLater(self, milliseconds: int, function: Function) -> Timer:
        """Call `function` once on the main thread after so many milliseconds. Called on the main thread only."""

    def post(self, function: Function) -> None:
        """Call `function` soon on the main thread, in the order of posting. May be called on any thread."""

    def runInBackground(self, work: Function) -> None:
        """Run `work` off the main thread, one piece of work at a time, in order. `work` never raises."""


class BackgroundThread:
    """One daemon thread that runs what it is given, in order.

    One thread and not a pool: cuDNN's caches live per thread, and a session answers one question at a time.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Function | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="SOFA", daemon=True)
        self._thread.start()

    def run(self, work: Function) -> None:
        """Append `work`; returns at once."""
        self._work.put(work)

    def stop(self) -> None:
        """End the thread when the work so far is done; returns at once."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:
                # What fails against its promise must not take what waits behind it along.
                logging.exception("SOFA: a piece of background work failed")


class _QueuedCall:
    def __init__(self, function: Function) -> None:
        self.function: Function | None = function

    def cancel(self) -> None:
        self.function = None


class ManualScheduler:
    """A scheduler without threads or clocks: `drain` runs everything that is waiting, in order, at once.

    For scripts in the Python console, for self tests, and for tests that want to decide what runs when. What `drain`
    runs may schedule more; timers run after everything that was posted before they are due to run.
    """

    def __init__(self) -> None:
        self._waiting: deque[_QueuedCall] = deque()
        self._timers: deque[_QueuedCall] = deque()

    def callLater(self, milliseconds: int, function: Function) -> Timer:
        """Queue `function` behind all that is posted; the time does not matter here."""
        call = _QueuedCall(function)
        self._timers.append(call)
        return call

    def post(self, function: Function) -> None:
        """Queue `function`."""
        self._waiting.append(_QueuedCall(function))

    def runInBackground(self, work: Function) -> None:
        """Queue `work` like everything else."""
        self._waiting.append(_QueuedCall(work))

    def step(self) -> bool:
        """Run the next call that is waiting; False if there is none."""
        while self._waiting or self._timers:
            call = (self._waiting or self._timers).popleft()
            if call.function is not None:
                call.function()
                return True
        return False

    def drain(self) -> None:
        """Run until nothing is waiting any more."""
        while self.step():
            pass
