"""Things happen while a case is segmented: Cancel, a reload, a second visitor, an engine that is killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from web_tools import Server, Visit, until, visit_id

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


def test_two_visitors_have_a_scene_each(visit, server):
    one, other = visit(server), visit(server)
    assert visit_id(one.page.url) != visit_id(other.page.url)
    one.segment()
    other.await_case()
    assert other.page.inner_text("[data-test=volume-et]") == "–"
    assert other.state("phase") == "idle"
    assert len(server.processes("sofa_web.visitor")) >= 2


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
