"""The visitors' processes: one scene each, started when somebody comes and ended when nobody uses it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from sofa_engine.errors import SofaError
from sofa_service.config import ParentProcess
from sofa_web.config import VISITOR_VARIABLE, ViewConfig, VisitorConfig

_START_S = 300.0
_POLL_S = 0.05
_TERMINATE_S = 3.0
_WATCH_S = 1.0

#: VTK warns of much that is no fault (no X server, renamed events): shown only where a process fails.
_LOG = "visitor.log"
_LOG_TAIL = 3000

_log = logging.getLogger(__name__)


class FullError(SofaError):
    """As many scenes are open as the operator allows."""


class Ending(Enum):
    """Why a visitor's scene is no more, in words for the visitor."""

    IDLE = "This session ended because it was not used for a while. Results that were not exported are gone."
    GIVEN_AWAY = (
        "This session ended because its page had been closed for a while and somebody else needed the place. "
        "Results that were not exported are gone."
    )
    CRASHED = "This session ended unexpectedly. Results that were not exported are gone."
    UNKNOWN = "There is no such session; it may have ended."


@dataclass
class Visitor:
    """One process with one scene.

    Attributes:
        id: part of the address, and too long to be guessed.
        secret: what the process wants to see in every request.
        used: when the visitor last did something (`time.monotonic`).
        pages: how many open pages show the scene.
    """

    id: str
    process: asyncio.subprocess.Process
    secret: str
    scratch: Path
    port: int = 0
    used: float = field(default_factory=time.monotonic)
    pages: int = 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.returncode is None

    def touch(self) -> None:
        """Note that the visitor is there."""
        self.used = time.monotonic()

    @contextlib.contextmanager
    def page(self) -> Iterator[None]:
        """Note that a page is open; its end counts as use, so that a reload or a short break costs nothing."""
        self.pages += 1
        try:
            yield
        finally:
            self.pages -= 1
            self.touch()


class Visitors:
    """Starts, finds and ends visitors' processes."""

    def __init__(self, config: ViewConfig, folder: Path, engine_file: Path) -> None:
        """Start nothing yet; `folder` is private and takes the visitors' files."""
        self._config = config
        self._folder = folder
        self._engine_file = engine_file
        self._open: dict[str, Visitor] = {}
        self._ended: dict[str, Ending] = {}
        self._starting = 0

    async def admit(self) -> Visitor:
        """Start a process with an empty scene, or with the operator's case.

        Where all places are taken, one whose page was closed a while ago is given away.

        Raises:
            FullError: too many are open.
            SofaError: the process does not start.
        """
        left = None
        if len(self._open) + self._starting >= self._config.max_visitors:
            left = self._longest_left()
            if left is None:
                raise FullError(self._full_sentence())
            # Out at once: a second visitor who comes meanwhile must not be given the same place.
            self._forget(left, Ending.GIVEN_AWAY)
        self._starting += 1
        try:
            if left is not None:
                await _stop(left)
            visitor = await self._start()
        finally:
            self._starting -= 1
        self._open[visitor.id] = visitor
        return visitor

    def find(self, visitor_id: str) -> Visitor | None:
        """Return a visitor whose process runs."""
        visitor = self._open.get(visitor_id)
        return visitor if visitor is not None and visitor.alive else None

    def ending(self, visitor_id: str) -> Ending:
        """Say why a visitor is not there."""
        if visitor_id in self._open:
            return Ending.CRASHED
        return self._ended.get(visitor_id, Ending.UNKNOWN)

    async def watch(self) -> None:
        """End those who left; runs until it is cancelled."""
        while True:
            await asyncio.sleep(_WATCH_S)
            patience = 60 * self._config.idle_minutes
            for visitor in list(self._open.values()):
                if not visitor.alive:
                    _log.error(
                        "A visitor's process ended with code %s:\n%s", visitor.process.returncode, _log_tail(visitor)
                    )
                    await self._end(visitor, Ending.CRASHED)
                elif patience and time.monotonic() - visitor.used > patience:
                    await self._end(visitor, Ending.IDLE)

    async def close(self) -> None:
        """End all."""
        await asyncio.gather(*(self._end(visitor, Ending.UNKNOWN) for visitor in list(self._open.values())))

    async def _start(self) -> Visitor:
        scratch = Path(tempfile.mkdtemp(prefix="visitor-", dir=self._folder))
        config = VisitorConfig(
            secret=secrets.token_urlsafe(24),
            scratch=scratch,
            ready_file=scratch / "ready",
            engine_file=self._engine_file,
            parent=ParentProcess.this(),
            case=self._config.case,
            folder=self._config.folder or self._config.case,
        )
        package = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part)
        log = (scratch / _LOG).open("wb")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sofa_web.visitor",
            env={**os.environ, VISITOR_VARIABLE: config.model_dump_json(), "PYTHONPATH": path},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
        )
        log.close()
        visitor = Visitor(secrets.token_urlsafe(16), process, config.secret, scratch)
        try:
            visitor.port = await _await_port(visitor, config.ready_file)
        except BaseException:
            await _stop(visitor)
            raise
        visitor.touch()
        return visitor

    def _longest_left(self) -> Visitor | None:
        """Return the visitor whose last page was closed first, if that is long enough ago."""
        latest = time.monotonic() - 60 * self._config.away_minutes
        left = [visitor for visitor in self._open.values() if not visitor.pages and visitor.used <= latest]
        return min(left, key=lambda visitor: visitor.used, default=None)

    def _full_sentence(self) -> str:
        sentence = (
            "All places on this server are taken; one is free again "
            f"{_minutes(self._config.away_minutes)} after somebody closed the page"
        )
        if self._config.idle_minutes:
            sentence += f", or after {_minutes(self._config.idle_minutes)} without use"
        return sentence + "."

    async def _end(self, visitor: Visitor, why: Ending) -> None:
        self._forget(visitor, why)
        await _stop(visitor)

    def _forget(self, visitor: Visitor, why: Ending) -> None:
        self._open.pop(visitor.id, None)
        self._ended[visitor.id] = why


async def _await_port(visitor: Visitor, ready_file: Path) -> int:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if not visitor.alive:
            _log.error("A visitor's process did not start:\n%s", _log_tail(visitor))
            raise SofaError("The views could not be started; the server's log says why.")
        if ready_file.is_file():
            return int(ready_file.read_text(encoding="utf-8"))
        await asyncio.sleep(_POLL_S)
    raise SofaError("The views did not start in time; try again.")


def _minutes(number: float) -> str:
    return f"{number:g} minute{'' if number == 1 else 's'}"


def _log_tail(visitor: Visitor) -> str:
    path = visitor.scratch / _LOG
    return path.read_text(errors="replace")[-_LOG_TAIL:] if path.is_file() else ""


async def _stop(visitor: Visitor) -> None:
    if visitor.alive:
        visitor.process.terminate()
        try:
            await asyncio.wait_for(visitor.process.wait(), _TERMINATE_S)
        except TimeoutError:
            visitor.process.kill()
            await visitor.process.wait()
    shutil.rmtree(visitor.scratch, ignore_errors=True)
