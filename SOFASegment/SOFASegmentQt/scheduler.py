"""The `Scheduler` of `SOFASegmentLib` in Slicer: QTimer for later, one thread for the background."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

import qt
from SOFASegmentLib.scheduler import BackgroundThread, Function

#: A background thread must not touch Qt, so the main thread looks for its messages: this often, while it works.
_LOOK_MS = 10


class QtTimer:
    """One call that is due later."""

    def __init__(self, milliseconds: int, function: Function, forget: Callable[[QtTimer], None]) -> None:
        self._function = function
        self._forget = forget
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._call)
        self._timer.start(milliseconds)

    def cancel(self) -> None:
        """Never make the call."""
        self._timer.stop()
        self._timer.disconnect("timeout()", self._call)
        self._forget(self)

    def _call(self) -> None:
        self._timer.disconnect("timeout()", self._call)
        self._forget(self)
        self._function()


class QtScheduler:
    """Calls on Slicer's main thread through its event loop; background work in one thread, in order."""

    def __init__(self) -> None:
        self._thread = BackgroundThread()
        self._posted: queue.SimpleQueue[Function] = queue.SimpleQueue()
        self._working = 0
        self._timers: set[QtTimer] = set()
        self._look = qt.QTimer()
        self._look.interval = _LOOK_MS
        self._look.connect("timeout()", self._deliver)

    def callLater(self, milliseconds: int, function: Function) -> QtTimer:
        """Call `function` once on the main thread after so many milliseconds."""
        timer = QtTimer(milliseconds, function, self._timers.discard)
        # PythonQt would delete a timer that nothing refers to.
        self._timers.add(timer)
        return timer

    def post(self, function: Function) -> None:
        """Call `function` soon on the main thread; may be called on any thread while background work runs."""
        self._posted.put(function)
        if self._working == 0 and not self._look.active:
            self._look.start()

    def runInBackground(self, work: Function) -> None:
        """Run `work` off the main thread, after what was given before."""
        self._thread.run(self._announced(work))

    def runBeside(self, work: Function) -> None:
        """Run `work` off the main thread at once, in a thread of its own, so that neither waits for the other.

        For what has nothing to do with the session: it takes long, or it is to end what hangs.
        """
        threading.Thread(target=self._announced(work), name="SOFA beside", daemon=True).start()

    def _announced(self, work: Function) -> Function:
        """Look for messages until `work` has run; returns what to run."""
        self._working += 1
        if not self._look.active:
            self._look.start()

        def run() -> None:
            try:
                work()
            finally:
                self._posted.put(self._workEnded)

        return run

    def close(self) -> None:
        """Deliver nothing any more; the thread ends with its current work."""
        self._look.stop()
        self._look.disconnect("timeout()", self._deliver)
        for timer in tuple(self._timers):
            timer.cancel()
        self._thread.stop()

    def _workEnded(self) -> None:
        self._working -= 1

    def _deliver(self) -> None:
        for _ in range(self._posted.qsize()):
            try:
                self._posted.get_nowait()()
            except queue.Empty:
                break
            except Exception:
                # One listener's failure must not keep the others' messages from arriving.
                logging.exception("SOFASegment: a message could not be handled")
        if self._working == 0 and self._posted.empty():
            self._look.stop()
