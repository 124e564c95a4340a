"""`python -m sofa_web.visitor`: one visitor's scene and page, as the gateway starts it."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from aiohttp import web
from trame.app import get_server
from trame_server.utils.asynchronous import create_task

from sofa_web.config import SECRET_HEADER, VISITOR_VARIABLE, VisitorConfig

if TYPE_CHECKING:
    from trame_server import Server

    from sofa_web.page import Page

_PARENT_S = 2.0
#: Less than what the gateway waits before it kills.
_FAREWELL_S = 2.0


def main() -> None:
    """Serve one visitor until the gateway ends this process or is gone itself."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Taken out, so that no child of this process inherits the secret.
    config = VisitorConfig.model_validate_json(os.environ.pop(VISITOR_VARIABLE))
    # Pictures are JPEGs already.
    os.environ["WSLINK_WS_COMPRESS"] = "0"
    os.environ["WSLINK_READY_MSG"] = ""

    server = get_server(client_type="vue3")

    from sofa_web.page import Page  # noqa: PLC0415  (trame's widgets look for the server that was made first)

    page = Page(server, config)
    server.controller.on_server_bind.add(lambda web_server: _bind(web_server.app, config, page))
    server.controller.on_server_ready.add(lambda **_: _ready(server, config, page))
    server.start(port=0, host="127.0.0.1", timeout=0, open_browser=False, show_connection_info=False)


def _bind(app: web.Application, config: VisitorConfig, page: Page) -> None:
    """Let nobody but the gateway in, and add what is not trame's."""

    @web.middleware
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        if not hmac.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), config.secret.encode()):
            raise web.HTTPForbidden
        return await handler(request)

    app.middlewares.append(guard)
    app.router.add_post("/upload", page.uploads.handle)
    app.router.add_get("/download/{what}", page.downloads.handle)


def _ready(server: Server, config: VisitorConfig, page: Page) -> None:
    # Not before: the web server sets a handler of its own while it starts.
    signal.signal(signal.SIGTERM, lambda *_: _leave(page))
    part = config.ready_file.with_suffix(".part")
    part.write_text(str(server.port), encoding="utf-8")
    part.replace(config.ready_file)
    create_task(_end_with_parent(config))
    create_task(page.start())


def _leave(page: Page) -> None:
    """End this process, and what the engine keeps for it where the engine answers soon enough."""
    farewell = threading.Thread(target=page.close, daemon=True)
    farewell.start()
    farewell.join(_FAREWELL_S)
    # The views' destructors are of no use to a process that ends, and may take long.
    os._exit(0)


async def _end_with_parent(config: VisitorConfig) -> None:
    while config.parent.alive():
        await asyncio.sleep(_PARENT_S)
    os._exit(0)


if __name__ == "__main__":
    main()
