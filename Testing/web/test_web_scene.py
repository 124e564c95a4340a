"""What the page's logic does to the scene, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from trame_server.state import State
from trame_slicer.core import SlicerApp

from fakes import ThresholdPredictor, fake_case
from mrml_tools import Bench, addVolumes
from mrml_views import SliceMouse, sliceMouse
from sofa_engine.types import Modality, SubRegion
from sofa_web.logic.display import DisplayLogic
from sofa_web.logic.judge import JudgeLogic
from sofa_web.logic.place_box import PlaceBoxLogic
from sofa_web.page_state import defaults
from SOFASegmentLib.scene_state import CONFIDENCE
from SOFASegmentLib.signals import Signal


@pytest.fixture
def app() -> Iterator[SlicerApp]:
    app = SlicerApp()
    yield app
    app.scene.Clear(True)


@pytest.fixture
def axial(app: SlicerApp) -> Iterator[SliceMouse]:
    mouse = sliceMouse(app, "Red", 64)
    yield mouse
    mouse.view.finalize()


@pytest.fixture
def bench(app: SlicerApp, axial: SliceMouse) -> Iterator[Bench]:
    """The synthetic patient, segmented."""
    bench = Bench(app.scene, addVolumes(app.scene, fake_case()[0]), lambda _case: ThresholdPredictor())
    bench.segment()
    yield bench
    bench.controller.close()


@pytest.fixture
def workspace(bench: Bench) -> SimpleNamespace:
    signals = {"opened": Signal(), "chosen": Signal()}
    return SimpleNamespace(controller=bench.controller, scene=bench.scene, state=bench.state, **signals)


@pytest.fixture
def page() -> State:
    """The page's state, whose listeners are called as soon as it is left."""
    page = State(ready=True)
    page.update(defaults())
    return page


@pytest.fixture
def over(bench: Bench, workspace: Any, page: State, axial: SliceMouse) -> Any:
    """Return a function that changes the page, and says what lies over the background then: volume and opacity."""
    views = MagicMock()
    views.show_foreground = lambda node: axial.view.set_foreground_volume_id(node.GetID() if node else None)
    views.fade_foreground = axial.view.set_foreground_opacity
    DisplayLogic(SimpleNamespace(state=page), workspace, views)
    JudgeLogic(SimpleNamespace(state=page), workspace)

    def change(**values: Any) -> tuple[str | None, float]:
        with page:
            page.update(values)
        bench.run()
        return axial.view.get_foreground_volume_id() or None, axial.view.get_foreground_opacity()

    return change


def test_what_lay_over_the_background_does_not_come_back_once_it_was_taken_away(bench, over):
    flair = bench.nodes[Modality.FLAIR].GetID()
    assert over(foreground=flair) == (flair, 0.5)
    assert over(confidence_visible=True)[0] == bench.state.get(CONFIDENCE).GetID()
    assert over(foreground=None)[0] == bench.state.get(CONFIDENCE).GetID()
    assert over(confidence_visible=False) == (None, 0.0)


def test_a_sequence_that_is_laid_over_the_confidence_switches_it_off(bench, over, page):
    flair = bench.nodes[Modality.FLAIR].GetID()
    over(confidence_visible=True)
    assert over(foreground=flair) == (flair, 0.5)
    assert not page.confidence_visible
    assert not bench.controller.confidenceVisible()
    over(confidence_visible=True)
    assert over(foreground_opacity=0.8) == (flair, 0.8)
    assert not page.confidence_visible


def test_undo_takes_the_numbers_of_a_box_back_with_it(bench, workspace, page):
    boxes = SimpleNamespace(looked_at=lambda key: bench.roi(SubRegion(key)))
    place = PlaceBoxLogic(SimpleNamespace(state=page), workspace, boxes)
    workspace.opened.emit(())
    (before,) = bench.boxes(SubRegion.ED)
    with page:
        place.begin("ed")
    first, last = page.edge_x
    with page:
        page.edge_x = [first, last - 6]
    bench.run()
    assert bench.boxes(SubRegion.ED) != (before,)
    with page:
        bench.controller.undo()
        bench.run()
    assert page.edge_x == [first, last]
    with page:
        page.edge_y = [page.edge_y[0] + 1, page.edge_y[1]]
    bench.run()
    (after,) = bench.boxes(SubRegion.ED)
    assert (after.lower[2], after.upper[2]) == (before.lower[2], before.upper[2])
    assert after.lower[1] == before.lower[1] + 1
