"""The page by keyboard, in a narrow window, after its session ended, and on a real glioma with a real network."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sofa_engine.opening import open_case
from sofa_engine.tiny import open_tiny_session
from sofa_engine.types import LabelScheme
from web_visit import Visit, nifti

YELLOW = (255, 217, 26)
pytestmark = pytest.mark.slow


def test_the_page_works_by_keyboard_in_a_narrow_window_in_dark_and_light(visit, start_server):
    guest: Visit = visit(start_server(prefix="/clinic/sofa"))
    guest.await_case()
    assert "/clinic/sofa/v/" in guest.page.url
    guest.page.locator(".sofa-brand").click()
    guest.page.keyboard.press("s")
    guest.await_volumes()

    slider = guest.page.get_by_role("slider", name="Axial slice position in millimetres")
    slider.focus()
    before = float(slider.get_attribute("aria-valuenow"))
    guest.page.keyboard.press("ArrowRight")
    assert guest.await_other_position("Axial", before) == before + 1

    assert guest.page.locator(".v-theme--dark").count()
    guest.button("Dark or light").press("Enter")
    guest.page.locator(".v-theme--light.v-application").wait_for()
    guest.page.keyboard.press("?")
    guest.page.get_by_text("Drag a face of a box").wait_for()
    guest.page.keyboard.press("Escape")

    guest.page.set_viewport_size({"width": 480, "height": 800})
    guest.page.wait_for_timeout(800)
    assert guest.page.evaluate("document.documentElement.scrollWidth") <= 480
    segment = guest.button("Segment again")
    assert segment.bounding_box()["x"] < 0
    assert guest.page.locator(".sofa-views").bounding_box()["width"] == 480
    guest.button("Show or hide the panel").click()
    guest.page.wait_for_timeout(500)
    assert segment.bounding_box()["x"] >= 0
    unnamed = guest.page.eval_on_selector_all(
        "button",
        "found => found.filter((b) => !b.innerText.trim() && !b.ariaLabel && !b.title).map((b) => b.outerHTML)",
    )
    assert unnamed == []
    assert guest.errors == []


def test_a_page_left_alone_says_that_its_session_ended_and_offers_a_new_one(visit, start_server):
    guest: Visit = visit(start_server(idle_minutes=0.25))
    guest.await_case()
    dialog = guest.page.get_by_role("alertdialog")
    dialog.wait_for()
    assert "not used" in dialog.inner_text()
    dialog.get_by_role("button").click()
    guest.page.wait_for_selector("[data-test=segment]")
    guest.await_case()


def test_on_a_real_glioma_a_larger_box_reveals_what_the_expert_drew(visit, start_server, brats_case: Path):
    truth = next(brats_case.glob("*seg*.nii.gz"))
    guest: Visit = visit(start_server("open_expert", case=brats_case, weights=truth))
    guest.segment()
    guest.show_only("Axial")
    # A corner of oedema's box lies two pixels beside the handle, and the mouse would take either.
    guest.button("Hide the box of Oedema").click()
    guest.button("Show the box of Oedema").wait_for()
    before, seen = guest.volume("et"), guest.quiet_picture()
    guest.drag_right_face(YELLOW, 60)
    assert guest.await_volume_other_than("et", before) > before
    assert np.any(guest.quiet_picture() != seen)


def test_on_a_real_glioma_a_small_network_answers_and_the_export_is_what_its_session_found(
    visit, start_server, brats_case: Path
):
    guest: Visit = visit(start_server("sofa_engine.tiny:open_tiny_session", case=brats_case))
    guest.segment()
    assert guest.page.get_by_text("This model is not trained: its answers mean nothing.").is_visible()
    session = open_tiny_session(open_case(brats_case))
    session.first_pass()
    _name, content = guest.download("NIfTI")
    exported = nifti(content)
    assert np.array_equal(np.asarray(exported.dataobj).T, session.labels(LabelScheme.BRATS2020))
    assert np.array_equal(exported.affine, nibabel.load(next(brats_case.glob("*t1ce.nii.gz"))).affine)
    report = json.loads(guest.download("Report (JSON)")[1])
    assert report["model"]["name"] == session.model.name
    for region, ml in session.volumes_ml().items():
        assert report["volumes_ml"][region] == pytest.approx(ml)
