"""How the page is reached: without internet, encrypted, behind a proxy that cuts a path off, with another engine."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from path_proxy import PathProxy
from sofa_engine.errors import InputError
from sofa_service.launcher import LocalEngine
from sofa_web.config import ViewConfig
from web_tools import PATIENCE, Server, until
from web_visit import Visit

_TESTING = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def test_the_page_works_where_every_request_to_another_host_is_blocked(browser, start_server):
    server = start_server()
    here = urlsplit(server.address).netloc
    blocked: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 800})

    def guard(route: Any) -> None:
        if urlsplit(route.request.url).netloc == here or route.request.url.startswith(("data:", "blob:")):
            route.continue_()
        else:
            blocked.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    try:
        guest = Visit(context.new_page(), server)
        guest.segment()
        guest.page.keyboard.press("?")
        guest.page.get_by_text("Drag a face of a box").wait_for()
        assert blocked == []
        assert guest.hosts() == {here}
        assert guest.errors == []
        fonts = guest.page.evaluate("[...document.fonts].filter((f) => f.status === 'loaded').map((f) => f.family)")
        assert any("Material" in family for family in fonts)  # the icons
    finally:
        context.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that this test signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program, which makes the test's certificate, is not on this machine")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split(),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def test_encrypted_from_end_to_end(visit, start_server, certificate):
    cert, key = certificate
    server = start_server(certfile=cert, keyfile=key)
    assert server.address.startswith("https://")
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.address)
    with httpx.Client(verify=ssl.create_default_context(cafile=str(cert))) as known:
        assert known.get(server.base, timeout=90 * PATIENCE).status_code == 401
    guest: Visit = visit(server, ignore_https_errors=True)
    guest.segment()
    assert guest.volume("et") > 0
    sockets = {urlsplit(url).scheme for url in guest.requests if url.startswith("ws")}
    assert sockets == {"wss"}
    assert all(cookie["secure"] and cookie["httpOnly"] for cookie in guest.page.context.cookies())


def test_without_a_certificate_it_listens_nowhere_but_on_this_computer(case_folder, certificate):
    assert ViewConfig().host == "127.0.0.1"
    with pytest.raises(InputError, match="without encryption"):
        ViewConfig(host="0.0.0.0", case=case_folder).check()
    ViewConfig(host="0.0.0.0", case=case_folder, certfile=certificate[0], keyfile=certificate[1]).check()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEngine]:
    """An engine of its own, as `sofa serve` runs one."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (_TESTING.parent / "SOFASegment", _TESTING))))
    engine = LocalEngine(factory="web_sessions:open_quick", timeout_s=120 * PATIENCE)
    with engine:
        yield engine


def test_behind_a_proxy_that_cuts_the_path_off_and_on_an_engine_elsewhere_a_session_that_ends_frees_everything(
    visit: Callable[..., Visit], start_server: Callable[..., Server], engine: LocalEngine
):
    server = start_server(
        None, behind_proxy=True, engine_url=engine.url, engine_token=engine.token, idle_minutes=0.5 * PATIENCE
    )
    with PathProxy("/clinic/sofa", server.base) as proxy:
        guest = visit(proxy.of(server))
        assert "/clinic/sofa/v/" in guest.page.url
        guest.segment()
        assert guest.volume("et") > 0
        assert guest.hosts() == {urlsplit(proxy.base).netloc}
        assert server.processes("sofa_service") == []
        assert len(engine.client().status().sessions) == 1
        (scene,) = server.processes("sofa_web.visitor")
        assert scene.memory_info().rss > 100e6
        dialog = guest.page.get_by_role("alertdialog")
        dialog.wait_for(timeout=300_000 * PATIENCE)
        assert "not used" in dialog.inner_text()
        until(lambda: not scene.is_running())
        until(lambda: engine.client().status().sessions == ())
