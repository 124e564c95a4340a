"""SOFASegmentLib's `Scheduler` on the event loop of the page's server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from trame_server.utils.asynchronous import get_event_loop

from SOFASegmentLib import BackgroundThread

if TYPE_CHECKING:
    from trame_server.state import State

    from SOFASegmentLib.scheduler import Function


class AsyncioScheduler:
    """The main thread is the one that runs the event loop; what a call changes in the page is sent when it returns."""

    def __init__(self, state: State) -> None:
        """Run on the event loop of this thread."""
        self._state = state
        self._loop = get_event_loop()
        self._thread = BackgroundThread()

    def callLater(self, milliseconds: int, function: Function) -> asyncio.TimerHandle:  # noqa: N802
        """See `Scheduler.callLater`."""
        return self._loop.call_later(milliseconds / 1000, self._call, function)

    def post(self, function: Function) -> None:
        """See `Scheduler.post`."""
        self._loop.call_soon_threadsafe(self._call, function)

    def runInBackground(self, work: Function) -> None:  # noqa: N802
        """See `Scheduler.runInBackground`."""
        self._thread.run(work)

    def _call(self, function: Function) -> None:
        with self._state:
            function()
