from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from sofa_engine.errors import OutputError
from sofa_engine.itk_images import geometry_of
from sofa_engine.opening import open_case
from sofa_engine.types import SUB_REGIONS, LabelScheme, Modality
from sofa_engine.writing import check_output, write_labels, write_probabilities
from studies import LPS, geometry_for, head, write_volume


def some_labels(shape: tuple[int, int, int] = (16, 48, 40)) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[4:12, 10:30, 10:30] = 2
    labels[6:10, 15:25, 15:25] = 4
    labels[7:9, 18:22, 18:22] = 1
    return labels


TILTED = np.array([[-0.93, 0.11, 0.05, 20.1], [0.09, -0.9, 0.4, 24.3], [0.06, 0.37, 2.4, -8.7], [0.0, 0.0, 0.0, 1.0]])


def write_reference(path: Path, *, sform: bool, qform: bool) -> None:
    """Write a NIfTI whose orientation is in one of its two forms only."""
    matrix = TILTED.copy()
    if qform:  # a quaternion cannot hold shear
        rotation, _ = np.linalg.qr(matrix[:3, :3])
        matrix[:3, :3] = rotation * (1.0, 1.0, 2.5)
    image = nib.Nifti1Image(head().T.astype(np.int16), matrix)
    image.set_sform(matrix if sform else None, code=2 if sform else 0)
    image.set_qform(matrix if qform else None, code=1 if qform else 0)
    nib.save(image, path)


@pytest.mark.parametrize(("sform", "qform"), [(True, False), (False, True), (True, True)])
def test_a_label_map_has_the_reference_files_affine_bit_for_bit(tmp_path, sform, qform):
    write_reference(tmp_path / "t1ce.nii.gz", sform=sform, qform=qform)
    case = open_case(tmp_path)
    out = nib.load(write_labels(some_labels(), case, tmp_path / "out.nii.gz"))
    reference = nib.load(tmp_path / "t1ce.nii.gz")
    assert out.affine.tobytes() == reference.affine.tobytes()
    for field in ("qform_code", "sform_code", "pixdim", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x"):
        assert out.header[field][...].tobytes()[:16] == reference.header[field][...].tobytes()[:16], field
    assert out.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(out.dataobj).T, some_labels())


def test_the_affine_is_the_references_even_where_another_sequence_has_its_own_grid(tmp_path):
    write_reference(tmp_path / "t1ce.nii.gz", sform=True, qform=False)
    write_volume(tmp_path / "t2.nii.gz", head(), TILTED @ np.diag([0.9, 1, 1, 1]))
    out = nib.load(write_labels(some_labels(), open_case(tmp_path), tmp_path / "out.nii"))
    assert out.affine.tobytes() == nib.load(tmp_path / "t1ce.nii.gz").affine.tobytes()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_formats_lie_on_the_same_grid(tmp_path, suffix):
    geometry = geometry_for((16, 48, 40), TILTED)
    image = sitk.ReadImage(str(write_labels(some_labels(), geometry, tmp_path / f"out{suffix}")))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), some_labels())
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_allclose(geometry_of(image).matrix, TILTED, rtol=1e-12, atol=1e-12)


def test_a_nifti_for_a_bare_grid_says_where_it_lies_in_both_forms(tmp_path):
    out = nib.load(write_labels(some_labels(), geometry_for((16, 48, 40)), tmp_path / "out.nii.gz"))
    np.testing.assert_array_equal(out.get_sform(), LPS)
    np.testing.assert_allclose(out.get_qform(), LPS, atol=1e-6)


@pytest.mark.parametrize(
    ("scheme", "values"), [(LabelScheme.BRATS2020, {0, 1, 2, 4}), (LabelScheme.BRATS2023, {0, 1, 2, 3})]
)
def test_the_scheme_decides_the_values(tmp_path, scheme, values):
    out = write_labels(some_labels(), geometry_for((16, 48, 40)), tmp_path / "out.nii.gz", scheme)
    assert set(np.unique(np.asarray(nib.load(out).dataobj))) == values


def test_probabilities_get_a_file_for_each_sub_region(tmp_path):
    probabilities = np.random.default_rng(0).random((3, 16, 48, 40)).astype(np.float16)
    paths = write_probabilities(probabilities, geometry_for((16, 48, 40)), tmp_path / "out.nii.gz")
    assert [path.name for path in paths] == ["out_ncr.nii.gz", "out_ed.nii.gz", "out_et.nii.gz"]
    for sub_region, path in zip(SUB_REGIONS, paths, strict=True):
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj).T, probabilities[sub_region.index])


def test_an_older_result_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    (tmp_path / "out.nii.gz").write_text("old", encoding="utf-8")
    write_labels(some_labels(), geometry_for((16, 48, 40)), tmp_path / "out.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["out.nii.gz"]
    assert nib.load(tmp_path / "out.nii.gz").shape == (40, 48, 16)


def test_a_failed_write_leaves_the_older_result_and_no_half_file(tmp_path, monkeypatch):
    (tmp_path / "out.nii.gz").write_text("old", encoding="utf-8")

    def full_disk(image, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        write_labels(some_labels(), geometry_for((16, 48, 40)), tmp_path / "out.nii.gz")
    assert (tmp_path / "out.nii.gz").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.nii.gz"]


def test_a_folder_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(OutputError, match=r"cannot be written: the folder .*results does not exist; make it first"):
        write_labels(some_labels(), geometry_for((16, 48, 40)), tmp_path / "results" / "out.nii.gz")


def test_a_folder_given_as_the_output_is_said(tmp_path):
    (tmp_path / "out.nii.gz").mkdir()
    with pytest.raises(OutputError, match="it is a folder; give a file name"):
        check_output(tmp_path / "out.nii.gz")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission"):
        check_output(tmp_path / "out.nii.gz")


def test_a_read_only_place_is_said():
    with pytest.raises(OutputError, match="cannot be written"):
        write_labels(some_labels(), geometry_for((16, 48, 40)), Path("/proc/out.nii.gz"))


@pytest.mark.parametrize("name", ["out.jpg", "out", ".nii.gz"])
def test_an_unknown_format_is_said(tmp_path, name):
    with pytest.raises(OutputError, match=r"its name must end in one of \.nii\.gz, \.nii, \.nrrd, \.mha"):
        check_output(tmp_path / name)


def test_the_patients_own_volume_is_never_overwritten(write_case):
    folder = write_case([Modality.T1C])
    before = (folder / "P1_t1ce.nii.gz").read_bytes()
    case = open_case(folder)
    with pytest.raises(OutputError, match="is one of the case's own volumes and is not overwritten"):
        write_labels(some_labels(), case, folder / "P1_t1ce.nii.gz")
    assert (folder / "P1_t1ce.nii.gz").read_bytes() == before


def test_labels_of_another_shape_are_a_programming_error(tmp_path):
    with pytest.raises(ValueError, match="does not fit a grid"):
        write_labels(some_labels((4, 48, 40)), geometry_for((16, 48, 40)), tmp_path / "out.nii.gz")


@pytest.mark.parametrize("name", ["brats", "native"])
def test_a_real_cases_label_map_has_its_reference_affine(real_data, brats_case, tmp_path, name):
    folder = brats_case if name == "brats" else real_data / "other" / "native_TCGA-DU-7294"
    case = open_case(folder)
    out = nib.load(write_labels(np.zeros(case.geometry.shape, np.uint8), case, tmp_path / "out.nii.gz"))
    reference = nib.load(case.sources[Modality.T1C])
    assert out.affine.tobytes() == reference.affine.tobytes()
    assert out.shape == reference.shape
