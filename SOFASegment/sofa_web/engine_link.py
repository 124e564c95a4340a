"""A visitor's way to the engine that its gateway keeps."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from weakref import WeakSet

from sofa_engine.api import Session
from sofa_engine.case import Case
from sofa_engine.errors import SofaError
from sofa_engine.progress import CancelToken, Progress, ProgressCallback
from sofa_service.client import EngineClient
from sofa_service.connection import Connection
from sofa_service.errors import EngineLostError, StartError
from sofa_web.engine_host import EngineAddress

_POLL_S = 0.1
_START_S = 180.0


class EngineLink:
    """Opens cases on the engine; `openSession` of `SOFASegmentLib.SegmentController`."""

    def __init__(self, file: Path) -> None:
        """Remember where the engine's address is written; reach for it when the first case is opened."""
        self._file = file
        self._client: EngineClient | None = None
        self._address: EngineAddress | None = None
        self._lock = threading.Lock()
        self._sessions: WeakSet[Session] = WeakSet()

    def open_session(self, case: Case, progress: ProgressCallback, cancel: CancelToken) -> Session:
        """Wait for the engine and hand the case over; called in the background.

        Raises:
            StartError: there is no engine, in the engine's own words.
            CancelledError: the user gave up waiting.
        """
        progress(Progress("Starting the engine", 0.0))
        client = self._reach(cancel)
        progress(Progress("Handing the case over", 0.0))
        session = client.open(case, cancel=cancel)
        self._sessions.add(session)
        return session

    def close(self) -> None:
        """Let the engine free what it keeps for this visitor, and hang up."""
        for session in self._sessions:
            with contextlib.suppress(SofaError):
                session.close()
        if self._client is not None:
            self._client.close()

    def _reach(self, cancel: CancelToken) -> EngineClient:
        """Return a client of the engine that runs now; sessions of an earlier one find their own way back."""
        with self._lock:
            address = self._await_engine(cancel)
            if self._client is None or address != self._address:
                self._client = EngineClient(address.url, address.token, revive=self._revive if address.local else None)
                self._address = address
            return self._client

    def _revive(self) -> tuple[str, str]:
        """Wait for the engine that the gateway starts in place of one that died."""
        address = self._await_engine(CancelToken())
        return address.url, address.token

    def _await_engine(self, cancel: CancelToken) -> EngineAddress:
        """Return the address of an engine that answers; another's engine is not waited for."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            cancel.check()
            address = EngineAddress.read(self._file)
            if address.error:
                raise StartError(address.error)
            if not address.local or (address.url and _answers(address)):
                return address
            time.sleep(_POLL_S)
        raise StartError("The engine did not start in time; try again, or ask whoever runs this server.")


def _answers(address: EngineAddress) -> bool:
    connection = Connection(address.url, address.token)
    try:
        connection.hello()
    except EngineLostError:
        return False
    finally:
        connection.close()
    return True
