"""A visitor segments a case, drags boxes with the mouse, judges and exports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from fakes import ThresholdPredictor
from sofa_engine.opening import open_case
from sofa_engine.session import SegmentationSession
from sofa_engine.types import LabelScheme, SubRegion
from web_tools import Server, until, write_case
from web_visit import Visit, nifti

#: Enhancing tumour's box, as `SOFASegmentLib.appearance` colours it.
YELLOW = (255, 217, 26)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server], case_folder: Path) -> Server:
    write_case(case_folder.parent / "second" / "scan", "other", seed=3)
    return start_server(folder=case_folder.parent)


@pytest.fixture(scope="module")
def guest(browser: Any, server: Server) -> Iterator[Visit]:
    """A visitor whose case is segmented; every test leaves it as it was."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    guest = Visit(context.new_page(), server)
    guest.segment()
    yield guest
    context.close()


@pytest.fixture(autouse=True)
def _no_script_fails(guest: Visit) -> Iterator[None]:
    yield
    assert guest.errors == []


def test_the_page_shows_the_operators_case_and_nothing_comes_from_another_host(guest):
    assert guest.page.inner_text(".sofa-case-name") == "patient_t1ce"
    assert guest.quiet_picture().max() > 200
    assert guest.hosts() == {guest.page.evaluate("location.host")}
    assert "token" not in guest.page.url


def test_the_exported_file_is_what_the_session_found_on_the_grid_of_the_input(guest, case_folder):
    session = SegmentationSession(open_case(case_folder), ThresholdPredictor())
    session.first_pass()
    name, content = guest.download("NIfTI")
    exported = nifti(content)
    assert name == "patient_t1ce_SOFA.nii.gz"
    assert np.array_equal(exported.affine, nibabel.load(case_folder / "patient_t1ce.nii.gz").affine)
    assert np.array_equal(np.asarray(exported.dataobj).T, session.labels(LabelScheme.BRATS2020))
    for region in SubRegion:
        assert guest.volume(region.value) == pytest.approx(session.volumes_ml()[region.value.upper()], abs=0.051)


def test_report_and_boxes_are_downloads_as_well(guest):
    name, content = guest.download("Report (JSON)")
    report = json.loads(content)
    assert name == "patient_t1ce_SOFA_report.json"
    assert report["volumes_ml"]["ET"] == pytest.approx(guest.volume("et"), abs=0.051)
    name, content = guest.download("Report")
    assert name == "patient_t1ce_SOFA_report.html"
    assert b"patient_t1ce" in content and content.count(b"data:image/png") >= 2
    _name, content = guest.download("Boxes")
    assert json.loads(content)["boxes"] == report["boxes"]


def test_dragging_a_face_outward_grows_the_segment_and_undo_takes_it_back(guest):
    guest.show_only("Axial")
    before, seen = guest.volume("et"), guest.quiet_picture()
    assert guest.button("Undo (Ctrl+Z)").is_disabled()

    guest.drag_right_face(YELLOW, 60)
    after = guest.await_volume_other_than("et", before)
    assert after > before
    assert np.mean(np.any(guest.quiet_picture() != seen, axis=2)) > 0.003

    guest.button("Undo (Ctrl+Z)").click()
    assert guest.await_volume_other_than("et", after) == before
    guest.page.keyboard.press("Control+y")
    assert guest.await_volume_other_than("et", before) == after
    guest.page.keyboard.press("Control+z")
    assert guest.await_volume_other_than("et", after) == before


def test_a_download_right_after_a_drag_waits_for_what_the_drag_does(guest):
    guest.show_only("Axial")
    before = guest.volume("et")
    guest.open_panel("Export")
    guest.drag_right_face(YELLOW, 60)
    report = json.loads(guest.download("Report (JSON)")[1])
    after = guest.await_volume_other_than("et", before)
    assert report["volumes_ml"]["ET"] == pytest.approx(after, abs=0.051)
    guest.button("Undo (Ctrl+Z)").click()
    assert guest.await_volume_other_than("et", after) == before


def test_a_locked_sub_region_keeps_its_box_and_its_voxels(guest):
    guest.show_only("Axial")
    before = guest.volume("et")
    guest.button("Lock Enhancing tumour").click()
    guest.button("Unlock Enhancing tumour").wait_for()
    guest.drag_right_face(YELLOW, 40)
    guest.page.wait_for_timeout(1500)
    assert guest.volume("et") == before
    assert guest.button("Boxes of Enhancing tumour").is_disabled()
    guest.button("Unlock Enhancing tumour").click()
    guest.button("Lock Enhancing tumour").wait_for()


def test_a_box_is_deleted_and_brought_back_from_its_menu(guest):
    before = guest.volume("ncr")
    guest.button("Boxes of Necrotic core").click()
    guest.page.get_by_text("Delete the box").click()
    assert guest.await_volume_other_than("ncr", before) == 0
    guest.button("Boxes of Necrotic core").click()
    guest.page.get_by_text("Back to the first box").click()
    assert guest.await_volume_other_than("ncr", 0) == pytest.approx(before, rel=0.2)


def test_an_uncertain_slice_is_one_click_away_and_the_keys_go_on(guest):
    guest.show_only("Axial")
    slices = guest.page.locator("[data-test=uncertain]")
    listed = [float(text.split()[1]) for text in slices.locator(".sofa-slice").all_inner_texts()]
    for row in range(3):
        slices.nth(row).click()
        until(lambda row=row: guest.position("Axial") == listed[row])
    guest.page.locator(".sofa-brand").click()
    before = guest.position("Axial")
    for _ in range(2):
        guest.page.keyboard.press("n")
        before = guest.await_other_position("Axial", before)


def test_confidence_and_attention_are_shown(guest):
    guest.show_only("Axial")
    seen = guest.quiet_picture().astype(int)
    guest.page.get_by_label("Colour what the model is unsure of").click()
    changed = guest.await_other_picture(seen).astype(int)
    # Blue lies over the image where the model is nearly sure; no segment is blue.
    assert (
        np.count_nonzero((changed[..., 2] - changed[..., :2].max(axis=-1) > 40) & np.any(changed != seen, axis=-1)) > 20
    )
    # What lies over is one volume: a sequence takes the confidence's place, and does not come back once it is cleared.
    guest.open_panel("Display")
    guest.choose("Over it", "FLAIR")
    guest.await_state("confidence_visible", False)
    guest.page.get_by_label("Colour what the model is unsure of").click()
    guest.page.get_by_role("button", name="Clear Over it").click()
    guest.page.wait_for_timeout(1500)
    assert guest.state("confidence_visible")
    guest.page.get_by_label("Colour what the model is unsure of").click()
    until(lambda: np.array_equal(guest.picture(), seen))
    bars = guest.page.locator("[data-test=attention] .sofa-bar")
    assert bars.count() == 3
    assert "FLAIR" in bars.nth(1).get_attribute("aria-label")


def test_a_case_is_opened_from_the_servers_folder_and_another_by_upload(guest, case_folder, tmp_path):
    guest.button("Open").click()
    guest.page.get_by_text("second", exact=True).click()
    guest.page.get_by_text("scan", exact=True).click()
    guest.page.get_by_text("4 volumes here").wait_for()
    guest.button("Open this folder").click()
    guest.say_yes()
    guest.await_state("case_name", "other_t1ce")
    assert guest.page.inner_text("[data-test=volume-et]") == "–"

    uploaded = write_case(tmp_path / "up", "mine", seed=5)
    _choose(guest, sorted(uploaded.iterdir()))
    guest.await_state("case_name", "mine_t1ce")
    guest.segment()
    assert guest.volume("et") > 0

    (tmp_path / "t1.nii.gz").write_bytes(b"this is no image")
    _choose(guest, [tmp_path / "t1.nii.gz"])
    guest.say_yes()
    alert = guest.page.locator(".sofa-messages [role=alert]")
    alert.wait_for()
    assert "t1.nii.gz" in alert.inner_text()
    assert str(tmp_path.root) + "tmp" not in alert.inner_text()
    assert guest.state("case_name") == "mine_t1ce"


def _choose(guest: Visit, files: list[Path]) -> None:
    with guest.page.expect_file_chooser() as chooser:
        guest.button("Upload").click()
    chooser.value.set_files([str(file) for file in files])
