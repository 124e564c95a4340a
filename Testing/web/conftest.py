"""Real servers, real Chromium."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if os.environ.get("CI") != "true":
    pytest.importorskip("trame_slicer", reason="trame-slicer is not installed (pip install 'sofa-brain-tumor[app]')")

from sofa_web.config import ViewConfig
from web_tools import CHROMIUM, Server, chromium_path, write_case
from web_visit import Visit


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The system's Chromium, or Playwright's own; skipped where neither can be had, but never in CI."""

    def give_up(reason: str) -> None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)

    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        give_up("Playwright is not installed (pip install playwright)")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM)
        except Error as error:
            give_up(f"no Chromium could be started ({str(error).splitlines()[0]}); install it or: playwright install")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def case_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic patient on disk, in a folder of cases."""
    return write_case(tmp_path_factory.mktemp("cases") / "first")


@pytest.fixture(scope="module")
def start_server(case_folder: Path) -> Iterator[Callable[..., Server]]:
    """Start a server of one's own; all of them end with the file."""
    running: list[Server] = []

    def start(factory: str | None = "open_quick", **options: Any) -> Server:
        named = factory if factory is None or ":" in factory else f"web_sessions:{factory}"
        config = {"port": 0, "case": case_folder, "factory": named, **options}
        running.append(Server(ViewConfig.model_validate(config)))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Come to a server as a new visitor: `visit(server)`."""
    contexts: list[Any] = []

    def come(server: Server, **options: Any) -> Visit:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 800}, **options))
        return Visit(contexts[-1].new_page(), server)

    yield come
    for context in contexts:
        context.close()
