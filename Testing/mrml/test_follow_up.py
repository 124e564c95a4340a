"""Two studies in one scene, as in a follow-up: each keeps its own segmentation, boxes and locks."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import ThresholdPredictor, fake_case
from mrml_tools import Bench, addVolumes
from sofa_engine.types import SUB_REGIONS, Modality, SubRegion
from SOFASegmentLib import Phase, SceneState
from SOFASegmentLib.scene_state import SEGMENTATION, nodesByClass


def _second(bench: Bench) -> dict[Modality, Any]:
    """A later study: other volumes of the same scene."""
    return addVolumes(bench.scene, fake_case(seed=1)[0])


def _rois(bench: Bench) -> list[Any]:
    return [node for subRegion in SUB_REGIONS for node in bench.state.boxNodes(subRegion)]


def _shown(*nodes: Any) -> set[bool]:
    return {bool(node.GetDisplayVisibility()) for node in nodes}


def _saved(bench: Bench, app, folder: Path) -> Path:
    """Save the scene as an .mrb and unpack it, so that it can be added to another scene; returns the .mrml."""
    path = folder / "case.mrb"
    app.io_manager.write_scene(path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "unpacked")
    (scene,) = (folder / "unpacked").rglob("*.mrml")
    return scene


def _add(scene: Any, path: Path) -> None:
    scene.SetRootDirectory(str(path.parent))
    scene.SetURL(str(path))
    assert scene.Import()


def _likeAnOlderVersion(bench: Bench) -> None:
    """Keep boxes and locks where versions before kept them: on the parameter node."""
    segmentation, node = bench.segmentation, bench.state.node
    for subRegion in SUB_REGIONS:
        role = f"SOFA.box.{subRegion.value}"
        for roi in bench.state.boxNodes(subRegion):
            node.AddNodeReferenceID(role, roi.GetID())
        segmentation.RemoveNodeReferenceIDs(role)
    node.SetParameter("SOFA.locked", segmentation.GetAttribute("SOFA.locked") or "")
    segmentation.RemoveAttribute("SOFA.locked")


def test_a_follow_up_has_boxes_and_locks_of_its_own_and_the_first_study_is_gone_on_with(bench: Bench):
    first, second = bench.nodes, _second(bench)
    bench.segment()
    bench.drag(SubRegion.ET, 5)
    bench.controller.setLocked(SubRegion.NCR, True)
    before, boxes, work, rois = bench.labels(), bench.session.boxes(), bench.segmentation, _rois(bench)

    bench.state.setInputs(second)
    assert bench.state.chosenSegmentation() is None
    assert not bench.controller.canResume
    bench.segment()
    assert bench.segmentation is not work
    assert not set(_rois(bench)) & set(rois)
    assert not bench.state.locked and not any(roi.GetLocked() for roi in _rois(bench))
    assert _shown(work, *rois) == {False} and _shown(bench.segmentation, *_rois(bench)) == {True}
    later, laterRois = bench.segmentation, _rois(bench)
    bench.drag(SubRegion.ED, -4)

    bench.state.setInputs(first)
    assert bench.controller.canResume
    assert bench.segmentation is later
    bench.controller.resume()
    bench.run()
    assert bench.failures == []
    assert bench.segmentation is work and _rois(bench) == rois
    assert bench.state.locked == {SubRegion.NCR}
    assert np.array_equal(bench.labels(), before)
    assert {r: bench.boxes(r) for r in SUB_REGIONS} == boxes == bench.session.boxes()
    assert _shown(later, *laterRois) == {False} and _shown(work, *rois) == {True}
    assert bench.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2

    bench.drag(SubRegion.ET, -3)
    assert not np.array_equal(bench.labels(), before)
    assert bench.failures == []


def test_a_drag_of_the_first_studys_box_while_the_other_is_segmented_does_not_reach_the_other(bench: Bench):
    second = _second(bench)
    bench.segment()
    roi = bench.roi(SubRegion.ET)
    bench.state.setInputs(second)
    bench.controller.segment()
    bench.grab(roi)
    bench.grow(roi, 6)
    bench.letGo(roi)
    bench.run()
    assert bench.failures == []
    assert bench.controller.phase is Phase.READY
    assert {r: bench.boxes(r) for r in SUB_REGIONS} == bench.session.first_boxes()
    assert np.array_equal(bench.labels(), bench.session.labels())


def test_deleting_the_segmentation_that_is_gone_on_with_ends_in_a_sentence(bench: Bench):
    bench.segment()
    work = bench.segmentation
    bench.controller.close()
    again = Bench(bench.scene, bench.nodes, lambda _case: ThresholdPredictor())
    again.controller.resume()
    bench.scene.RemoveNode(work)
    again.run()
    assert again.controller.phase is Phase.IDLE
    assert len(again.failures) == 1
    assert "was removed" in again.failures[0]
    again.controller.close()


def test_giving_up_on_the_other_study_leaves_the_first_one_alive(bench: Bench):
    second = _second(bench)
    bench.segment()
    work, rois = bench.segmentation, _rois(bench)
    bench.state.setInputs(second)
    bench.controller.segment()
    bench.controller.cancel()
    bench.run()
    assert bench.segmentation is work and _rois(bench) == rois
    assert _shown(work, *rois) == {True}
    before = bench.labels()
    bench.drag(SubRegion.ET, 5)
    assert not np.array_equal(bench.labels(), before)


def test_the_figures_of_one_study_are_never_shown_for_the_other(bench: Bench):
    bench.segment()
    assert bench.controller.insights is not None
    known: dict[Phase, Any] = {}
    bench.controller.phaseChanged.connect(lambda phase: known.update({phase: bench.controller.insights}))
    bench.state.setInputs(_second(bench))
    bench.segment()
    assert known[Phase.READY] is None
    assert bench.controller.insights is not None


def test_hidden_boxes_stay_hidden_in_the_other_study(bench: Bench):
    first = bench.nodes
    bench.segment()
    rois = _rois(bench)
    bench.state.setInputs(_second(bench))
    bench.segment()
    bench.controller.setBoxesVisible(False)
    bench.state.setInputs(first)
    bench.controller.resume()
    bench.run()
    assert _rois(bench) == rois and _shown(*rois) == {False}
    assert _shown(bench.segmentation) == {True}


def test_a_scene_of_an_older_version_is_gone_on_with(bench: Bench, app, tmp_path: Path):
    bench.segment()
    bench.drag(SubRegion.ET, 5)
    bench.controller.setLocked(SubRegion.NCR, True)
    before, boxes = bench.labels(), bench.session.boxes()
    _likeAnOlderVersion(bench)
    path = tmp_path / "case.mrb"
    bench.controller.close()
    app.io_manager.write_scene(path)
    bench.scene.Clear(True)
    app.io_manager.load_scene(path)

    state = SceneState.fromScene(bench.scene)
    again = Bench(bench.scene, state.inputs(), lambda _case: ThresholdPredictor())
    again.controller.resume()
    again.run()
    assert again.failures == []
    assert np.array_equal(again.labels(), before)
    assert {r: again.boxes(r) for r in SUB_REGIONS} == boxes == again.session.boxes()
    assert again.state.locked == {SubRegion.NCR}
    again.state.setInputs(_second(again))
    again.segment()
    assert not again.state.locked
    again.controller.close()


def test_boxes_go_with_the_segmentation_that_is_removed(bench: Bench):
    bench.segment()
    bench.scene.RemoveNode(bench.segmentation)
    bench.run()
    assert bench.controller.phase is Phase.IDLE
    assert bench.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 0
    bench.segment()
    assert len(_rois(bench)) == bench.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") >= 3


@pytest.mark.parametrize("older", [False, True])
def test_adding_another_case_lets_go_of_the_live_one_and_both_can_be_gone_on_with(
    bench: Bench, app, tmp_path: Path, older: bool
):
    bench.segment()
    bench.controller.setLocked(SubRegion.ED, True)
    saved = bench.labels()
    if older:
        _likeAnOlderVersion(bench)
    path = _saved(bench, app, tmp_path)
    bench.controller.setLocked(SubRegion.ED, False)
    bench.drag(SubRegion.ET, 5)
    first, work, before, rois = bench.nodes, bench.segmentation, bench.labels(), _rois(bench)

    _add(bench.scene, path)
    bench.run()
    assert bench.controller.phase is Phase.IDLE
    assert bench.warnings == [
        "The added scene has its own volumes chosen; go on with those or choose the former again."
    ]
    assert bench.predictors[-1].released
    assert bench.state.get(SEGMENTATION) is not work and bench.controller.canResume
    bench.controller.resume()
    bench.run()
    assert np.array_equal(bench.labels(), saved)
    assert bench.state.locked == {SubRegion.ED}
    assert not set(_rois(bench)) & set(rois)

    bench.state.setInputs(first)
    bench.controller.resume()
    bench.run()
    assert bench.segmentation is work and _rois(bench) == rois
    assert np.array_equal(bench.labels(), before)
    assert not bench.state.locked
    assert bench.failures == []


def test_adding_a_scene_without_a_case_leaves_the_live_one_alone(bench: Bench, app, tmp_path: Path):
    volumes = list(bench.nodes.values())
    state, bench.state.node = bench.state.node, None
    bench.scene.RemoveNode(state)
    path = _saved(bench, app, tmp_path)
    bench.controller.close()
    bench = Bench(bench.scene, bench.nodes, bench.makePredictor)
    bench.segment()
    before = bench.labels()
    _add(bench.scene, path)
    assert len(nodesByClass(bench.scene, "vtkMRMLScalarVolumeNode")) > len(volumes)
    bench.drag(SubRegion.ET, 5)
    assert bench.warnings == [] and not np.array_equal(bench.labels(), before)
    bench.controller.close()


def test_adding_another_case_while_segmenting_ends_the_run(bench: Bench, app, tmp_path: Path):
    bench.segment()
    path = _saved(bench, app, tmp_path)
    bench.controller.segment()
    assert bench.controller.phase is Phase.RUNNING
    _add(bench.scene, path)
    bench.run()
    assert bench.controller.phase is Phase.IDLE and bench.controller.live is None
    assert len(bench.warnings) == 1 and bench.failures == []
