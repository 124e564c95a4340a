"""Running the browser face: gateway, engine and visitors, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from sofa_engine.errors import InputError
from sofa_web.config import ViewConfig
from sofa_web.engine_host import EngineHost
from sofa_web.gateway import Gateway
from sofa_web.visitors import Visitors


def serve(config: ViewConfig, listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        config: options.
        listening: told the address to open, once browsers can connect.

    Raises:
        InputError: an option cannot work, or the address cannot be listened on.
    """
    config.check()
    asyncio.run(_serve(config, listening))


async def _serve(config: ViewConfig, listening: Callable[[str], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no handlers in its loop; there KeyboardInterrupt ends the loop.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="sofa-view-") as name:
        folder = Path(name)
        engine = EngineHost(config, folder / "engine.json")
        visitors = Visitors(config, folder, engine.file)
        runner = web.AppRunner(Gateway(config, visitors).app(), access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        watch = asyncio.create_task(visitors.watch())
        try:
            await _listen(config, runner)
            engine.start()
            if listening is not None:
                listening(config.address(runner.addresses[0][1]))
            await stop.wait()
        finally:
            watch.cancel()
            await visitors.close()
            await runner.cleanup()
            await engine.stop()


async def _listen(config: ViewConfig, runner: web.AppRunner) -> None:
    context = None
    if config.certfile is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(config.certfile, config.keyfile)
    try:
        await web.TCPSite(runner, config.host, config.port, ssl_context=context).start()
    except OSError as error:
        raise InputError(
            f"{config.host}:{config.port} cannot be listened on ({error.strerror or error}); choose another --port."
        ) from error
