"""Who keeps a place and who has to give way, without visitors' processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from sofa_web import visitors
from sofa_web.config import ViewConfig
from sofa_web.visitors import Ending, FullError, Visitor, Visitors
from web_tools import run_to_end


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that passes when the test says so."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(visitors, "time", clock)
    return clock


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace, tmp_path: Path) -> Visitors:
    """One place; what is started there is no process."""

    async def start(self: Visitors) -> Visitor:
        process = SimpleNamespace(returncode=None)
        process.terminate = lambda: setattr(process, "returncode", 0)
        process.wait = lambda: asyncio.sleep(0)
        return Visitor(f"visitor at {clock.now:g}", process, "secret", tmp_path / "none", used=clock.now)

    monkeypatch.setattr(Visitors, "_start", start)
    return Visitors(ViewConfig(max_visitors=1, idle_minutes=60, away_minutes=5), tmp_path, tmp_path / "engine.json")


def test_a_place_whose_page_is_open_is_kept_and_the_newcomer_is_told_the_truth(places, clock):
    first = run_to_end(places.admit())
    with first.page():
        clock.now += 30 * 60
        with pytest.raises(FullError, match="5 minutes after somebody closed the page, or after 60 minutes without"):
            run_to_end(places.admit())
    assert places.find(first.id) is first


def test_a_place_whose_page_was_closed_a_while_ago_is_given_to_who_needs_it(places, clock):
    first = run_to_end(places.admit())
    with first.page():
        clock.now += 30 * 60
    clock.now += 4 * 60
    with pytest.raises(FullError):
        run_to_end(places.admit())
    assert places.find(first.id) is first
    clock.now += 2 * 60
    second = run_to_end(places.admit())
    assert places.find(second.id) is second
    assert places.find(first.id) is None
    assert places.ending(first.id) is Ending.GIVEN_AWAY
    assert not first.alive


def test_while_places_are_free_a_closed_page_costs_nothing(clock, places, tmp_path):
    roomy = Visitors(ViewConfig(max_visitors=2), tmp_path, tmp_path / "engine.json")
    first = run_to_end(roomy.admit())
    clock.now += 50 * 60
    run_to_end(roomy.admit())
    assert roomy.find(first.id) is first
