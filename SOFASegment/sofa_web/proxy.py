"""Requests and websockets passed on to a visitor's process, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from sofa_web.config import SECRET_HEADER

#: Headers that belong to one connection and not to the message (RFC 9110, section 7.6.1).
_HOP = frozenset(
    name.lower()
    for name in (
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    )
)
#: Never passed on: the visitor's process trusts the gateway and needs no cookie.
_PRIVATE = frozenset({"cookie", "host", SECRET_HEADER.lower()})
_CHUNK = 1 << 16
_MESSAGE_BYTES = 64 << 20
_HEARTBEAT_S = 30.0


async def pass_request(
    request: web.Request, client: aiohttp.ClientSession, target: URL, secret: str
) -> web.StreamResponse:
    """Pass a request on and its answer back, both as streams.

    Raises:
        aiohttp.ClientError: the process does not answer.
    """
    async with client.request(
        request.method,
        target,
        headers={**_filtered(request.headers, _PRIVATE), SECRET_HEADER: secret},
        data=request.content if request.can_read_body else None,
        allow_redirects=False,
    ) as answer:
        response = web.StreamResponse(status=answer.status, headers=_filtered(answer.headers))
        await response.prepare(request)
        async for chunk in answer.content.iter_chunked(_CHUNK):
            await response.write(chunk)
        await response.write_eof()
        return response


async def pass_socket(
    request: web.Request, client: aiohttp.ClientSession, target: URL, secret: str, touch: Callable[[], None]
) -> web.WebSocketResponse:
    """Join a browser's websocket with the process's, until either ends; `touch` is called whenever the browser speaks.

    Raises:
        aiohttp.ClientError: the process does not answer.
    """
    # Pictures are JPEGs: compressing the messages again would only cost time.
    async with client.ws_connect(
        target, headers={SECRET_HEADER: secret}, max_msg_size=_MESSAGE_BYTES, compress=0
    ) as process:
        browser = web.WebSocketResponse(max_msg_size=_MESSAGE_BYTES, heartbeat=_HEARTBEAT_S, compress=False)
        await browser.prepare(request)

        async def upwards() -> None:
            async for message in browser:
                touch()
                await _send(process, message)

        async def downwards() -> None:
            async for message in process:
                await _send(browser, message)

        tasks = [asyncio.create_task(upwards()), asyncio.create_task(downwards())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await browser.close()
        return browser


async def _send(socket: web.WebSocketResponse | aiohttp.ClientWebSocketResponse, message: aiohttp.WSMessage) -> None:
    if message.type is aiohttp.WSMsgType.BINARY:
        await socket.send_bytes(message.data)
    elif message.type is aiohttp.WSMsgType.TEXT:
        await socket.send_str(message.data)


def _filtered(headers: CIMultiDictProxy[str], more: frozenset[str] = frozenset()) -> CIMultiDict[str]:
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in _HOP and k.lower() not in more)
