"""Ways to a case: names that say nothing, other grids, files dropped on the page, and folders that are not offered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from web_tools import Server, until, write_case
from web_visit import Visit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a well-named case, one whose names say nothing, one on two grids, and a secret beside it."""
    root = tmp_path_factory.mktemp("archive")
    write_case(root / "offered" / "named")
    unnamed = write_case(root / "offered" / "unnamed")
    for n, file in enumerate(sorted(unnamed.iterdir())):
        file.rename(unnamed / f"scan{n}.nii.gz")  # FLAIR, T1, T1c, T2
    grids = write_case(root / "offered" / "two grids", "odd")
    image = nibabel.load(grids / "odd_t2.nii.gz")
    coarse = np.asarray(image.dataobj)[:, :, ::2]
    nibabel.save(nibabel.Nifti1Image(coarse, image.affine @ np.diag([1.0, 1.0, 2.0, 1.0])), grids / "odd_t2.nii.gz")
    write_case(root / "secret", "secret")
    return root


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server], cases: Path) -> Server:
    return start_server(folder=cases / "offered", case=None)


@pytest.fixture(scope="module")
def guest(browser: Any, server: Server) -> Iterator[Visit]:
    """A visitor who has opened nothing yet."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    guest = Visit(context.new_page(), server)
    yield guest
    assert guest.errors == []
    context.close()


def open_folder(guest: Visit, name: str) -> None:
    guest.button("Open").click()
    up = guest.page.locator(".v-overlay--active").get_by_text("..", exact=True)
    if guest.state("browse_path"):
        up.click()
        guest.await_state("browse_path", "")
    guest.page.locator(".v-overlay--active").get_by_text(name, exact=True).click()
    guest.await_state("browse_path", name)
    guest.button("Open this folder").click()


def test_a_page_without_a_case_says_how_to_begin(guest):
    assert guest.page.get_by_text("Open the T1, T1c, T2 and FLAIR of one patient").is_visible()
    assert guest.button("Open from the server").is_visible()
    assert guest.button("Segment").is_disabled()


def test_nothing_outside_the_offered_folder_can_be_listed_or_opened(guest, cases):
    guest.button("Open from the server").click()
    dialog = guest.page.locator(".v-overlay--active")
    dialog.get_by_text("unnamed", exact=True).wait_for()
    for path in ("../secret", str(cases / "secret"), "named/../../secret"):
        guest.page.evaluate("path => window.trame.state.set('browse_path', path)", path)
        guest.page.evaluate("() => window.trame.state.set('browse_failure', '')")
        guest.button("Open this folder").click()
        dialog.get_by_text("is not a folder that this server offers").wait_for()
        assert guest.state("case_name") == ""
        assert guest.state("browse_folders") == ["named", "two grids", "unnamed"]
    guest.page.evaluate("() => window.trame.state.set('browse_path', '')")
    guest.button("Cancel").click()
    dialog.wait_for(state="detached")


def test_where_the_names_say_nothing_the_visitor_says_which_sequence_each_volume_is(guest):
    open_folder(guest, "unnamed")
    guest.await_state("case_name", "unnamed")
    assert guest.page.get_by_text("The names do not say which sequence each volume is").is_visible()
    assert guest.button("Segment").is_disabled()
    for title, file in (("FLAIR", "scan0"), ("T1", "scan1"), ("T1c", "scan2"), ("T2", "scan3")):
        guest.choose(title, file + ".nii" if guest.page.get_by_text(file + ".nii", exact=True).count() else file)
    guest.segment()
    assert guest.volume("et") > 0
    assert guest.volume("ed") > 0


def test_a_sequence_on_another_grid_is_aligned_at_the_press_of_a_button(guest):
    open_folder(guest, "two grids")
    guest.say_yes()
    guest.await_state("case_name", "odd_t1ce")
    assert guest.page.get_by_text("T2 lies on another grid than T1c").is_visible()
    assert guest.button("Segment").is_disabled()
    guest.button("Align").click()
    guest.page.get_by_text("All volumes share one grid").wait_for()
    guest.segment()
    assert guest.volume("et") > 0


def test_files_are_dropped_on_the_page(guest, cases):
    files = sorted((cases / "secret").iterdir())
    guest.drop({file.name: file.read_bytes() for file in files})
    guest.say_yes()
    guest.await_state("case_name", "secret_t1ce")
    assert guest.page.inner_text("[data-test=volume-et]") == "–"
    until(lambda: guest.button("Segment").is_enabled())
