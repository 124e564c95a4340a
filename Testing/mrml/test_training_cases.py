"""The case that the user has just corrected becomes a case of the dataset, and nothing there is ever overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

from fakes import fake_case
from mrml_tools import Bench, addVolumes, digest
from sofa_engine.errors import SofaError
from sofa_engine.itk_images import geometry_of
from sofa_engine.types import SUB_REGIONS, Box, Modality, SubRegion
from sofa_training.cases import find_cases
from sofa_training.checks import check_cases
from sofa_training.subjects import subject_of
from SOFASegmentLib.geometry import localGeometry, worldGeometry
from SOFASegmentLib.segments import Segments, createSegmentationNode
from SOFATrainingLib.case_folder import addCase, proposedName


@pytest.fixture
def nodes(scene: Any) -> dict[Modality, Any]:
    return addVolumes(scene, fake_case()[0])


@pytest.fixture
def truth(nodes: dict[Modality, Any]) -> Any:
    volume = nodes[Modality.T1C]
    node = createSegmentationNode(volume)
    labels = fake_case()[1]
    Segments(node, localGeometry(volume)).write(Box((0, 0, 0), labels.shape), labels)
    return node


def readLabels(folder: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{folder.name}_seg.nii.gz")))


def test_a_corrected_case_is_written_so_that_training_finds_nothing_wrong_with_it(bench: Bench, tmp_path: Path):
    bench.segment()
    painted = Box((20, 60, 20), (23, 64, 24))
    bench.paint(SubRegion.ED, painted)
    bench.run()
    before = digest(bench.nodes.values())
    folder = addCase(tmp_path / "cases", "Patient 1 (Müller)", bench.nodes, bench.segmentation)
    assert folder.name == "Patient_1_M_ller"
    assert np.array_equal(readLabels(folder), bench.labels())
    assert (readLabels(folder)[painted.slices] == SubRegion.ED.label).all()
    (case,) = find_cases(tmp_path / "cases")
    assert set(case.images) == set(Modality)
    assert check_cases([case]) == ()
    assert digest(bench.nodes.values()) == before
    assert [path.name for path in (tmp_path / "cases").iterdir()] == [folder.name]


def test_images_and_truth_lie_where_the_scene_shows_them(scene: Any, tmp_path: Path):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    turn = vtk.vtkTransform()
    turn.RotateZ(30)
    turn.Translate(10, -20, 5)
    transform.SetMatrixTransformToParent(turn.GetMatrix())
    nodes = addVolumes(scene, fake_case()[0], transform=transform)
    volume = nodes[Modality.T1C]
    node = createSegmentationNode(volume)
    labels = fake_case()[1]
    Segments(node, localGeometry(volume)).write(Box((0, 0, 0), labels.shape), labels)
    folder = addCase(tmp_path, "turned", nodes, node)
    for suffix in ("t1", "t1ce", "t2", "flair", "seg"):
        image = sitk.ReadImage(str(folder / f"turned_{suffix}.nii.gz"))
        assert geometry_of(image).same_grid(worldGeometry(volume), 0.01), suffix
    t1c = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "turned_t1ce.nii.gz")))
    assert np.allclose(t1c, slicer.util.arrayFromVolume(volume))
    assert np.array_equal(readLabels(folder), labels)


def test_segments_that_somebody_named_after_the_sub_regions_are_understood(nodes: Any, scene: Any, tmp_path: Path):
    labels = fake_case()[1]
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetReferenceImageGeometryParameterFromVolumeNode(nodes[Modality.T1C])
    segments = Segments(node, localGeometry(nodes[Modality.T1C]))
    segments.write(Box((0, 0, 0), labels.shape), labels)
    for subRegion, name in zip(SUB_REGIONS, ("Necrosis", " edema", "ENHANCING TUMOR"), strict=True):
        segment = node.GetSegmentation().GetSegment(segments.segmentId(subRegion))
        segment.RemoveTag("SOFA.subRegion")
        segment.SetName(name)
    assert np.array_equal(readLabels(addCase(tmp_path, "byhand", nodes, node)), labels)


def test_a_case_of_the_same_name_stays_as_it_is(nodes: Any, truth: Any, tmp_path: Path):
    first = addCase(tmp_path, "one", nodes, truth)
    files = {path.name: path.read_bytes() for path in first.iterdir()}
    Segments(truth, localGeometry(nodes[Modality.T1C])).write(
        Box((0, 0, 0), (1, 1, 1)), np.full((1, 1, 1), 2, np.uint8)
    )
    with pytest.raises(SofaError, match="has a case one already, which stays as it is; choose another name"):
        addCase(tmp_path, "one", nodes, truth)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    nodes[Modality.T1C].SetName("one_t1c")
    assert proposedName(tmp_path, nodes[Modality.T1C]) == "one_case2"
    assert proposedName(None, nodes[Modality.T1C]) == "one"
    assert subject_of("one_case2", ["one", "one_case2"]) == "one"


def without(nodes: dict[Modality, Any], modality: Modality) -> dict[Modality, Any]:
    return {m: node for m, node in nodes.items() if m is not modality}


def test_what_cannot_be_a_case_is_refused_with_a_sentence_and_leaves_nothing(nodes: Any, truth: Any, tmp_path: Path):
    def refused(sentence: str, *, name: str = "one", volumes: Any = nodes, segmentation: Any = truth) -> None:
        with pytest.raises(SofaError, match=sentence):
            addCase(tmp_path / "cases", name, volumes, segmentation)
        assert not (tmp_path / "cases").exists()

    refused("Training needs all four sequences, and T2 is not chosen.", volumes=without(nodes, Modality.T2))
    refused("Give the case a name", name=" ... ")
    refused("Choose the segmentation that is the truth", segmentation=None)
    empty = createSegmentationNode(nodes[Modality.T1C])
    refused("are empty; draw the tumour first", segmentation=empty)
    empty.GetSegmentation().RemoveAllSegments()
    refused("has no segment for a sub-region; name its segments Necrotic core", segmentation=empty)
    transform = empty.GetScene().AddNewNodeByClass("vtkMRMLLinearTransformNode")
    truth.SetAndObserveTransformNodeID(transform.GetID())
    refused("are under different transforms")
    truth.SetAndObserveTransformNodeID(None)
    nodes[Modality.FLAIR].SetSpacing(1, 1, 2)
    refused("another grid")


def test_one_patients_volumes_are_not_written_with_anothers_truth(nodes: Any, truth: Any, scene: Any, tmp_path: Path):
    others = addVolumes(scene, fake_case(seed=1)[0])
    with pytest.raises(SofaError, match="was drawn on Patient_t1c, which is none of the four volumes"):
        addCase(tmp_path / "cases", "two", others, truth)
    assert not (tmp_path / "cases").exists()
    truth.SetReferenceImageGeometryParameterFromVolumeNode(others[Modality.T1C])
    assert addCase(tmp_path / "cases", "two", others, truth).is_dir(), "what the sentence advises helps"
    truth.SetNodeReferenceID(truth.GetReferenceImageGeometryReferenceRole(), None)
    assert addCase(tmp_path / "cases", "three", nodes, truth).is_dir(), "a truth that tells nothing is believed"


def test_a_dataset_in_another_layout_is_refused_where_the_case_would_not_be_found(
    nodes: Any, truth: Any, tmp_path: Path
):
    (tmp_path / "dataset.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SofaError, match=r"has a dataset.json, .* would never be found; choose another folder"):
        addCase(tmp_path, "one", nodes, truth)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]


def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(nodes: Any, truth: Any, tmp_path: Path):
    (tmp_path / "cases").write_text("a file, not a folder", encoding="utf-8")
    with pytest.raises(SofaError, match="cannot be written"):
        addCase(tmp_path / "cases", "one", nodes, truth)
