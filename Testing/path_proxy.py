"""A reverse proxy as an operator's: it answers below a path and passes on without it."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import web

_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host"}


class PathProxy:
    """Passes requests and websockets below `path` on to `target`, from a thread of its own.

    Attributes:
        base: its address, path included.
    """

    def __init__(self, path: str, target: str) -> None:
        self._path, self._target = path, target.rstrip("/")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> PathProxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def of(self, server: Any) -> Any:
        """What stands in for a server that is reached through this proxy."""
        token = server.address.partition("?")[2]
        return SimpleNamespace(address=f"{self.base}?{token}", base=self.base)

    async def _start(self) -> None:
        self._client = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application()
        app.router.add_route("*", self._path + "/{rest:.*}", self._pass)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://localhost:{self._runner.addresses[0][1]}{self._path}/"

    async def _stop(self) -> None:
        await self._client.close()
        await self._runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        address = self._target + request.rel_url.raw_path_qs.removeprefix(self._path)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        headers["X-Forwarded-Host"] = request.host
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._join(request, address, headers)
        async with self._client.request(
            request.method, address, headers=headers, data=await request.read(), allow_redirects=False
        ) as answer:
            kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in _HOP | {"content-length"}]
            response = web.Response(status=answer.status, body=await answer.read())
            for name, value in kept:
                response.headers.add(name, value)
            return response

    async def _join(self, request: web.Request, address: str, headers: dict[str, str]) -> web.WebSocketResponse:
        headers = {k: v for k, v in headers.items() if not k.lower().startswith("sec-websocket")}
        async with self._client.ws_connect(address, headers=headers, max_msg_size=0) as far:
            near = web.WebSocketResponse(max_msg_size=0)
            await near.prepare(request)

            async def carry(source: Any, sink: Any) -> None:
                async for message in source:
                    send = sink.send_bytes if message.type is aiohttp.WSMsgType.BINARY else sink.send_str
                    await send(message.data)

            tasks = [asyncio.create_task(carry(near, far)), asyncio.create_task(carry(far, near))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await near.close()
            return near
