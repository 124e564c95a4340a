"""One volume from a file or a DICOM series, checked so that everything after it can rely on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from sofa_engine.dicom import DicomSeries, read_series, series_in, series_of_file
from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.integrity import check_compressed, damaged
from sofa_engine.itk_images import geometry_of
from sofa_engine.nifti import NIFTI_SUFFIXES, is_nifti, open_nifti, read_voxels
from sofa_engine.voxels import sound_voxels

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES

#: A volume of whole numbers with no more distinct ones than this is a label map, not an image.
_MOST_LABELS = 16


@dataclass(frozen=True)
class Volume:
    """One sequence on its own grid.

    Attributes:
        array: float32 (D, H, W), raw intensities; those of `read_volume` are all finite.
        geometry: its grid.
        source: where it was read from, for reports and messages.
        warnings: sentences about what was unusual.
    """

    array: np.ndarray
    geometry: Geometry
    source: str
    warnings: tuple[str, ...] = ()


def is_volume_file(path: Path) -> bool:
    """Whether the name is that of a NIfTI, NRRD or MetaImage file."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def read_volume(source: Path | DicomSeries) -> Volume:
    """Read one sequence of any orientation and spacing.

    Args:
        source: a NIfTI, NRRD or MetaImage file, a folder with one DICOM series, one of a series' files, or a series.

    Raises:
        InputError: it is missing, damaged, or not one grey-scale three-dimensional image with something in it.
    """
    if isinstance(source, DicomSeries):
        array, geometry = read_series(source)
        return _checked(array, geometry, str(source))
    path = Path(source)
    if path.is_dir():
        return read_volume(_only_series(path))
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the file's name.")
    if is_nifti(path):
        return _read_nifti(path)
    if path.name.lower().endswith(ITK_SUFFIXES):
        return _read_itk(path)
    return read_volume(series_of_file(path))


def _only_series(folder: Path) -> DicomSeries:
    found = list(series_in(folder))
    if not found:
        raise InputError(f"The folder {folder} holds no DICOM series; give a volume file or a folder of DICOM slices.")
    if len(found) > 1:
        names = ", ".join(series.description or "without description" for series in found)
        raise InputError(
            f"The folder {folder} holds {len(found)} DICOM series ({names}); put the one to use in its own."
        )
    return found[0]


def _read_nifti(path: Path) -> Volume:
    image = open_nifti(path)
    dtype = image.get_data_dtype()
    _check_dimensions(path, image.shape, coloured=dtype.fields is not None)
    if dtype.kind == "c":
        raise InputError(f"{path} holds complex numbers; give a magnitude image.")
    array = read_voxels(path, image)
    check_compressed(path)
    while array.ndim > 3:
        array = array[..., 0]
    codes = int(image.header["qform_code"]), int(image.header["sform_code"])
    warnings = (
        (f"{path.name} says nothing about the patient's orientation; check that left and right are as expected.",)
        if codes == (0, 0)
        else ()
    )
    affine = np.asarray(image.affine, dtype=np.float64)
    return _checked(array.T, Geometry.from_matrix(array.shape[::-1], affine), str(path), warnings)


def _read_itk(path: Path) -> Volume:
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        _check_dimensions(path, reader.GetSize(), coloured=reader.GetNumberOfComponents() > 1)
        image = reader.Execute()
        check_compressed(path)
    except RuntimeError as error:
        raise damaged(path) from error
    while image.GetDimension() > 3:
        image = image[(slice(None),) * (image.GetDimension() - 1) + (0,)]
    return _checked(sitk.GetArrayFromImage(image), geometry_of(image), str(path))


def _check_dimensions(path: Path, shape: tuple[int, ...], *, coloured: bool) -> None:
    """Refuse what is not one scalar volume; trailing axes of length one are harmless."""
    if coloured:
        raise InputError(f"{path} holds several values per voxel (a colour or vector image); give a grey-scale volume.")
    extra = [n for n in shape[3:] if n > 1]
    if extra:
        raise InputError(
            f"{path} is a {len(shape)}D file with {extra[0]} volumes in it; split it into one file for each sequence."
        )
    if len(shape) < 3:
        raise InputError(f"{path} is a {len(shape)}D image; give a volume.")


def _checked(array: np.ndarray, geometry: Geometry, source: str, warnings: tuple[str, ...] = ()) -> Volume:
    """Return the volume, or say what is wrong with its grid or its voxels."""
    matrix = geometry.matrix
    if not np.isfinite(matrix).all():
        raise InputError(f"{source} has an affine that is not finite; export it again with its position in space.")
    if min(geometry.spacing) < 1e-6 or abs(np.linalg.det(matrix[:3, :3] / np.array(geometry.spacing[::-1]))) < 1e-3:
        raise InputError(f"{source} has a singular affine (two of its axes coincide); export it again.")
    if min(geometry.shape) < 2:
        raise InputError(f"{source} has only one slice; give the whole volume.")
    array = np.ascontiguousarray(array, dtype=np.float32)
    array, gaps = sound_voxels(array, source)
    if _is_label_map(array):
        raise InputError(
            f"{source} holds no more than {_MOST_LABELS} different whole numbers, so it looks like a label map; "
            "give the MRI sequence itself."
        )
    return Volume(array, geometry, source, (*warnings, *gaps))


def _is_label_map(array: np.ndarray) -> bool:
    """Whether the voxels are few different whole numbers; a sparse look settles it for nearly every image."""
    for values in (np.unique(array[::3, ::5, ::7]), np.unique(array)):
        if values.size > _MOST_LABELS or not np.array_equal(values, np.rint(values)):
            return False
    return True
