"""The nginx configuration of docs/browser.md, word for word, in front of a real server."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

import web_tools
from web_tools import run_to_end, until, write_case

_DOCS = Path(__file__).resolve().parents[2] / "docs" / "browser.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("nginx") and shutil.which("openssl")),
        reason="the nginx and openssl programs are not on this machine",
    ),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def public(start_server, tmp_path: Path) -> Iterator[str]:
    """The address, token included, that visitors open."""
    port, behind = free_port(), free_port()
    server = start_server(prefix="/sofa", behind_proxy=True, public_url=f"https://localhost:{port}/sofa", port=behind)
    cert, key = tmp_path / "mri.example.org.pem", tmp_path / "mri.example.org.key"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout".split()
    subprocess.run([*made, str(key), "-out", str(cert)], check=True, capture_output=True)
    block = re.search(r"```nginx\n(.*?)```", _DOCS.read_text(encoding="utf-8"), re.DOTALL)[1]
    for documented, here in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/ssl/", f"{tmp_path}/"),
        ("127.0.0.1:8080", f"127.0.0.1:{behind}"),
    ):
        assert documented in block
        block = block.replace(documented, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{folders}{block}}}\n", encoding="utf-8"
    )
    process = subprocess.Popen(["nginx", "-e", str(tmp_path / "error.log"), "-c", str(config), "-g", "daemon off;"])
    yield server.address
    process.terminate()
    process.wait(20)


def test_page_websocket_and_upload_come_through(public, tmp_path):
    origin = public.partition("/sofa")[0]
    assert urlsplit(origin).scheme == "https"
    files = sorted(write_case(tmp_path / "case", "up").iterdir())

    async def visit() -> None:
        connector = aiohttp.TCPConnector(ssl=ssl._create_unverified_context())
        timeout = aiohttp.ClientTimeout(total=90 * web_tools.PATIENCE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers={"Origin": origin}) as client:
            async with client.get(public) as answer:
                assert answer.status == 200, await answer.text()
                page = answer.url
                assert all(cookie["secure"] for cookie in client.cookie_jar)
            async with client.ws_connect(page.with_name("ws")) as websocket:
                assert not websocket.closed
            form = aiohttp.FormData()
            for file in files:
                form.add_field("file", file.read_bytes(), filename=file.name)
            form.add_field("file", bytes(3 << 20), filename="notes.txt")  # more than nginx lets through unasked
            async with client.post(page.with_name("upload"), data=form) as answer:
                assert await answer.json() == {"ok": True}

    until(lambda: can_connect(urlsplit(public).port))
    run_to_end(visit())


def can_connect(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
