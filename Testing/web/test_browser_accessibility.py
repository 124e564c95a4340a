"""Readable in dark and light, usable by keyboard, errors where the visitor looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from web_tools import Server, until
from web_visit import Visit

pytestmark = pytest.mark.slow

_FAINT = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")
_FOCUSED = """() => {
    const node = document.activeElement;
    const label = node.getAttribute("aria-label") || node.labels?.[0]?.innerText || node.innerText || "";
    return label.trim();
}"""


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server]) -> Server:
    return start_server()


@pytest.fixture(scope="module")
def guest(browser: Any, server: Server) -> Iterator[Visit]:
    """A visitor whose case is segmented; every test leaves it as it was."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    guest = Visit(context.new_page(), server)
    guest.segment()
    until(lambda: guest.page.locator("[data-test=attention]").count())
    for title in ("Display", "Export"):
        guest.open_panel(title)
    yield guest
    assert guest.errors == []
    context.close()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_text_stands_out_from_its_ground(guest, theme):
    if guest.state("theme") != theme:
        guest.button("Dark or light").click()
    guest.page.locator(f".v-theme--{theme}.v-application").wait_for()
    guest.page.mouse.move(5, 5)
    guest.page.wait_for_timeout(600)
    assert guest.page.evaluate(_FAINT) == []
    guest.page.keyboard.press("?")
    guest.page.get_by_text("Drag a face of a box").wait_for()
    guest.page.wait_for_timeout(600)
    assert guest.page.evaluate(_FAINT) == []
    guest.page.keyboard.press("Escape")
    guest.page.get_by_text("Drag a face of a box").wait_for(state="hidden")


def test_the_tab_key_reaches_every_control(guest):
    guest.page.locator(".sofa-brand").click()
    reached: list[str] = []
    for _ in range(120):
        guest.page.keyboard.press("Tab")
        reached.append(guest.page.evaluate(_FOCUSED))
        if reached.count("Open") > 1:
            break
    missing = (
        {
            "Show or hide the panel",
            "Undo (Ctrl+Z)",
            "Four views",
            "3D",
            "Mouse and keyboard (?)",
            "Dark or light",
            "Open",
            "Upload",
            "Segment again",
            "Lock Oedema",
            "Hide the box of Oedema",
            "Boxes of Oedema",
            "Colour what the model is unsure of",
            "Next uncertain slice (N)",
            "Opacity of the segments",
            "NIfTI",
            "Report",
            "Axial slice position in millimetres",
            "Fit the 3D view",
        }
        - set(reached)
        - {name for name in ("Undo (Ctrl+Z)",) if guest.button(name).is_disabled()}
    )
    assert missing == set(), reached


def test_an_error_is_seen_though_the_panel_covers_a_narrow_window(guest, tmp_path: Path):
    guest.page.set_viewport_size({"width": 480, "height": 800})
    guest.page.wait_for_timeout(800)
    if guest.button("Upload").bounding_box()["x"] < 0:
        guest.button("Show or hide the panel").click()
        guest.page.wait_for_timeout(500)
    (tmp_path / "flair.nii.gz").write_bytes(b"this is no image")
    with guest.page.expect_file_chooser() as chooser:
        guest.button("Upload").click()
    chooser.value.set_files([str(tmp_path / "flair.nii.gz")])
    guest.say_yes()
    alert = guest.page.locator(".sofa-messages [role=alert]")
    alert.wait_for()
    assert "flair.nii.gz" in alert.inner_text()
    box = alert.bounding_box()
    on_top = guest.page.evaluate(
        "([x, y]) => Boolean(document.elementFromPoint(x, y).closest('.sofa-messages'))",
        [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2],
    )
    assert on_top
    assert 0 <= box["x"] and box["x"] + box["width"] <= 480
    guest.page.locator(".sofa-messages").get_by_role("button").click()
    alert.wait_for(state="detached")
    guest.page.set_viewport_size({"width": 1280, "height": 800})


def test_every_layout_has_its_button_in_a_narrow_window(guest):
    guest.page.set_viewport_size({"width": 420, "height": 800})
    guest.page.wait_for_timeout(800)
    for name in ("Show or hide the panel", "Four views", "Axial", "3D", "Dark or light"):
        box = guest.button(name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 420, name
    guest.page.set_viewport_size({"width": 1280, "height": 800})
