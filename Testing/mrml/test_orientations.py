"""Volumes of any orientation, spacing and transform: boxes are tight, results lie on the volume's own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import slicer
import vtk

from fakes import FAKE_SHAPE, fake_case
from mrml_tools import Bench
from sofa_engine.errors import OutputError
from sofa_engine.geometry import Geometry
from sofa_engine.types import SUB_REGIONS, Box, Modality, SubRegion
from SOFASegmentLib import Phase, export
from SOFASegmentLib.geometry import boxOfRoi, localGeometry, placeRoi
from SOFASegmentLib.scene_state import CONFIDENCE

_CASE, _TRUTH = fake_case()


def _turned(degrees: float, axis: int) -> np.ndarray:
    angle = np.radians(degrees)
    a, b = [i for i in range(3) if i != axis]
    matrix = np.eye(4)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix


def _grid(directions: np.ndarray, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Geometry:
    """A grid around the middle of the synthetic patient; spacing and shape in (x, y, z) and (D, H, W)."""
    middle = _CASE.geometry.index_to_ras((np.array(FAKE_SHAPE) - 1) / 2)
    matrix = np.eye(4)
    matrix[:3, :3] = directions[:3, :3] * np.array(spacing)
    matrix[:3, 3] = middle - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Geometry.from_matrix(shape, matrix)


_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_GRIDS = {
    "RAS": _grid(np.diag([1.0, 1.0, 1.0, 1.0]), (1, 1, 1), (44, 72, 64)),
    "mirrored (left-handed)": _grid(np.diag([1.0, -1.0, 1.0, 1.0]), (1, 1, 1), (44, 72, 64)),
    "upside down": _grid(np.diag([-1.0, -1.0, -1.0, 1.0]), (1, 1, 1), (44, 72, 64)),
    "sagittal": _grid(np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]]), (1, 1, 1), (64, 44, 72)),
    "coronal": _grid(np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]]), (1, 1, 1), (72, 44, 64)),
    "tilted by 15 degrees": _grid(_turned(15, 0) @ _LPS, (1, 1, 1), (50, 80, 70)),
    "tilted by 40 degrees": _grid(_turned(40, 0) @ _LPS, (1, 1, 1), (70, 90, 70)),
    "thick slices": _grid(_LPS, (1, 1, 4), (11, 72, 64)),
    "fine in plane": _grid(_LPS, (0.6, 0.6, 1.0), (44, 120, 108)),
}


@pytest.mark.parametrize("name", _GRIDS)
def test_the_tumour_is_found_boxed_and_put_back_on_the_volumes_own_grid(benchOn, name: str):
    geometry = _GRIDS[name]
    bench: Bench = benchOn(geometry)
    bench.segment()

    labels = bench.labels()
    assert labels.shape == geometry.shape
    centre = np.argwhere(labels > 0).mean(axis=0)
    where = geometry.index_to_ras(centre)
    truth = _CASE.geometry.index_to_ras(np.argwhere(_TRUTH > 0).mean(axis=0))
    assert np.abs(where - truth).max() < 3
    for subRegion in SUB_REGIONS:
        boxes = bench.session.boxes()[subRegion]
        assert bench.boxes(subRegion) == boxes
        for node in bench.state.boxNodes(subRegion):
            assert np.linalg.det(slicer.util.arrayFromVTKMatrix(node.GetObjectToNodeMatrix())[:3, :3]) == pytest.approx(
                1
            )


@pytest.mark.parametrize("name", _GRIDS)
def test_a_drag_changes_voxels_inside_the_box_alone_on_any_grid(benchOn, name: str):
    geometry = _GRIDS[name]
    bench: Bench = benchOn(geometry)
    bench.segment()
    before = bench.labels()

    bench.drag(SubRegion.ET, 5)

    after = bench.labels()
    (box,) = bench.boxes(SubRegion.ET)
    changed = np.argwhere(after != before)
    assert (after == SubRegion.ET.label).sum() > (before == SubRegion.ET.label).sum()
    inSession = bench.controller.live.grids.working.ras_to_index(geometry.index_to_ras(changed))
    reach = 0.5 if not bench.controller.live.grids.grid.resampled else 1.5
    assert np.all(inSession >= np.array(box.lower) - reach)
    assert np.all(inSession <= np.array(box.upper) - 1 + reach)

    bench.controller.undo()
    bench.run()
    assert np.array_equal(bench.labels(), before)


@pytest.mark.parametrize("name", ["RAS", "upside down", "coronal", "sagittal", "tilted by 15 degrees"])
def test_the_position_of_a_slice_is_what_the_slice_view_says_that_shows_it(benchOn, name: str):
    bench: Bench = benchOn(_GRIDS[name])
    bench.segment()
    views = {}
    for axis, turn in (("R", "Sagittal"), ("A", "Coronal"), ("S", "Axial")):
        views[axis] = bench.scene.AddNewNodeByClass("vtkMRMLSliceNode", turn)
        views[axis].SetLayoutName(turn)
        getattr(views[axis], f"SetOrientationTo{turn}")()
    for index in (box.lower[0] for box in bench.boxes(SubRegion.ED)):
        bench.controller.jumpToSlice(index)
        axis, position = bench.controller.slicePosition(index).split(": ")
        assert float(position.removesuffix(" mm")) == pytest.approx(views[axis].GetSliceOffset(), abs=0.051)


@pytest.mark.parametrize("name", ["RAS", "mirrored (left-handed)", "tilted by 15 degrees", "thick slices"])
def test_a_box_is_tight_to_the_volumes_own_axes(scene, name: str):
    geometry = _GRIDS[name]
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    box = Box((3, 10, 20), (9, 31, 25))
    placeRoi(roi, box, geometry)
    assert sorted(roi.GetSize()) == pytest.approx(sorted(np.array(box.shape) * geometry.spacing))
    assert boxOfRoi(roi, volume, geometry) == box


def test_a_volume_under_a_transform_is_segmented_where_it_stands(scene, benchOn):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = _turned(12, 2)
    matrix[:3, 3] = (30, -20, 10)
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    bench: Bench = benchOn(transform=transform)
    bench.segment()

    assert np.allclose(bench.session.geometry.matrix, matrix @ _CASE.geometry.matrix)
    assert bench.segmentation.GetParentTransformNode() is transform
    (box,) = bench.boxes(SubRegion.ET)
    middle = _CASE.geometry.index_to_ras((np.array(box.lower) + np.array(box.upper) - 1) / 2)
    assert np.allclose(bench.roi(SubRegion.ET).GetCenterWorld(), (matrix @ [*middle, 1])[:3], atol=0.01)

    before = bench.labels()
    bench.drag(SubRegion.ET, 5)
    assert (bench.labels() == 4).sum() > (before == 4).sum()


def test_moving_the_whole_patient_by_a_transform_changes_nothing(scene, benchOn):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    bench: Bench = benchOn(transform=transform)
    bench.segment()
    before, boxes = bench.labels(), bench.boxes(SubRegion.ED)
    matrix = np.eye(4)
    matrix[0, 3] = 25
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    bench.run()
    assert bench.boxes(SubRegion.ED) == boxes
    assert np.array_equal(bench.labels(), before)
    assert not bench.controller.canUndo


@pytest.mark.parametrize("live", [True, False])
def test_volumes_put_under_a_transform_take_the_result_along(scene, benchOn, live: bool):
    bench: Bench = benchOn()
    bench.segment()
    bench.controller.setConfidenceVisible(True)
    bench.run()
    bench.controller.setLocked(SubRegion.NCR, True)
    before, boxes = bench.labels(), bench.session.boxes()
    if not live:
        bench.controller.close()
    transform, matrix = _placed(scene, bench)
    if not live:
        bench = Bench(scene, bench.nodes, bench.makePredictor)
        bench.controller.resume()
    bench.run()

    results = [bench.segmentation, bench.state.get(CONFIDENCE), *(bench.roi(r) for r in SUB_REGIONS)]
    assert [node.GetParentTransformNode() for node in results] == [transform] * len(results)
    assert np.array_equal(bench.labels(), before)
    assert {r: bench.boxes(r) for r in SUB_REGIONS} == boxes == bench.session.boxes()
    assert not bench.controller.canUndo
    assert bench.failures == []

    bench.segment()
    assert [node.GetParentTransformNode() for node in results] == [transform] * len(results)
    assert np.allclose(bench.session.geometry.matrix, matrix @ _CASE.geometry.matrix)
    bench.controller.close()


def _placed(scene, bench: Bench) -> tuple[Any, np.ndarray]:
    """Put the volumes under a transform that moves and turns; returns it and its matrix."""
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = _turned(20, 1)
    matrix[:3, 3] = (5, 30, -10)
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    for volume in bench.nodes.values():
        volume.SetAndObserveTransformNodeID(transform.GetID())
    bench.run()
    return transform, matrix


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("everything", [True, False])
def test_a_transform_hardened_on_the_volumes_leaves_the_result_in_place(
    scene, benchOn, tmp_path: Path, live: bool, everything: bool
):
    bench: Bench = benchOn()
    bench.segment()
    bench.controller.setConfidenceVisible(True)
    transform, matrix = _placed(scene, bench)
    before, boxes = bench.labels(), bench.session.boxes()
    results = [bench.segmentation, bench.state.get(CONFIDENCE), *(bench.roi(r) for r in SUB_REGIONS)]
    centres = [bench.roi(r).GetCenterWorld() for r in SUB_REGIONS]
    if not live:
        bench.controller.close()
    for node in (*bench.nodes.values(), *(results if everything else ())):
        node.HardenTransform()
    if not live:
        bench = Bench(scene, bench.nodes, bench.makePredictor)
        bench.controller.resume()
    bench.run()

    assert np.array_equal(bench.labels(), before)
    assert np.allclose([bench.roi(r).GetCenterWorld() for r in SUB_REGIONS], centres, atol=0.01)
    assert {r: bench.boxes(r) for r in SUB_REGIONS} == boxes == bench.session.boxes()
    assert not bench.controller.canUndo
    image = nib.load(export.writeLabels(bench.controller, tmp_path / "a.nii.gz"))
    assert np.allclose(image.affine, matrix @ _CASE.geometry.matrix)
    assert np.array_equal(np.asarray(image.dataobj).T, before)

    bench.drag(SubRegion.ET, 5)
    assert (bench.labels() == 4).sum() > (before == 4).sum()
    bench.nodes[Modality.T1C].SetAndObserveTransformNodeID(transform.GetID())
    assert [node.GetParentTransformNode() for node in results] == [transform] * len(results)
    assert bench.failures == []
    bench.controller.close()


def test_a_transform_hardened_on_the_segmentation_alone_is_no_painting(scene, benchOn, tmp_path: Path):
    bench: Bench = benchOn()
    bench.segment()
    _placed(scene, bench)
    before = bench.labels()
    bench.segmentation.HardenTransform()
    bench.drag(SubRegion.ET, 5)
    bench.controller.undo()
    bench.run()
    assert not bench.controller.canUndo
    assert np.array_equal(bench.session.labels(), before)
    image = nib.load(export.writeLabels(bench.controller, tmp_path / "a.nii.gz"))
    assert np.allclose(image.affine, _CASE.geometry.matrix)
    assert np.array_equal(np.asarray(image.dataobj).T, before)


@pytest.mark.parametrize("live", [True, False])
def test_a_result_that_its_volume_was_moved_away_from_is_not_saved_until_it_is_segmented_again(
    scene, benchOn, tmp_path: Path, live: bool
):
    bench: Bench = benchOn()
    bench.segment()
    volume = bench.nodes[Modality.T1C]
    sentence = (
        "Patient_t1c SOFA segmentation does not lie on Patient_t1c any more; put back the one that was moved, or press"
        " Segment to segment Patient_t1c again."
    )
    if not live:
        bench.controller.close()
        bench = Bench(scene, bench.nodes, bench.makePredictor)
    # As "Center volume" does it: without a transform.
    for node in bench.nodes.values():
        node.SetOrigin(31, 35.5, -21.5)
    if live:
        with pytest.raises(OutputError, match=sentence):
            export.writeLabels(bench.controller, tmp_path / "a.nii.gz")
        assert list(tmp_path.iterdir()) == []
    else:
        bench.controller.resume()
        bench.run()
        assert bench.failures == [sentence]
        assert bench.controller.phase is Phase.IDLE
        bench.failures.clear()

    bench.segment()
    image = nib.load(export.writeLabels(bench.controller, tmp_path / "a.nii.gz"))
    assert np.allclose(image.affine, localGeometry(volume).matrix)
    assert np.array_equal(np.asarray(image.dataobj).T, bench.session.labels())
    assert {r: bench.boxes(r) for r in SUB_REGIONS} == bench.session.boxes()
    bench.controller.close()


def test_a_finer_geometry_of_segment_editor_keeps_the_result_on_its_volume(benchOn, tmp_path: Path):
    bench: Bench = benchOn()
    bench.segment()
    before = bench.labels()
    logic = slicer.vtkSlicerSegmentationGeometryLogic()
    logic.SetInputSegmentationNode(bench.segmentation)
    logic.SetSourceGeometryNode(bench.nodes[Modality.T1C])
    logic.SetOversamplingFactor(2)
    assert logic.CalculateOutputGeometry() == ""
    logic.SetReferenceImageGeometryInSegmentationNode()
    assert np.array_equal(
        np.asarray(nib.load(export.writeLabels(bench.controller, tmp_path / "a.nii.gz")).dataobj).T, before
    )


def test_a_bending_transform_is_refused_with_a_sentence(scene, benchOn):
    bench: Bench = benchOn()
    node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    grid = slicer.vtkOrientedGridTransform()
    displacement = vtk.vtkImageData()
    displacement.SetDimensions(3, 3, 3)
    displacement.AllocateScalars(vtk.VTK_DOUBLE, 3)
    displacement.GetPointData().GetScalars().Fill(1.0)
    grid.SetDisplacementGridData(displacement)
    node.SetAndObserveTransformFromParent(grid)
    for volume in bench.nodes.values():
        volume.SetAndObserveTransformNodeID(node.GetID())
    bench.controller.segment()
    bench.run()
    assert len(bench.failures) == 1
    assert "harden the transform" in bench.failures[0]
