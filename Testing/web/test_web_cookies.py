"""What the gateway leaves in a browser, without visitors' processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import aiohttp
from aiohttp import web

from sofa_web.config import ViewConfig
from sofa_web.gateway import Gateway
from web_tools import run_to_end


class Nobody:
    """Stands in for `Visitors`: admits everybody, and every scene lives."""

    def __init__(self) -> None:
        self.admitted: list[str] = []

    async def admit(self) -> SimpleNamespace:
        self.admitted.append(f"scene{len(self.admitted)}")
        return SimpleNamespace(id=self.admitted[-1])

    def find(self, visitor_id: str) -> SimpleNamespace | None:
        return SimpleNamespace(id=visitor_id) if visitor_id in self.admitted else None


def with_servers(count: int, do: Callable[..., Awaitable[None]]) -> None:
    """Run `do(client, addresses)` with gateways on ports of this machine and one browser's cookies."""

    async def run() -> None:
        runners, addresses = [], []
        for _ in range(count):
            config = ViewConfig(port=0)
            runners.append(web.AppRunner(Gateway(config, Nobody()).app()))
            await runners[-1].setup()
            await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
            addresses.append(config.address(runners[-1].addresses[0][1]).replace("localhost", "127.0.0.1"))
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
            await do(client, addresses)
        for runner in runners:
            await runner.cleanup()

    run_to_end(run())


def test_a_second_server_on_this_machine_does_not_lock_the_first_ones_visitors_out():
    async def visit(client: aiohttp.ClientSession, addresses: list[str]) -> None:
        scenes = []
        for address in addresses:
            async with client.get(address, allow_redirects=False) as answer:
                assert answer.status == 302
                scenes.append(address.partition("?")[0] + answer.headers["Location"].replace("index.html", "session"))
        for scene in scenes:
            async with client.get(scene) as answer:
                assert answer.status == 200, await answer.text()
        for address in addresses:
            async with client.get(address.partition("?")[0], allow_redirects=False) as answer:
                assert answer.headers["Location"] == "v/scene0/index.html"

    with_servers(2, visit)
