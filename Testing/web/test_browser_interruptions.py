"""Things happen while a case is segmented: Cancel, a reload, a second visitor, an engine that is killed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fakes import ThresholdPredictor
from sofa_engine.opening import open_case
from sofa_engine.session import SegmentationSession
from sofa_engine.types import LabelScheme
from web_tools import Server, until, write_case
from web_visit import Visit, nifti, visit_id

#: Enhancing tumour's box, as `SOFASegmentLib.appearance` colours it.
YELLOW = (255, 217, 26)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server]) -> Server:
    return start_server("open_unhurried")


def start_segmenting(guest: Visit) -> None:
    guest.await_case()
    guest.page.click("[data-test=segment]")
    guest.wait("() => window.trame.state.get('fraction') > 5")


def test_progress_is_seen_and_cancel_leaves_the_page_as_it_was(visit, server):
    guest = visit(server)
    start_segmenting(guest)
    assert guest.button("Cancel").is_visible()
    assert "Encoding" in guest.page.inner_text("[data-test=stage]")
    first = guest.state("fraction")
    guest.wait("(before) => window.trame.state.get('fraction') > before[0]", first)
    guest.page.click("[data-test=segment]")
    guest.await_state("phase", "idle")
    assert guest.page.inner_text("[data-test=volume-et]") == "–"
    assert guest.state("failure") == ""
    assert guest.button("Segment").is_enabled()


def test_a_reload_in_mid_run_comes_back_to_the_run_and_its_result(visit, server):
    guest = visit(server)
    start_segmenting(guest)
    where = visit_id(guest.page.url)
    guest.page.reload()
    guest.page.wait_for_selector("[data-test=progress]")
    assert visit_id(guest.page.url) == where
    guest.await_volumes()
    assert guest.volume("et") > 0
    assert guest.quiet_picture().max() > 200


def test_two_visitors_segment_at_once_and_each_sees_the_own_case(visit, start_server, case_folder):
    other_case = write_case(case_folder.parent / "other", "other", seed=7)
    server = start_server("open_unhurried", folder=case_folder.parent)
    one, other = visit(server), visit(server)
    assert visit_id(one.page.url) != visit_id(other.page.url)
    assert len(server.processes("sofa_web.visitor")) == 2
    other.await_case()
    other.button("Open").click()
    other.page.get_by_text(other_case.name, exact=True).click()
    other.page.get_by_text("4 volumes here").wait_for()
    other.button("Open this folder").click()
    other.await_state("case_name", "other_t1ce")

    start_segmenting(one)
    other.page.click("[data-test=segment]")
    other.page.wait_for_selector("[data-test=progress]")
    assert one.state("phase") == other.state("phase") == "running"
    one.await_volumes()
    other.await_volumes()
    for guest, folder in ((one, case_folder), (other, other_case)):
        session = SegmentationSession(open_case(folder), ThresholdPredictor())
        session.first_pass()
        _name, content = guest.download("NIfTI")
        assert np.array_equal(np.asarray(nifti(content).dataobj).T, session.labels(LabelScheme.BRATS2020))


def test_a_killed_engine_is_told_and_the_next_try_succeeds(visit, server):
    guest = visit(server)
    start_segmenting(guest)
    (engine,) = server.processes("sofa_service")
    engine.kill()
    guest.page.locator(".sofa-messages [role=alert]").wait_for()
    assert guest.state("phase") == "idle"
    until(lambda: [p for p in server.processes("sofa_service") if p.pid != engine.pid])
    guest.page.click("[data-test=segment]")
    guest.await_volumes()
    assert guest.volume("et") > 0
    assert guest.state("failure") == ""


def test_an_engine_killed_after_the_result_costs_nothing_and_the_next_drag_succeeds(visit, start_server):
    server = start_server("open_quick")
    guest = visit(server)
    guest.segment()
    before = guest.download("NIfTI")[1]
    (engine,) = server.processes("sofa_service")
    engine.kill()
    guest.show_only("Axial")
    volume = guest.volume("et")
    guest.drag_right_face(YELLOW, 60)
    # The first try may meet the death itself; the next one finds the new engine and the case as it was.
    guest.wait("() => window.trame.state.get('failure') || window.trame.state.get('can_undo')")
    if guest.state("failure"):
        until(lambda: [p for p in server.processes("sofa_service") if p.pid != engine.pid])
        assert nifti(guest.download("NIfTI")[1]).get_fdata().sum() == nifti(before).get_fdata().sum()
        guest.drag_right_face(YELLOW, 60)
    assert guest.await_volume_other_than("et", volume) > volume
    guest.button("Undo (Ctrl+Z)").click()
    assert guest.await_volume_other_than("et", guest.volume("et")) == volume
