"""Several engine processes behind one address, one per GPU of the machine; the same program, the same protocol.

A session stays with the worker that opened it, whose number begins its id. A worker that dies is started again; its
sessions are gone then, which their clients answer by opening them again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.middleware import Middleware

from sofa_engine import __version__
from sofa_engine.errors import SofaError
from sofa_service.api_page import add_api_page
from sofa_service.config import ServeConfig
from sofa_service.errors import BusyError, EngineUnreachableError, SessionGoneError
from sofa_service.guard import Guard, error_response
from sofa_service.launcher import LocalEngine
from sofa_service.protocol import PROTOCOL_HEADER, Status
from sofa_service.routes import add_service

_PASSED = ("content-type", "content-length", "accept", PROTOCOL_HEADER.lower())
_RETURNED = ("content-type", "cache-control", "x-accel-buffering")
#: What a worker is not told: how the front is reached and by whom, how many workers it has, and who started it.
_OF_THE_FRONT = frozenset(
    {"host", "port", "token", "certfile", "keyfile", "behind_proxy", "ready_file", "parent", "workers"}
)
_TIMEOUT = httpx.Timeout(10.0, read=600.0)


@dataclass
class _Worker:
    """One engine process and the way to it."""

    number: int
    engine: LocalEngine
    http: httpx.AsyncClient

    def call(self, request: Request) -> httpx.Request:
        """Return the request as this worker is to get it."""
        headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
        headers["Authorization"] = f"Bearer {self.engine.token}"
        return self.http.build_request(
            request.method,
            self.engine.url + request.url.path,
            params=request.query_params,
            headers=headers,
            content=request.stream(),
        )


class Front:
    """Starts the workers and hands every request to the right one."""

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._began = time.monotonic()
        self._reviving = asyncio.Lock()
        self._workers = [
            _Worker(i, _engine(config, i), httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False))
            for i in range(config.workers)
        ]

    def start(self) -> None:
        """Start all workers at once.

        Raises:
            StartError: one of them did not start; none is left running.
        """
        try:
            with ThreadPoolExecutor(len(self._workers)) as pool:
                list(pool.map(lambda worker: worker.engine.start(), self._workers))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.engine.stop()

    async def open(self, request: Request) -> Response:
        """Open a case on the worker that has least to do."""
        statuses = await self._statuses()
        living = [(s.queued, s.memory_mb, worker) for worker, s in statuses if s is not None]
        if not living:
            await self._revive_all()
            raise BusyError("The engine's workers are being started again; try again in a moment.")
        _, _, worker = min(living, key=lambda entry: entry[:2])
        return await self._pass_on(worker, request)

    async def to_owner(self, key: str, request: Request) -> Response:
        """Pass a request on to the worker that holds the session."""
        number, _, rest = key.partition("-")
        if not rest or not number.isdigit() or int(number) >= len(self._workers):
            raise SessionGoneError("The engine does not know this session. Open the case again.")
        return await self._pass_on(self._workers[int(number)], request)

    async def status(self) -> Status:
        """Add up what the workers tell."""
        statuses = await self._statuses()
        known = [s for _, s in statuses if s is not None]
        return Status(
            version=__version__,
            uptime_s=round(time.monotonic() - self._began, 1),
            device=self._config.device,
            memory_mb=sum(s.memory_mb for s in known),
            budget_mb=sum(s.budget_mb for s in known),
            process_mb=(psutil.Process().memory_info().rss >> 20) + sum(s.process_mb for s in known),
            queued=sum(s.queued for s in known),
            sessions=tuple(session for s in known for session in s.sessions),
            workers=tuple(
                {"number": w.number, "alive": s is not None, "sessions": len(s.sessions) if s else 0}
                for w, s in statuses
            ),
        )

    async def _statuses(self) -> list[tuple[_Worker, Status | None]]:
        async def ask(worker: _Worker) -> Status | None:
            try:
                response = await worker.http.get(
                    f"{worker.engine.url}/v1/status", headers={"Authorization": f"Bearer {worker.engine.token}"}
                )
                return Status.model_validate_json(response.content)
            except (httpx.HTTPError, ValueError):
                return None

        answers = await asyncio.gather(*(ask(worker) for worker in self._workers))
        return list(zip(self._workers, answers, strict=True))

    async def _pass_on(self, worker: _Worker, request: Request) -> Response:
        try:
            answer = await worker.http.send(worker.call(request), stream=True)
        except httpx.TransportError:
            if worker.engine.alive:
                raise EngineUnreachableError("The engine's worker does not answer; try again.") from None
            await self._revive_all()
            raise SessionGoneError("The worker of this session had ended. Open the case again.") from None
        headers = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}
        return StreamingResponse(_body(answer), answer.status_code, headers)

    async def _revive_all(self) -> None:
        async with self._reviving:
            for worker in self._workers:
                if not worker.engine.alive:
                    await asyncio.to_thread(worker.engine.restart)


def build_front(config: ServeConfig) -> FastAPI:
    """Start the workers and return the application in front of them.

    Raises:
        StartError: a worker did not start.
    """
    front = Front(config)
    front.start()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(front.stop)

    app = FastAPI(
        title="SOFA engine",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        middleware=[Middleware(Guard, token=config.token, message_bytes=config.limits.message_bytes)],
    )
    add_api_page(app)
    add_service(app.router, front.status)

    @app.post("/v1/sessions")
    async def open_session(request: Request) -> Response:
        """Open a case on the least busy worker."""
        return await front.open(request)

    @app.api_route("/v1/sessions/{key}", methods=["DELETE"])
    @app.api_route("/v1/sessions/{key}/{verb:path}", methods=["GET", "POST"])
    async def to_owner(key: str, request: Request) -> Response:
        """Any verb of a session, as one engine describes it."""
        return await front.to_owner(key, request)

    async def on_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, SofaError)
        return error_response(error)

    app.add_exception_handler(SofaError, on_error)
    return app


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Hand bytes on as they come; a client that vanishes closes the worker's stream, which ends the work there."""
    try:
        async for data in answer.aiter_raw():
            yield data
    finally:
        await answer.aclose()


def _engine(config: ServeConfig, number: int) -> LocalEngine:
    """Return a worker's engine: all of the front's options, but those that are the front's alone or shared out."""
    options = {name: getattr(config, name) for name in ServeConfig.model_fields if name not in _OF_THE_FRONT}
    if config.budget_mb:
        options["budget_mb"] = config.budget_mb // config.workers
    return LocalEngine(
        environment=_environment(config, number), **options | {"share": config.workers, "key_prefix": f"{number}-"}
    )


def _environment(config: ServeConfig, number: int) -> Mapping[str, str]:
    """Show each worker one GPU, so that "auto" and "cuda" mean that one."""
    if config.device not in {"auto", "cuda"}:
        return {}
    given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    present = given or [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    return {"CUDA_VISIBLE_DEVICES": present[number % len(present)]} if present else {}
