from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from sofa_engine.errors import InputError
from sofa_engine.opening import open_case
from sofa_engine.reading import read_volume
from sofa_engine.types import Modality
from studies import LPS, head, write_dicom, write_dicomdir, write_volume


def oblique(degrees: float = 17.0, spacing: tuple[float, float, float] = (0.9, 1.1, 3.0)) -> np.ndarray:
    turn = np.deg2rad(degrees)
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ rotation * spacing
    matrix[:3, 3] = 11.5, -7.25, 3.0
    return matrix


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("matrix", [LPS, oblique()], ids=["axial", "oblique"])
def test_every_format_gives_the_same_voxels_at_the_same_place(tmp_path, suffix, matrix):
    volume = read_volume(write_volume(tmp_path / f"t1{suffix}", head(), matrix))
    np.testing.assert_array_equal(volume.array, head())
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.geometry.matrix, matrix, atol=1e-5)


def test_the_affine_of_a_nifti_is_kept_bit_for_bit(tmp_path):
    path = write_volume(tmp_path / "t1.nii.gz", head(), oblique())
    assert np.array_equal(read_volume(path).geometry.matrix, nib.load(path).affine)


def test_a_sheared_nifti_keeps_its_shear(tmp_path):
    sheared = LPS.copy()
    sheared[1, 2] = 0.25
    np.testing.assert_array_equal(
        read_volume(write_volume(tmp_path / "t1.nii.gz", head(), sheared)).geometry.matrix, sheared
    )


def test_stored_scaling_is_applied(tmp_path):
    image = nib.Nifti1Image(head().T, LPS)
    image.set_data_dtype(np.int16)
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, tmp_path / "t1.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "t1.nii").array, 0.5 * head() + 10)


def test_a_fourth_axis_of_length_one_is_no_obstacle(tmp_path):
    nib.save(nib.Nifti1Image(head().T[..., None], LPS), tmp_path / "t1.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "t1.nii.gz").array, head())


def test_a_nifti_without_orientation_is_warned_about(tmp_path):
    image = nib.Nifti1Image(head().T, None)
    nib.save(image, tmp_path / "t1.nii.gz")
    assert "says nothing about the patient's orientation" in read_volume(tmp_path / "t1.nii.gz").warnings[0]


@pytest.mark.parametrize("matrix", [LPS, oblique(), LPS @ np.diag([1, 1, 2.5, 1])], ids=["axial", "oblique", "thick"])
def test_a_dicom_series_is_stacked_by_position_whatever_its_files_are_called(tmp_path, matrix):
    volume = read_volume(write_dicom(tmp_path / "series", head(), matrix))
    np.testing.assert_array_equal(volume.array, head())
    np.testing.assert_allclose(volume.geometry.matrix, matrix, atol=1e-6)


def test_one_file_of_a_dicom_series_stands_for_the_series(tmp_path):
    folder = write_dicom(tmp_path / "series", head())
    np.testing.assert_array_equal(read_volume(sorted(folder.iterdir())[3]).array, head())


def test_a_dicom_series_with_a_missing_slice_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"slices at uneven distances \(1\.00 to 2\.00 mm\); some of its files are miss"
    ):
        read_volume(write_dicom(tmp_path / "series", head(), skip=[7]))


@pytest.mark.parametrize("which", [slice(None), slice(2, 3)], ids=["all", "one"])
def test_a_dicom_series_that_does_not_say_where_it_lies_is_refused(tmp_path, which):
    folder = write_dicom(tmp_path / "series", head()[:4])
    for path in sorted(folder.iterdir())[which]:
        content = path.read_bytes()
        assert content.count(b"\x20\0\x32\0") == 1
        path.write_bytes(content.replace(b"\x20\0\x32\0", b"\x20\0\x33\0"))  # a tag that means nothing
    with pytest.raises(InputError, match=r"does not say where its slices lie .*; give the series as it came from the"):
        read_volume(folder)


def test_a_dicom_series_with_two_images_at_one_position_is_refused(tmp_path):
    folder = write_dicom(tmp_path / "series", head())
    first = sorted(folder.iterdir())[0]
    (folder / "again.dcm").write_bytes(first.read_bytes())
    with pytest.raises(InputError, match="several images at one position"):
        read_volume(folder)


@pytest.mark.parametrize("which", [0, 5], ids=["first", "middle"])
@pytest.mark.parametrize("cut", [10, 2000])
def test_a_dicom_slice_that_is_cut_short_is_refused_by_name(tmp_path, which, cut):
    folder = write_dicom(tmp_path / "series", head())
    victim = sorted(folder.iterdir())[which]
    victim.write_bytes(victim.read_bytes()[:-cut])
    with pytest.raises(InputError, match=f"{victim.name} cannot be read: it is damaged, cut short"):
        read_volume(folder)


@pytest.mark.parametrize("name", ["DICOMDIR", "DICOMDIR.old"])
def test_the_list_of_a_disc_is_no_damaged_image_for_the_icons_in_it(tmp_path, name):
    folder = write_dicom(tmp_path, head())
    content = write_dicomdir(folder / name).read_bytes()
    assert b"\xe0\x7f\x10\x00" in content
    assert read_volume(folder).array.shape == head().shape
    (folder / name).unlink()
    (folder / "slice.dcm").write_bytes(content.replace(b"1.2.840.10008.1.3.10", b"1.2.840.10008.5.1.4."))
    with pytest.raises(InputError, match=r"slice\.dcm cannot be read: it is damaged"):
        read_volume(folder)


def test_a_folder_with_two_dicom_series_asks_which(tmp_path):
    write_dicom(tmp_path, head(), description="AX T1", uid="1.2.3.1001")
    write_dicom(tmp_path, head(), description="AX T2", uid="1.2.3.1002")
    with pytest.raises(InputError, match=r"holds 2 DICOM series \(AX T1, AX T2\)"):
        read_volume(tmp_path)


def test_a_folder_without_a_series_is_said(tmp_path):
    with pytest.raises(InputError, match="holds no DICOM series"):
        read_volume(tmp_path)


@pytest.mark.parametrize("vendor", ["ge", "generic", "hitachi", "hyperfine", "philips", "siemens"])
def test_real_dicom_lies_where_its_reference_nifti_lies(real_data, vendor):
    folder = real_data / "other" / "dicom2nifti" / f"{vendor}_anatomical_001"
    ours = read_volume(folder)
    theirs = read_volume(folder / "001_ground_truth.nii.gz")
    # Every voxel of ours, looked up by its place in the patient, has the reference's value.
    index = np.indices(ours.geometry.shape).reshape(3, -1).T
    there = theirs.geometry.ras_to_index(ours.geometry.index_to_ras(index))
    nearest = np.rint(there).astype(int)
    assert np.abs(there - nearest).max() < 1e-3
    np.testing.assert_array_equal(ours.array.ravel(), theirs.array[tuple(nearest.T)])


# Bad input: each with its sentence.


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"gone\.nii\.gz does not exist; check the file's name"):
        read_volume(tmp_path / "gone.nii.gz")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_truncated_file_is_said_to_be_damaged(tmp_path, suffix):
    path = write_volume(tmp_path / f"t1{suffix}", head())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot be read: it is damaged, cut short, or not an image"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_file_of_something_else_is_said_to_be_damaged(tmp_path, suffix):
    path = tmp_path / f"t1{suffix}"
    path.write_bytes(b"this is no image at all" * 50)
    with pytest.raises(InputError, match="cannot be read: it is damaged, cut short, or not an image"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_compressed_file_with_a_flipped_byte_is_said_to_be_damaged(tmp_path, suffix):
    path = tmp_path / f"t1{suffix}"
    if suffix == ".nii.gz":
        write_volume(path, head())
    else:
        sitk.WriteImage(sitk.GetImageFromArray(head()), str(path), useCompression=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_4d_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"t1{suffix}"
    stack = np.stack([head()] * 4)
    if suffix == ".nii.gz":
        write_volume(path, stack)
    else:
        sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(a) for a in stack]), str(path))
    with pytest.raises(InputError, match="is a 4D file with 4 volumes in it; split it"):
        read_volume(path)


def test_a_4d_file_given_as_the_case_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a 4D file with 4 volumes in it; split it"):
        open_case(write_volume(tmp_path / "BRATS_001.nii.gz", np.stack([head()] * 4)))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_colour_image_is_refused(tmp_path, suffix):
    path = tmp_path / f"t1{suffix}"
    if suffix == ".nii.gz":
        colour = np.zeros(head().T.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(colour, LPS), path)
    else:
        colour = np.zeros((*head().shape, 3), dtype=np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(path))
    with pytest.raises(InputError, match=r"several values per voxel \(a colour or vector image\)"):
        read_volume(path)


def test_a_volume_of_zeros_is_refused(tmp_path):
    with pytest.raises(InputError, match="is zero everywhere"):
        read_volume(write_volume(tmp_path / "t1.nii.gz", np.zeros((4, 8, 8))))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_a_file_become_background_and_are_told(tmp_path, value):
    array = head() + 0.5
    array[8, 24, 20] = value
    volume = read_volume(write_volume(tmp_path / "t1.nii.gz", array))
    assert volume.array[8, 24, 20] == 0.5
    (sentence,) = volume.warnings
    assert "t1.nii.gz holds 1 voxel that is no number (NaN or infinite); nothing can be found there." in sentence


def test_a_single_slice_is_refused(tmp_path):
    with pytest.raises(InputError, match="has only one slice; give the whole volume"):
        read_volume(write_volume(tmp_path / "t1.nii.gz", head()[8:9]))


def test_an_affine_that_is_not_finite_is_refused(tmp_path):
    image = nib.Nifti1Image(head().T, LPS)
    image.header["sform_code"] = 1
    image.header["srow_x"] = np.nan
    path = tmp_path / "t1.nii"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + np.asfortranarray(head().T).tobytes(order="F"))
    with pytest.raises(InputError, match="has an affine that is not finite"):
        read_volume(path)


def test_a_singular_affine_is_refused(tmp_path):
    image = nib.Nifti1Image(head().T, LPS)
    image.header["sform_code"] = 1
    image.header["srow_x"] = image.header["srow_y"]
    path = tmp_path / "t1.nii"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + np.asfortranarray(head().T).tobytes(order="F"))
    with pytest.raises(InputError, match="has a singular affine"):
        read_volume(path)


@pytest.mark.parametrize("values", [(0, 1, 2, 4), (0, 1)])
def test_a_label_map_given_as_a_volume_is_refused(tmp_path, values):
    labels = np.random.default_rng(0).choice(values, size=(8, 16, 16))
    with pytest.raises(InputError, match="looks like a label map; give the MRI sequence itself"):
        read_volume(write_volume(tmp_path / "t1.nii.gz", labels))


def test_the_expert_mask_of_a_real_case_is_refused_as_a_sequence(brats_case):
    with pytest.raises(InputError, match="looks like a label map"):
        read_volume(brats_case / f"{brats_case.name}_seg.nii.gz")


def test_one_file_for_two_sequences_is_refused(tmp_path):
    path = write_volume(tmp_path / "scan.nii.gz", head())
    with pytest.raises(InputError, match="was given as both T1 and T2; give each its own file"):
        open_case({Modality.T1: path, Modality.T2: path})


def test_a_single_good_file_as_the_case_asks_for_its_sequence(tmp_path):
    with pytest.raises(InputError, match="is one volume; give the folder of the case or say which sequence"):
        open_case(write_volume(tmp_path / "scan.nii.gz", head()))
