"""A visitor segments a case, drags boxes with the mouse, judges and exports."""

from __future__ import annotations

import json
from collections.abc import Callable

import nibabel
import numpy as np
import pytest
from fakes import ThresholdPredictor
from web_tools import Server, Visit, nifti, write_case

from sofa_engine.discovery import discover
from sofa_engine.opening import open_case
from sofa_engine.session import SegmentationSession
from sofa_engine.types import LabelScheme, SubRegion

#: Enhancing tumour's box, as `SOFASegmentLib.appearance` colours it.
YELLOW = (255, 217, 26)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server], case_folder) -> Server:
    write_case(case_folder.parent / "second" / "scan", "other", seed=3)
    return start_server(folder=case_folder.parent)


def test_the_address_shows_the_operators_case_and_nothing_comes_from_another_host(visit, server):
    guest: Visit = visit(server)
    guest.await_case()
    assert guest.page.inner_text(".sofa-case-name") == "patient_t1ce"
    assert guest.quiet_picture().max() > 200
    assert guest.hosts() == {guest.page.evaluate("location.host")}
    assert "token" not in guest.page.url
    assert guest.errors == []


def test_dragging_a_face_outward_grows_the_segment_and_undo_takes_it_back(visit, server):
    guest: Visit = visit(server)
    guest.segment()
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
    assert guest.errors == []
