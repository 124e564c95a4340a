"""A visitor with several boxes: adding where he or she looks, deleting, one per lesion, and placing by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from web_tools import Server, until
from web_visit import Visit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server]) -> Server:
    return start_server()


@pytest.fixture(scope="module")
def guest(browser: Any, server: Server) -> Iterator[Visit]:
    """A visitor whose case is segmented; every test leaves it as it was."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    guest = Visit(context.new_page(), server)
    guest.segment()
    yield guest
    assert guest.errors == []
    context.close()


def do(guest: Visit, region: str, verb: str) -> None:
    guest.button(f"Boxes of {region}").click()
    guest.page.locator(".v-overlay--active .v-list-item").get_by_text(verb, exact=True).click()


def boxes(guest: Visit, key: str) -> int:
    return next(line["boxes"] for line in guest.state("regions") if line["key"] == key)


def test_a_box_is_added_where_the_visitor_looks_and_it_is_the_one_that_is_deleted(guest):
    before = guest.volume("et")
    here = guest.position("Axial")
    for view in ("Coronal", "Sagittal"):
        guest.slider(f"{view} slice position in millimetres").press("End")
    guest.await_other_position("Sagittal", guest.position("Sagittal") - 1)
    do(guest, "Enhancing tumour", "Add a box here")
    until(lambda: boxes(guest, "et") == 2)
    do(guest, "Enhancing tumour", "Delete the box")
    until(lambda: boxes(guest, "et") == 1)
    until(lambda: guest.volume("et") == pytest.approx(before, rel=0.5))
    assert guest.position("Axial") == here
    while guest.button("Undo (Ctrl+Z)").is_enabled():
        guest.button("Undo (Ctrl+Z)").click()
        guest.page.wait_for_timeout(1500)
    until(lambda: guest.volume("et") == before)


def test_every_lesion_gets_a_box_of_its_own_and_undo_makes_one_of_them_again(guest):
    guest.button("Lock Enhancing tumour").wait_for()
    do(guest, "Enhancing tumour", "A box per lesion")
    guest.page.wait_for_timeout(1500)
    assert boxes(guest, "et") >= 1
    do(guest, "Enhancing tumour", "Back to the first box")
    until(lambda: boxes(guest, "et") == 1)


def test_a_box_is_placed_by_the_keyboard_alone(guest):
    guest.await_state("phase", "ready")
    before = guest.volume("ed")
    guest.button("Boxes of Oedema").press("Enter")
    guest.page.locator(".v-overlay--active .v-list-item", has_text="Place the box by numbers").press("Enter")
    faces = guest.page.locator(".sofa-edges").get_by_role("slider")
    until(lambda: faces.count() == 6)
    first = int(faces.nth(1).get_attribute("aria-valuenow"))
    for _ in range(6):
        faces.nth(1).press("ArrowLeft")
    assert int(faces.nth(1).get_attribute("aria-valuenow")) == first - 6
    after = guest.await_volume_other_than("ed", before)
    assert after < before
    # Undo goes through while the numbers are shown, and they go back with the box.
    for _ in range(6):
        if int(faces.nth(1).get_attribute("aria-valuenow")) != first:
            guest.page.keyboard.press("Control+z")
            guest.page.wait_for_timeout(1000)
    until(lambda: int(faces.nth(1).get_attribute("aria-valuenow")) == first)
    guest.page.keyboard.press("Escape")
    guest.page.locator(".sofa-edges").wait_for(state="hidden")

    def undone() -> bool:
        # On a busy machine the six presses may be more than one step.
        if guest.volume("ed") != before and guest.button("Undo (Ctrl+Z)").is_enabled():
            guest.button("Undo (Ctrl+Z)").click()
            guest.page.wait_for_timeout(1000)
        return guest.volume("ed") == before

    until(undone)
