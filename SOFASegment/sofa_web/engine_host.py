"""One engine for all visitors: the gateway keeps it alive and writes its address where visitors look for it."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from sofa_engine.errors import SofaError

if TYPE_CHECKING:
    from sofa_service.launcher import LocalEngine
    from sofa_web.config import ViewConfig

_WATCH_S = 0.5
#: An engine that dies at once is not started again and again without pause.
_RETRY_S = 5.0

_log = logging.getLogger(__name__)


class EngineAddress(BaseModel):
    """Where the engine is, or why there is none.

    Attributes:
        url: address; empty while it starts.
        local: whether the gateway starts it again after its death.
        error: one sentence, where it could not be started.
    """

    url: str = ""
    token: str = Field(default="", repr=False)
    local: bool = True
    error: str = ""

    def write(self, path: Path) -> None:
        """Write for the visitors' eyes only, whole or not at all."""
        part = path.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self.model_dump_json())
        part.replace(path)

    @staticmethod
    def read(path: Path) -> EngineAddress:
        """Read what was last written."""
        return EngineAddress.model_validate_json(path.read_text(encoding="utf-8"))


class EngineHost:
    """Starts the engine, and starts it again when it died."""

    def __init__(self, config: ViewConfig, file: Path) -> None:
        """Announce an engine that runs already, or that there will be one."""
        self.file = file
        self._config = config
        self._engine: LocalEngine | None = None
        self._task: asyncio.Task[None] | None = None
        if config.engine_url:
            EngineAddress(url=config.engine_url, token=config.engine_token, local=False).write(file)
        else:
            EngineAddress().write(file)

    def start(self) -> None:
        """Start the engine in the background, unless it is another's."""
        if not self._config.engine_url:
            self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End the engine."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._engine is not None:
            await asyncio.to_thread(self._engine.stop)

    async def _watch(self) -> None:
        from sofa_service.launcher import LocalEngine  # noqa: PLC0415  (needs no engine where another's is used)

        config = self._config
        self._engine = engine = LocalEngine(
            device=config.device, weights=config.weights, factory=config.factory, idle_minutes=config.idle_minutes
        )
        while True:
            if not engine.alive:
                try:
                    await asyncio.to_thread(engine.restart)
                    EngineAddress(url=engine.url, token=engine.token).write(self.file)
                except SofaError as error:
                    _log.error("%s", error)
                    EngineAddress(error=str(error)).write(self.file)
                    await asyncio.sleep(_RETRY_S)
            await asyncio.sleep(_WATCH_S)
