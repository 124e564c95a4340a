"""Saving, reopening, closing, cancelling: nothing is lost and nothing half done stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fakes import ThresholdPredictor
from mrml_tools import Bench, digest
from sofa_engine.errors import SofaError
from sofa_engine.types import SUB_REGIONS, Box, Modality, SubRegion
from SOFASegmentLib import Phase, SceneState
from SOFASegmentLib.scene_state import nodesByClass


def _reopened(bench: Bench, app, tmp_path: Path, suffix: str) -> Bench:
    bench.controller.close()
    if suffix == ".mrml":
        folder = tmp_path / "case"
        folder.mkdir()
        assert app.app_logic.SaveSceneToSlicerDataBundleDirectory(str(folder), None)
        (path,) = folder.glob("*.mrml")
    else:
        path = tmp_path / "case.mrb"
        app.io_manager.write_scene(path)
    bench.scene.Clear(True)
    app.io_manager.load_scene(path)
    state = SceneState.fromScene(bench.scene)
    return Bench(bench.scene, state.inputs(), lambda _case: ThresholdPredictor())


@pytest.mark.parametrize("suffix", [".mrb", ".mrml"])
def test_a_saved_scene_is_opened_and_dragged_on(bench: Bench, app, tmp_path: Path, suffix: str):
    bench.segment()
    bench.drag(SubRegion.ET, 5)
    bench.controller.setLocked(SubRegion.NCR, True)
    painted = Box((20, 60, 20), (23, 64, 24))
    bench.paint(SubRegion.ED, painted)
    bench.run()
    labels, boxes = bench.labels(), {r: bench.boxes(r) for r in SUB_REGIONS}

    again = _reopened(bench, app, tmp_path, suffix)
    assert set(again.nodes) == set(Modality)
    again.controller.resume()
    again.run()

    assert again.failures == []
    assert again.controller.phase is Phase.READY
    assert np.array_equal(again.labels(), labels)
    assert np.array_equal(again.session.labels(), labels)
    assert {r: again.boxes(r) for r in SUB_REGIONS} == boxes == again.session.boxes()
    assert again.controller.isLocked(SubRegion.NCR)
    assert not again.controller.canUndo

    again.drag(SubRegion.ET, -3)
    after = again.labels()
    assert not np.array_equal(after, labels)
    assert np.array_equal(after == SubRegion.NCR.label, labels == SubRegion.NCR.label)
    assert (after[painted.slices] == SubRegion.ED.label).all()
    again.controller.undo()
    again.run()
    assert np.array_equal(again.labels(), labels)
    again.controller.close()


def test_quick_undos_of_a_scene_that_was_gone_on_with_stop_at_what_was_saved(bench: Bench):
    bench.segment()
    bench.drag(SubRegion.ET, 5)
    bench.paint(SubRegion.ED, Box((20, 60, 20), (23, 64, 24)))
    bench.run()
    saved, boxes = bench.labels(), bench.session.boxes()
    bench.controller.close()
    again = Bench(bench.scene, bench.nodes, bench.makePredictor)
    again.controller.resume()
    again.run()
    again.drag(SubRegion.ET, -3)
    dragged = again.labels()
    for _ in range(3):
        again.controller.undo()
    again.run()
    assert np.array_equal(again.labels(), saved)
    assert again.session.boxes() == boxes
    for _ in range(3):
        again.controller.redo()
    again.run()
    assert np.array_equal(again.labels(), dragged)
    assert again.controller.canUndo and not again.controller.canRedo
    again.controller.close()


def test_a_change_after_saving_is_offered_for_saving(bench: Bench, tmp_path: Path):
    bench.segment()
    node = bench.segmentation
    node.AddDefaultStorageNode()
    storage, copy = node.GetStorageNode(), bench.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage.SetFileName(str(tmp_path / "work.seg.nrrd"))

    def saved() -> None:
        # Writing a segmentation lays its labelmaps together, and taking them apart again would count as a change. What
        # is written here is a copy, so that only what SOFA says counts.
        copy.Copy(node)
        assert storage.WriteData(copy)
        assert not node.GetModifiedSinceRead()

    saved()
    bench.drag(SubRegion.ET, 5)
    assert node.GetModifiedSinceRead()
    saved()
    bench.controller.undo()
    bench.run()
    assert node.GetModifiedSinceRead()


def test_a_sequence_that_is_added_later_does_not_lose_the_work(bench: Bench, app, tmp_path: Path):
    nodes = bench.nodes
    bench.state.setInputs({m: nodes[m] for m in (Modality.T1, Modality.FLAIR)})
    bench.segment()
    bench.drag(SubRegion.ED, -4)
    labels, boxes = bench.labels(), {r: bench.boxes(r) for r in SUB_REGIONS}
    assert labels.any()

    again = _reopened(bench, app, tmp_path, ".mrb")
    segmentation = again.segmentation
    named = {node.GetName(): node for node in nodesByClass(again.scene, "vtkMRMLScalarVolumeNode")}
    again.state.setInputs({**again.state.inputs(), Modality.T1C: named["Patient_t1c"]})
    again.controller.resume()
    again.run()

    assert again.failures == []
    assert again.segmentation is segmentation
    assert again.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    assert again.controller.live.volumeNode is again.state.reference() is named["Patient_flair"]
    assert again.session.modalities == (Modality.T1, Modality.T1C, Modality.FLAIR)
    assert np.array_equal(again.labels(), labels)
    assert np.array_equal(again.session.labels(), labels)
    assert {r: again.boxes(r) for r in SUB_REGIONS} == boxes
    again.controller.close()


def test_there_is_nothing_to_go_on_with_in_an_empty_scene(bench: Bench):
    bench.controller.resume()
    assert bench.failures == ["The scene holds no segmentation to go on with; press Segment to start one."]


def test_closing_the_scene_while_segmenting_ends_quietly(bench: Bench):
    bench.controller.segment()
    bench.scheduler.step()
    bench.scene.Clear(False)
    bench.run()
    assert bench.controller.phase is Phase.IDLE
    assert bench.failures == []
    assert bench.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_closing_the_scene_while_refining_ends_quietly_and_frees_the_model(bench: Bench):
    bench.segment()
    roi = bench.roi(SubRegion.ET)
    bench.grab(roi)
    bench.grow(roi, 5)
    bench.letGo(roi)
    bench.scheduler.step()
    bench.scheduler.step()
    bench.scene.Clear(False)
    bench.run()
    assert bench.controller.phase is Phase.IDLE
    assert bench.failures == []
    assert bench.predictors[-1].released


def test_cancelling_the_first_pass_leaves_an_untouched_scene(bench: Bench):
    before = digest(bench.nodes.values()), bench.scene.GetNumberOfNodes()
    bench.controller.segment()
    assert bench.controller.phase is Phase.RUNNING
    bench.controller.cancel()
    bench.run()
    assert bench.controller.phase is Phase.IDLE
    assert bench.failures == []
    assert (digest(bench.nodes.values()), bench.scene.GetNumberOfNodes()) == before


def test_cancelling_a_second_first_pass_keeps_the_first_result(bench: Bench):
    bench.segment()
    bench.drag(SubRegion.ET, 5)
    labels = bench.labels()
    bench.controller.segment()
    bench.controller.cancel()
    bench.run()
    assert bench.controller.phase is Phase.READY
    assert np.array_equal(bench.labels(), labels)
    bench.controller.undo()
    bench.run()
    assert not np.array_equal(bench.labels(), labels)


def test_cancelling_a_refinement_brings_box_and_voxels_back(bench: Bench):
    bench.segment()
    labels, boxes = bench.labels(), bench.boxes(SubRegion.ET)
    roi = bench.roi(SubRegion.ET)
    bench.grab(roi)
    bench.grow(roi, 5)
    bench.letGo(roi)
    bench.scheduler.step()
    bench.controller.cancel()
    bench.run()
    assert np.array_equal(bench.labels(), labels)
    assert bench.boxes(SubRegion.ET) == boxes


def test_segmenting_again_encodes_only_what_changed(bench: Bench):
    bench.segment()
    bench.segment()
    assert len(bench.sessions) == 1
    assert bench.predictors[0].encoded == 1
    bench.state.setInputs({m: n for m, n in bench.nodes.items() if m is not Modality.T2})
    bench.segment()
    assert len(bench.sessions) == 2
    assert bench.predictors[0].released
    assert any("Without T2" in warning for warning in bench.warnings)


def test_an_engine_that_dies_while_refining_is_reported_and_leaves_the_scene_as_it_was(bench: Bench, monkeypatch):
    bench.segment()
    labels, boxes = bench.labels(), bench.boxes(SubRegion.ET)

    def dies(*_args, **_kwargs):
        raise SofaError("The engine stopped; press Segment to start it again.")

    monkeypatch.setattr(bench.session, "refine", dies)
    bench.drag(SubRegion.ET, 5)
    assert bench.failures == ["The engine stopped; press Segment to start it again."]
    assert np.array_equal(bench.labels(), labels)
    assert bench.boxes(SubRegion.ET) == boxes


def test_an_unforeseen_error_becomes_a_sentence(bench: Bench, monkeypatch):
    bench.segment()
    monkeypatch.setattr(bench.session, "undo", lambda: 1 / 0)
    bench.drag(SubRegion.ET, 5)
    bench.controller.undo()
    bench.run()
    assert len(bench.failures) == 1
    assert "division by zero" in bench.failures[0]
    assert bench.controller.phase is Phase.READY


@pytest.mark.parametrize("steps", [0, 1])
def test_deleting_the_only_volume_while_it_is_segmented_ends_the_run(bench: Bench, steps: int):
    bench.state.setInputs({Modality.T1C: bench.nodes[Modality.T1C]})
    bench.controller.segment()
    for _ in range(steps):
        bench.scheduler.step()
    bench.scene.RemoveNode(bench.nodes[Modality.T1C])
    assert bench.controller.phase is Phase.IDLE
    bench.run()
    assert bench.controller.phase is Phase.IDLE
    assert bench.failures == []
    assert bench.warnings == [
        "Patient_t1c was removed from the scene while it was segmented; choose the volumes again and press Segment."
    ]
    assert bench.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert all(predictor.released for predictor in bench.predictors)


def test_deleting_a_volume_while_it_is_segmented_again_keeps_the_result(bench: Bench):
    bench.segment()
    labels = bench.labels()
    bench.controller.segment()
    bench.scene.RemoveNode(bench.nodes[Modality.T2])
    bench.run()
    assert bench.controller.phase is Phase.READY
    assert np.array_equal(bench.labels(), labels)
    assert "Patient_t2 was removed" in bench.warnings[-1]


def test_other_volumes_chosen_behind_the_panels_back_do_not_get_the_result(bench: Bench):
    bench.controller.segment()
    bench.state.setInputs({Modality.FLAIR: bench.nodes[Modality.FLAIR]})
    bench.run()
    assert bench.controller.phase is Phase.IDLE
    assert bench.failures == ["The chosen volumes changed while they were segmented; press Segment again."]
    assert bench.predictors[-1].released


def test_a_result_that_cannot_be_shown_is_a_sentence_and_segment_works_again(bench: Bench, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("SOFASegmentLib.controller.LiveCase", lambda *_args, **_kwargs: 1 / 0)
        bench.controller.segment()
        bench.run()
    assert bench.controller.phase is Phase.IDLE
    assert "division by zero" in bench.failures.pop()
    assert bench.predictors[-1].released
    bench.segment()
    assert bench.controller.phase is Phase.READY


@pytest.mark.parametrize("what", ["segmentation", "reference volume"])
def test_removing_a_node_that_is_needed_is_noticed(bench: Bench, what: str):
    bench.segment()
    node = bench.segmentation if what == "segmentation" else bench.nodes[Modality.T1C]
    bench.scene.RemoveNode(node)
    bench.run()
    assert bench.controller.phase is Phase.IDLE
    assert f"The {what} was removed from the scene; press Segment to start again." in bench.warnings


def test_wrong_choices_are_refused_with_a_sentence(bench: Bench):
    bench.state.setInputs({})
    bench.controller.segment()
    bench.state.setInputs({Modality.T1: bench.nodes[Modality.T2], Modality.T2: bench.nodes[Modality.T2]})
    bench.controller.segment()
    assert bench.failures == [
        "No volume is chosen; choose at least one of T1, T1c, T2 and FLAIR.",
        "Patient_t2 is chosen as both T1 and T2; choose another volume for one.",
    ]
    assert bench.controller.phase is Phase.IDLE
