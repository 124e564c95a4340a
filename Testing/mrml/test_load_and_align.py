"""Volumes find their places, by name, from a folder, and onto one grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from fakes import fake_case
from mrml_tools import Bench, addVolume, digest
from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.itk_images import to_itk
from sofa_engine.types import MODALITIES, Modality
from SOFASegmentLib import SceneState, case_files, sample_data, volumes

_CASE, _ = fake_case()


@pytest.fixture
def caseFolder(tmp_path: Path) -> Path:
    for modality, ending in zip(MODALITIES, ("t1n", "t1c", "t2w", "t2f"), strict=True):
        sitk.WriteImage(to_itk(_CASE.images[modality], _CASE.geometry), str(tmp_path / f"P-001-{ending}.nii.gz"))
    sitk.WriteImage(to_itk(np.ones(_CASE.geometry.shape, np.uint8), _CASE.geometry), str(tmp_path / "P-001-seg.nii.gz"))
    return tmp_path


def test_names_of_nodes_say_which_sequence_they_are(scene):
    names = ["3: AX T1 POST GAD", "BraTS-GLI-00001-000-t2f", "Patient_T2w", "t1_mprage", "localizer t1", "T1 seg"]
    nodes = [addVolume(scene, np.ones((2, 2, 2), np.int16), _CASE.geometry, name) for name in names]
    label = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "t1 labels")
    found = volumes.scalarVolumes(scene)
    assert label not in found
    alone = [next(iter(volumes.guessModalities([node])), None) for node in nodes]
    assert alone == [Modality.T1C, Modality.FLAIR, Modality.T2, Modality.T1, None, None]


def _named(scene, *names: str) -> list:
    return [addVolume(scene, np.ones((2, 2, 2), np.int16), _CASE.geometry, name) for name in names]


def _study(scene, patient: str, study: str, nodes: list) -> None:
    hierarchy = scene.GetSubjectHierarchyNode()
    item = hierarchy.CreateStudyItem(hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), patient), study)
    for node in nodes:
        hierarchy.CreateItem(item, node)


def test_two_patients_are_never_mixed_when_names_are_guessed(scene):
    four = _named(scene, "A-t1n", "A-t1c", "A-t2w", "A-t2f")
    three = _named(scene, "B_T1 post GAD", "B ax T2", "B_FLAIR")
    assert list(volumes.guessModalities([*four, *three]).values()) == four
    again = _named(scene, "A-t1n_1", "A-t1c_1", "A-t2w_1", "A-t2f_1")
    assert list(volumes.guessModalities([*four, *three, *again]).values()) == again, "of equals, the last loaded"


def test_a_study_of_the_subject_hierarchy_says_more_than_names(scene):
    names = "3: AX T1 POST GAD", "5: AX FLAIR", "7: SAG T2 SPACE"
    first, second = _named(scene, *names), _named(scene, *names[:2])
    _study(scene, "Doe", "MR head", first)
    _study(scene, "Roe", "MR head", second)
    assert set(volumes.guessModalities([*first, *second]).values()) == set(first)
    mixed = {Modality.T1C: first[0], Modality.FLAIR: second[1]}
    fits, sentence = volumes.gridReport(mixed, Modality.T1C)
    assert fits
    assert sentence.startswith("The volumes are of different patients (Doe, Roe); choose those of one patient.")
    assert "different" not in volumes.gridReport(volumes.guessModalities(first), Modality.T1C)[1]


def test_volumes_of_two_studies_of_one_patient_are_warned_of(scene):
    (before,), (after,) = _named(scene, "T1c"), _named(scene, "FLAIR")
    _study(scene, "Doe", "before", [before])
    hierarchy = scene.GetSubjectHierarchyNode()
    patient = hierarchy.GetItemAncestorAtLevel(hierarchy.GetItemByDataNode(before), "Patient")
    hierarchy.CreateItem(hierarchy.CreateStudyItem(patient, "after"), after)
    _, sentence = volumes.gridReport({Modality.T1C: before, Modality.FLAIR: after}, Modality.T1C)
    assert sentence.startswith("The volumes are of different studies (before, after); choose those of one study.")


def test_an_aligned_volume_goes_with_those_that_it_was_made_for(bench: Bench):
    bench.nodes[Modality.FLAIR].SetSpacing(1.5, 1.0, 1.0)
    aligned = volumes.align(bench.nodes, Modality.T1C)
    assert volumes.guessModalities(volumes.scalarVolumes(bench.scene)) == aligned


def test_a_folder_is_loaded_and_its_label_file_left_out(scene, caseFolder: Path):
    nodes, notes = case_files.loadCase(scene, caseFolder)
    assert [m for m in MODALITIES if m in nodes] == list(MODALITIES)
    assert nodes[Modality.T1].GetName() == "P-001-t1n"
    for modality, node in nodes.items():
        assert np.allclose(slicer.util.arrayFromVolume(node), _CASE.images[modality])
    case = volumes.caseFromVolumes(nodes, Modality.T1C)
    assert case.geometry.same_grid(_CASE.geometry)
    assert "left out: P-001-seg.nii.gz" in notes


def test_a_real_case_is_loaded_with_the_right_side_up(scene, brats_case: Path):
    nodes, _ = case_files.loadCase(scene, brats_case)
    case = volumes.caseFromVolumes(nodes, Modality.T1C)
    image = sitk.ReadImage(str(brats_case / f"{brats_case.name}_t1ce.nii.gz"))
    corner = np.array([10, 20, 30])
    lps = np.array(image.TransformIndexToPhysicalPoint(corner[::-1].tolist()))
    assert np.allclose(case.geometry.index_to_ras(corner), lps * (-1, -1, 1))
    assert np.array_equal(case.images[Modality.T1C], sitk.GetArrayFromImage(image))


def test_a_folder_that_holds_a_broken_file_leaves_nothing_behind(scene, caseFolder: Path):
    (caseFolder / "P-001-t2f.nii.gz").write_bytes(b"not an image")
    before = scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")
    with pytest.raises(InputError, match=r"t2f.nii.gz"):
        case_files.loadCase(scene, caseFolder)
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == before


def test_dropped_files_of_one_patient_mean_their_folder(caseFolder: Path, tmp_path_factory):
    files = sorted(caseFolder.glob("*.nii.gz"))
    assert case_files.folderOfDrop(files) == caseFolder
    assert case_files.folderOfDrop([caseFolder]) == caseFolder
    with pytest.raises(InputError, match="one patient"):
        case_files.folderOfDrop([caseFolder, tmp_path_factory.mktemp("other")])


def test_volumes_on_one_grid_are_said_to_be(bench: Bench):
    assert volumes.gridReport(bench.nodes, Modality.T1C) == (
        True,
        "All volumes share one grid: 64 × 72 × 44 voxels of 1 × 1 × 1 mm.",
    )


def test_volumes_on_other_grids_are_named_and_aligned_into_new_nodes(scene, benchOn):
    bench: Bench = benchOn()
    matrix = np.diag([-2.0, -2.0, 2.0, 1.0])
    matrix[:3, 3] = (45, 30, -20)
    other = Geometry.from_matrix((22, 36, 40), matrix)
    resampled = sitk.Resample(
        to_itk(_CASE.images[Modality.FLAIR], _CASE.geometry), to_itk(np.zeros(other.shape, np.uint8), other)
    )
    flair = addVolume(scene, sitk.GetArrayFromImage(resampled), other, "Patient_flair_thick")
    chosen = {**bench.nodes, Modality.FLAIR: flair}
    before = digest(chosen.values())

    fits, sentence = volumes.gridReport(chosen, Modality.T1C)
    assert not fits
    assert sentence.startswith("FLAIR lies on another grid than T1c")
    bench.state.setInputs(chosen)
    bench.controller.segment()
    assert bench.failures == [sentence]

    aligned = volumes.align(chosen, Modality.T1C)
    assert volumes.gridReport(aligned, Modality.T1C)[0]
    assert aligned[Modality.T1] is chosen[Modality.T1]
    assert aligned[Modality.FLAIR] is not flair
    assert digest(chosen.values()) == before
    middle = np.s_[15:30, 25:45, 20:40]
    difference = slicer.util.arrayFromVolume(aligned[Modality.FLAIR])[middle] - _CASE.images[Modality.FLAIR][middle]
    assert np.abs(difference).mean() < 40


def test_aligned_volumes_follow_the_reference_under_its_transform(scene, benchOn):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (20, 0, 0)
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    bench: Bench = benchOn(transform=transform)
    loose = bench.nodes[Modality.T2]
    loose.SetAndObserveTransformNodeID(None)
    assert not volumes.gridReport(bench.nodes, Modality.T1C)[0]
    aligned = volumes.align(bench.nodes, Modality.T1C)
    assert volumes.gridReport(aligned, Modality.T1C)[0]
    moved = slicer.util.arrayFromVolume(aligned[Modality.T2])
    original = slicer.util.arrayFromVolume(loose)
    # The patient lies 20 mm to the right of where T2 lies, and i runs to the left.
    assert np.allclose(moved[:, :, 20:], original[:, :, :-20], atol=1e-2)


def test_an_empty_volume_is_refused_with_its_name(bench: Bench):
    empty = bench.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing in it")
    bench.state.setInputs({Modality.T1C: empty})
    bench.controller.segment()
    assert bench.failures == ["Nothing in it holds no image; load it again or choose another volume."]


def test_the_choice_of_volumes_is_kept_in_the_scene(bench: Bench):
    assert SceneState.fromScene(bench.scene).inputs() == bench.nodes
    bench.state.setInputs({Modality.FLAIR: bench.nodes[Modality.FLAIR]})
    assert SceneState.fromScene(bench.scene).referenceModality() is Modality.FLAIR


class _SampleData:
    """Takes what `SampleData.SampleDataLogic` takes (Slicer 5.10 to 5.12)."""

    sources: list = []  # noqa: RUF012

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
        loadFileType=None,
    ):
        _SampleData.sources.append((uris, fileNames, nodeNames, checksums))


def test_the_sample_case_is_registered_with_names_that_find_their_places(scene):
    sample_data.registerSampleData(_SampleData, "picture.png")
    ((uris, files, names, checksums),) = _SampleData.sources
    assert len(uris) == len(files) == len(names) == len(checksums) == 4
    assert all(len(c.removeprefix("SHA256:")) == 64 for c in checksums)
    nodes = [scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in names]
    assert list(volumes.guessModalities(nodes).values()) == nodes


def test_what_looks_like_a_case_is_told_by_names_alone(tmp_path: Path):
    def touched(*names: str) -> list[Path]:
        for name in names:
            (tmp_path / name).touch()
        return [tmp_path / name for name in names]

    assert not case_files.looksLikeCase([tmp_path])
    one = touched("BraTS2021_00000_t1ce.nii.gz", "BraTS2021_00000_seg.nii.gz", "readme_t2.txt")
    assert not case_files.looksLikeCase([tmp_path])
    both = [*one, *touched("BraTS2021_00000_FLAIR.nrrd")]
    assert case_files.looksLikeCase([tmp_path])
    assert case_files.looksLikeCase(both)
    assert not case_files.looksLikeCase(one)
    assert not case_files.looksLikeCase([tmp_path, tmp_path])
    assert not case_files.looksLikeCase([])
