"""Asking a run to stop after its current iteration, with a checkpoint: by signal, or by a file from another program."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType

#: Whoever makes this file in a run's folder asks it to stop; the way for systems without signals.
STOP_FILE = "stop"


class StopRequest:
    """Context in which SIGINT, SIGTERM and the stop file are requests; a second signal ends the process as usual."""

    def __init__(self, folder: Path) -> None:
        """Watch for `folder`/stop; a file of an earlier request is removed."""
        self._file = folder / STOP_FILE
        self._signalled = False
        self._previous: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        """Whether the run was asked to stop."""
        return self._signalled or self._file.exists()

    def __enter__(self) -> StopRequest:
        """Take over the signals, in the main thread."""
        self._file.unlink(missing_ok=True)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        self._give_back()
        self._file.unlink(missing_ok=True)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()
