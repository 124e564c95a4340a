"""The work really runs beside the main thread: nothing waits, and late answers change nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fakes import ThresholdPredictor, fake_case
from mrml_tools import PATIENCE_S, Bench, ThreadedScheduler, addVolumes
from sofa_engine.types import SubRegion
from SOFASegmentLib import Phase


class GatedPredictor(ThresholdPredictor):
    """Answers a prompt when the gate is open, and notes on which threads it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.threads: set[int] = set()

    def prompt(self, *args, **kwargs):
        self.threads.add(threading.get_ident())
        self.waiting.set()
        assert self.gate.wait(PATIENCE_S)
        return super().prompt(*args, **kwargs)


@pytest.fixture
def threaded(scene) -> Iterator[Bench]:
    case, _ = fake_case()
    scheduler = ThreadedScheduler()
    bench = Bench(scene, addVolumes(scene, case), lambda _case: GatedPredictor(), scheduler=scheduler)
    yield bench
    for predictor in bench.predictors:
        predictor.gate.set()
    bench.controller.close()
    scheduler.worker.stop()


def _segmented(bench: Bench) -> GatedPredictor:
    bench.controller.segment()
    bench.scheduler.waitFor(lambda: bench.controller.insights is not None)
    return bench.predictors[-1]


def _pull(bench: Bench, millimetres: float) -> None:
    roi = bench.roi(SubRegion.ET)
    bench.grab(roi)
    bench.grow(roi, millimetres)
    bench.letGo(roi)


def test_the_scene_is_usable_while_the_model_works(threaded: Bench):
    predictor = _segmented(threaded)
    before = threaded.labels()
    predictor.gate.clear()
    predictor.waiting.clear()
    _pull(threaded, 6)
    threaded.scheduler.waitFor(predictor.waiting.is_set)

    threaded.controller.setBoxesVisible(False)
    threaded.controller.jumpToSlice(20)
    assert np.array_equal(threaded.labels(), before)
    assert threading.get_ident() not in predictor.threads

    predictor.gate.set()
    threaded.scheduler.waitFor(lambda: threaded.controller.canUndo)
    assert np.array_equal(threaded.labels(), threaded.session.labels())
    assert not np.array_equal(threaded.labels(), before)


def test_a_box_dragged_again_while_the_model_works_is_what_counts(threaded: Bench):
    predictor = _segmented(threaded)
    predictor.gate.clear()
    predictor.waiting.clear()
    _pull(threaded, 6)
    threaded.scheduler.waitFor(predictor.waiting.is_set)
    _pull(threaded, -3)
    wanted = threaded.boxes(SubRegion.ET)
    predictor.gate.set()
    threaded.scheduler.waitFor(lambda: threaded.session.boxes()[SubRegion.ET] == wanted)
    threaded.scheduler.waitFor(lambda: threaded.controller.live.facts.boxes[SubRegion.ET] == wanted)
    assert threaded.boxes(SubRegion.ET) == wanted
    assert np.array_equal(threaded.labels(), threaded.session.labels())
    assert threaded.failures == []


def test_a_scene_closed_while_the_model_works_hears_nothing_more_of_it(threaded: Bench):
    predictor = _segmented(threaded)
    predictor.gate.clear()
    predictor.waiting.clear()
    _pull(threaded, 6)
    threaded.scheduler.waitFor(predictor.waiting.is_set)
    threaded.scene.Clear(False)
    assert threaded.controller.phase is Phase.IDLE
    predictor.gate.set()
    threaded.scheduler.waitFor(lambda: predictor.released)
    threaded.scheduler.waitFor(threaded.scheduler.arrived.empty)
    assert threaded.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert threaded.failures == []


def test_progress_of_the_first_pass_arrives_on_the_main_thread(threaded: Bench):
    heard: list[tuple[int, float]] = []
    threaded.controller.progressChanged.connect(lambda p: heard.append((threading.get_ident(), p.fraction)))
    _segmented(threaded)
    assert {thread for thread, _ in heard} == {threaded.scheduler.main}
    fractions = [fraction for _, fraction in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
