"""The engine process: a FastAPI application, its life cycle, and the watch over its parent."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware

from sofa_engine import __version__
from sofa_engine.errors import OutputError, SofaError
from sofa_service.api_page import add_api_page
from sofa_service.config import ServeConfig
from sofa_service.engine import Engine
from sofa_service.errors import MessageError, StartError
from sofa_service.guard import Guard, error_response
from sofa_service.protocol import Status
from sofa_service.routes import build_router
from sofa_service.sessions import SessionStore
from sofa_service.worker import Worker

_LOG = logging.getLogger(__name__)
_WATCH_S = 1.0
_GRACE_S = 5.0
#: Added to the POSIX niceness of an engine of this computer's face: whoever else wants a core gets nine tenths of it.
_POLITE = 10


def build_engine(config: ServeConfig) -> Engine:
    """Wire worker and sessions."""
    worker = Worker()
    store = SessionStore(
        config.load_factory(),
        limits=config.limits,
        budget=(config.budget_mb << 20) if config.budget_mb else _default_budget(config),
        max_spilled=config.max_spilled,
        key_prefix=config.key_prefix,
        is_busy=lambda key: bool(worker.jobs(key)),
    )
    worker.use_idle_time(store.look_ahead)
    return Engine(store, worker)


def build_app(config: ServeConfig, engine: Engine) -> FastAPI:
    """Return the application of one engine."""
    began = time.monotonic()

    def status() -> Status:
        return Status(
            version=__version__,
            uptime_s=round(time.monotonic() - began, 1),
            device=config.device,
            memory_mb=engine.store.memory() >> 20,
            budget_mb=engine.store.budget >> 20,
            process_mb=psutil.Process().memory_info().rss >> 20,
            queued=engine.worker.count(),
            sessions=engine.store.status(lambda key: len(engine.worker.jobs(key))),
        )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        reaper = asyncio.create_task(_evict_idle(engine, config.idle_minutes * 60))
        yield
        reaper.cancel()
        await asyncio.to_thread(engine.stop)

    app = FastAPI(
        title="SOFA engine",
        version=__version__,
        description="Interactive segmentation of brain tumours: open a case, first pass, refine with boxes.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        middleware=[Middleware(Guard, token=config.token, message_bytes=config.limits.message_bytes)],
    )
    add_api_page(app)
    app.include_router(build_router(engine, config.limits, status))
    app.add_exception_handler(SofaError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    return app


def serve(config: ServeConfig, listening: Callable[[str], None] = lambda _: None) -> None:
    """Run an engine until it is told to stop or its parent ends.

    Args:
        config: how.
        listening: told the engine's URL once it can be reached.

    Raises:
        InputError: options that would be unsafe or cannot work.
        StartError: the port is taken.
    """
    config.check()
    if config.parent is not None:
        _give_way()
    if config.workers > 1:
        from sofa_service.front import build_front  # noqa: PLC0415 (only where it is asked for)

        app = build_front(config)
    else:
        app = build_app(config, build_engine(config))
        if "torch" in sys.modules:
            from sofa_engine.runtime import tune_allocator  # noqa: PLC0415 (imports torch)

            tune_allocator()
    run_app(app, config, listening)


def run_app(app: FastAPI, config: ServeConfig, listening: Callable[[str], None]) -> None:
    """Listen with uvicorn; announce the address in the ready file and watch the parent."""
    listener = _bind(config)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            ssl_certfile=config.certfile,
            ssl_keyfile=config.keyfile,
            proxy_headers=config.behind_proxy,
            timeout_keep_alive=120,
            timeout_graceful_shutdown=int(_GRACE_S),
        )
    )
    if config.parent is not None:
        threading.Thread(target=_watch_parent, args=(config, server), daemon=True).start()
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"{config.scheme}://{host}:{listener.getsockname()[1]}"
    if config.ready_file is not None:
        _announce(config.ready_file, {"url": url, "token": config.token, "pid": os.getpid()})
    listening(url)
    try:
        server.run(sockets=[listener])
    finally:
        if config.ready_file is not None:
            config.ready_file.unlink(missing_ok=True)


def _give_way() -> None:
    """Let the face that started this engine, and whatever else is on the screen, have the processor first.

    Computing takes every core; at the same priority a box would jerk along behind the mouse. Called before any thread
    is started, because on Linux each has a priority of its own, taken over from the one that starts it.
    """
    if sys.platform == "win32":
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        os.nice(_POLITE)  # relative: nobody may step forward again, and a face may itself have stepped back


def _bind(config: ServeConfig) -> socket.socket:
    """Take the port before anything else, so that a clash is told in a sentence; it accepts from here on."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # Named as TCP, or asyncio leaves Nagle's algorithm on, which costs every answer 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(128)
    except OSError as exc:
        listener.close()
        raise StartError(
            f"Port {config.port} on {config.host} cannot be used ({exc.strerror or exc}): "
            "choose another with --port, or stop what uses it."
        ) from exc
    return listener


def _announce(path: Path, facts: dict[str, Any]) -> None:
    """Write the engine's address where its user alone can read it, whole or not at all."""
    part = path.with_suffix(".part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(facts, file)
        part.replace(path)
    except OSError as exc:
        raise OutputError(f"The engine's address cannot be written to {path}: {exc.strerror}.") from exc


def _watch_parent(config: ServeConfig, server: uvicorn.Server) -> None:
    """End with the parent, in order if possible and at once if not: a batch on the GPU does not hold us."""
    assert config.parent is not None
    while config.parent.alive():
        time.sleep(_WATCH_S)
    server.should_exit = True
    time.sleep(_GRACE_S)
    os._exit(1)


async def _evict_idle(engine: Engine, seconds: float) -> None:
    while seconds > 0:
        await asyncio.sleep(min(5.0, seconds / 4))
        for key in engine.store.idle(seconds):
            with suppress(SofaError):
                engine.close(key, lambda *_: None, f"The session was unused for {seconds / 60:.0f} minutes.")


def _default_budget(config: ServeConfig) -> int:
    """Half of the machine's memory, or most of the GPU's where sessions live there."""
    budget = psutil.virtual_memory().total // 2 // config.share
    if config.device != "cpu" and "torch" in sys.modules:
        torch = sys.modules["torch"]
        if torch.cuda.is_available():
            _, total = torch.cuda.mem_get_info(config.device if ":" in config.device else None)
            budget = min(budget, int(total * 0.7))
    return budget


async def _on_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SofaError)
    return error_response(error)


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return error_response(MessageError(f"The request's {place} is not acceptable: {first['msg']}."))
