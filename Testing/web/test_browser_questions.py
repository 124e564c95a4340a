"""Nothing that somebody made is thrown away by a key, a click or a drop without a question."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from web_tools import Server, until, write_case
from web_visit import Visit

pytestmark = pytest.mark.slow

_FOCUSED = "() => document.activeElement.innerText"


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server], case_folder: Path) -> Server:
    write_case(case_folder.parent / "another", "another", seed=3)
    return start_server(folder=case_folder.parent)


@pytest.fixture
def guest(visit: Callable[..., Visit], server: Server) -> Iterator[Visit]:
    """A visitor who deleted the necrotic core's box and so emptied it."""
    # Each has a scene of his or her own, and the server has places enough.
    guest = visit(server)
    guest.segment()
    before = guest.volume("ncr")
    guest.button("Boxes of Necrotic core").click()
    guest.page.get_by_text("Delete the box").click()
    guest.await_volume_other_than("ncr", before)
    guest.await_state("can_undo", True)
    guest.page.locator(".v-overlay--active").wait_for(state="detached")
    yield guest
    assert guest.errors == []


def question(guest: Visit) -> Any:
    return guest.page.locator("[data-test=question]")


def answer(guest: Visit, button: str) -> None:
    question(guest).get_by_role("button", name=button, exact=True).click()
    question(guest).wait_for(state="detached")


def test_a_key_asks_before_it_segments_again_and_enter_means_no(guest):
    guest.page.locator(".sofa-brand").click()
    guest.page.keyboard.press("s")
    question(guest).wait_for()
    assert "replaces the boxes" in question(guest).inner_text()
    until(lambda: guest.page.evaluate(_FOCUSED) == "Cancel")
    for key in "sbcn":
        guest.page.keyboard.press(key)
    guest.page.keyboard.press("Control+z")
    guest.page.wait_for_timeout(500)
    assert guest.state("phase") == "ready"
    assert guest.state("boxes_visible") and not guest.state("confidence_visible")
    guest.page.keyboard.press("Enter")
    question(guest).wait_for(state="detached")
    guest.page.wait_for_timeout(500)
    assert guest.state("can_undo")
    assert guest.volume("ncr") == 0


def test_the_button_asks_as_well_names_the_locks_and_a_yes_goes_on(guest):
    guest.button("Lock Oedema").click()
    guest.button("Unlock Oedema").wait_for()
    guest.button("Segment again").click()
    question(guest).wait_for()
    assert "also in sub-regions that are locked" in question(guest).inner_text()
    answer(guest, "Segment again")
    assert guest.await_volume_other_than("ncr", 0) > 0
    assert not guest.state("can_undo")


def test_a_drop_asks_before_it_replaces_a_result_that_was_not_exported(guest, tmp_path):
    files = {file.name: file.read_bytes() for file in sorted(write_case(tmp_path / "mine", "mine").iterdir())}
    guest.drop(files)
    question(guest).wait_for()
    assert "not exported" in question(guest).inner_text()
    answer(guest, "Cancel")
    guest.page.wait_for_timeout(1000)
    assert guest.state("case_name") == "patient_t1ce"
    assert guest.state("can_undo")
    guest.drop(files)
    question(guest).wait_for()
    answer(guest, "Open")
    guest.await_state("case_name", "mine_t1ce")


def test_opening_from_the_server_asks_until_the_result_was_exported(guest):
    def open_other() -> None:
        guest.page.get_by_text("another", exact=True).click()
        guest.page.get_by_text("4 volumes here").wait_for()
        guest.button("Open this folder").click()

    guest.button("Open").click()
    open_other()
    question(guest).wait_for()
    answer(guest, "Cancel")
    assert guest.state("case_name") == "patient_t1ce"
    guest.page.get_by_text("Open a case from the server").wait_for()
    guest.page.keyboard.press("Escape")
    guest.page.locator(".v-overlay--active").wait_for(state="detached")
    guest.download("NIfTI")
    guest.button("Open").click()
    guest.button("Open this folder").click()
    guest.await_state("case_name", "another_t1ce")
    assert question(guest).count() == 0


def test_keys_mean_nothing_while_a_menu_is_open(guest):
    guest.button("Boxes of Oedema").click()
    guest.page.get_by_text("Delete the box").wait_for()
    for key in "bs":
        guest.page.keyboard.press(key)
    guest.page.wait_for_timeout(500)
    assert guest.state("boxes_visible")
    assert guest.state("phase") == "ready"
    assert question(guest).count() == 0
