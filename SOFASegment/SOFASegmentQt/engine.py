"""The engine that cases are opened on: a process beside Slicer, or a server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from sofa_engine.progress import CancelToken, Progress, ProgressCallback
from SOFASegmentQt.settings import EngineSettings

if TYPE_CHECKING:
    from sofa_engine.api import Session
    from sofa_engine.case import Case


class EngineLink:
    """Keeps one engine for the module and starts it when the first case is opened.

    `openSession`, `restart` and `close` may take seconds and are called in the background; `configure` returns at once.
    """

    def __init__(self, startingText: str = "Starting the engine", **options: object) -> None:
        """Start nothing yet.

        Args:
            startingText: what the progress says meanwhile, already translated: Qt is not asked from other threads.
            options: further options of a local engine, see `sofa_service.launcher.LocalEngine`.
        """
        self._startingText = startingText
        self._options = options
        self._settings = EngineSettings()
        self._started: tuple[object, ...] | None = None
        self._local: Any = None
        # Every engine on this computer that was made: a case that could not be replaced brings its own back.
        self._locals: list[Any] = []
        self._remote: Any = None
        # Every server that was spoken to, by what it was reached with: a case that could not be replaced lives there.
        self._remotes: dict[tuple[object, ...], Any] = {}
        self._lock = threading.RLock()

    @property
    def running(self) -> bool:
        """Whether an engine is there now; False after its process died."""
        return self._remote is not None or any(engine.alive for engine in self._locals)

    def configure(self, settings: EngineSettings) -> None:
        """Use these settings for the next case."""
        self._settings = settings

    def setup(self) -> tuple[object, ...]:
        """Return what the next case is opened with, see `EngineSettings.setup`."""
        return self._settings.setup

    def openSession(self, case: Case, progress: ProgressCallback, cancel: CancelToken) -> Session:
        """Start or reach the engine and hand the case over.

        Raises:
            SofaError: the engine does not start or cannot be reached.
            CancelledError: the user gave up waiting.
        """
        progress(Progress(self._startingText, 0.0))
        return self._client(cancel).open(case, cancel=cancel)

    def restart(self) -> None:
        """End the engine; the next question starts it again and brings its sessions back to where they were."""
        with self._lock:
            self._stop()

    def close(self) -> None:
        """End the engine for good."""
        with self._lock:
            self._leave()
            for remote in self._remotes.values():
                remote.close()
            self._remotes.clear()

    def _leave(self) -> None:
        """Turn to another engine; what is open on the old one can still be gone on with."""
        self._stop()
        self._local = self._remote = self._started = None

    def _stop(self) -> None:
        for engine in self._locals:
            engine.stop()

    def _client(self, cancel: CancelToken) -> Any:
        # Imported here: the packages that these modules need are installed when the user first segments.
        from sofa_service.client import EngineClient
        from sofa_service.launcher import LocalEngine

        with self._lock:
            settings, setup = self._settings, self._settings.setup
            if setup != self._started:
                self._leave()
            if settings.remote:
                if setup not in self._remotes:
                    self._remotes[setup] = EngineClient(settings.url, settings.token)
                self._remote, self._started = self._remotes[setup], setup
                return self._remote
            if self._local is None:
                self._local = LocalEngine(
                    device=settings.device.value, weights=settings.weights or None, **self._options
                )
                self._locals.append(self._local)
            self._started = setup
            self._local.start(cancel)
            return self._local.client()
