"""What a step would destroy is said before it, and nothing is asked where nothing is lost."""

from __future__ import annotations

import pytest

from fakes import ThresholdPredictor, fake_case
from mrml_tools import Bench, addVolumes
from sofa_engine.types import SubRegion
from SOFASegmentLib.work import Work


@pytest.fixture
def work(bench: Bench) -> Work:
    return Work(bench.controller)


def test_nothing_is_asked_before_the_first_segmentation_nor_before_the_next_one_of_an_untouched_result(bench, work):
    assert work.lostBySegmenting() == work.lostByLeaving() == ""
    bench.segment()
    assert work.lostBySegmenting() == ""


def test_corrections_are_asked_about_before_a_new_first_pass_also_while_they_are_undone(bench, work):
    bench.segment()
    bench.drag(SubRegion.ET, 4)
    assert "replaces the boxes" in work.lostBySegmenting()
    assert "locked" not in work.lostBySegmenting()
    bench.controller.undo()
    bench.run()
    assert work.lostBySegmenting()


def test_a_lock_that_a_new_first_pass_would_break_is_named(bench, work):
    bench.segment()
    bench.controller.setLocked(SubRegion.ET, True)
    assert "also in sub-regions that are locked" in work.lostBySegmenting()


def test_what_came_with_a_scene_is_asked_about_as_well(bench, work):
    bench.segment()
    bench.drag(SubRegion.ET, 4)
    bench.controller.close()
    again = Bench(bench.scene, bench.nodes, lambda _case: ThresholdPredictor())
    known = Work(again.controller)
    assert "replaces the boxes" in known.lostBySegmenting()
    again.controller.resume()
    again.run()
    assert not again.controller.canUndo
    assert "replaces the boxes" in known.lostBySegmenting()
    again.controller.close()


def test_a_study_without_a_result_is_not_asked_about_and_the_first_one_is_when_it_is_chosen_again(bench, work):
    bench.segment()
    bench.drag(SubRegion.ET, 4)
    first = bench.state.inputs()
    bench.state.setInputs(addVolumes(bench.scene, fake_case(seed=1)[0]))
    assert work.lostBySegmenting() == ""
    bench.segment()
    bench.state.setInputs(first)
    assert "replaces the boxes" in work.lostBySegmenting()


def test_leaving_is_asked_about_until_what_is_there_was_exported(bench, work):
    bench.segment()
    assert "not exported" in work.lostByLeaving()
    work.exported()
    assert work.lostByLeaving() == ""
    bench.drag(SubRegion.ET, 4)
    assert "not exported" in work.lostByLeaving()
