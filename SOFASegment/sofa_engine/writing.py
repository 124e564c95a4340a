"""Results on disk: label maps and probabilities on the patient's own grid, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from sofa_engine.case import Case
from sofa_engine.errors import InputError, OutputError
from sofa_engine.geometry import Geometry
from sofa_engine.itk_images import to_itk
from sofa_engine.nifti import is_nifti, open_nifti
from sofa_engine.types import SUB_REGIONS, LabelScheme, SubRegion

OUTPUT_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")

_INTENT_LABEL = 1002


def write_labels(
    labels: np.ndarray, grid: Case | Geometry, path: Path, scheme: LabelScheme = LabelScheme.BRATS2020
) -> Path:
    """Write a label map as uint8.

    A NIfTI for a case whose reference was a NIfTI has that file's orientation fields, so its affine is the same bit for
    bit.

    Args:
        labels: uint8 (D, H, W), values of `SubRegion.label` and 0.
        grid: the case, or only the grid, that the labels are of.
        path: NIfTI, NRRD or MHA, by suffix; an existing file is replaced, unless it is one of the case's own volumes.
        scheme: values to write.

    Returns:
        The path.

    Raises:
        OutputError: the file cannot be written there.
    """
    values = np.zeros(256, dtype=np.uint8)
    for sub_region in SUB_REGIONS:
        values[sub_region.label] = scheme.value_of(sub_region)
    return _write(values[labels], grid, path, label_map=True)


def write_probabilities(probabilities: np.ndarray, grid: Case | Geometry, path: Path) -> tuple[Path, ...]:
    """Write the probability of each sub-region, float32, to files named after `path`.

    Args:
        probabilities: float (3, D, H, W), order of `SUB_REGIONS`.
        grid: the case, or only the grid, that they are of.
        path: "out.nii.gz" makes "out_ncr.nii.gz", "out_ed.nii.gz" and "out_et.nii.gz".

    Returns:
        The files, in the order of `SUB_REGIONS`.

    Raises:
        OutputError: a file cannot be written there.
    """
    return tuple(
        _write(probabilities[region.index].astype(np.float32), grid, probability_path(path, region), label_map=False)
        for region in SUB_REGIONS
    )


def probability_path(path: Path, sub_region: SubRegion) -> Path:
    """Return the file of one sub-region's probability, beside `path`."""
    suffix = _suffix_of(path)
    return path.with_name(f"{path.name[: -len(suffix)]}_{sub_region.value}{suffix}")


def check_output(path: Path, grid: Case | Geometry | None = None) -> None:
    """Refuse an output that `write_labels` could not write, before any work is done for it.

    Raises:
        OutputError: the suffix is unknown, the folder is missing or not writable, or the file is one of the inputs.
    """
    _suffix_of(path)
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {folder} does not exist; make it first.")
    if path.is_dir():
        raise OutputError(f"{path} cannot be written: it is a folder; give a file name.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path} cannot be written: no permission in {folder}; choose another folder.")
    if isinstance(grid, Case) and any(Path(source).resolve() == path.resolve() for source in grid.sources.values()):
        raise OutputError(f"{path} is one of the case's own volumes and is not overwritten; choose another name.")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that takes its place when the block succeeds, and is gone when it fails.

    Raises:
        OutputError: the file cannot be written.
    """
    # Writers choose the format by suffix, so the part's name ends as the whole's.
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        yield part
        part.replace(path)
    except (OSError, RuntimeError) as error:  # ITK's writers raise RuntimeError
        reason = getattr(error, "strerror", None) or "the disk may be full or the folder read-only"
        raise OutputError(f"{path} cannot be written: {reason}; choose another place.") from error
    finally:
        part.unlink(missing_ok=True)


def _write(array: np.ndarray, grid: Case | Geometry, path: Path, *, label_map: bool) -> Path:
    path = Path(path)
    check_output(path, grid)
    geometry = grid.geometry if isinstance(grid, Case) else grid
    if array.shape != geometry.shape:
        raise ValueError(f"An array of shape {array.shape} does not fit a grid of {geometry.shape}.")
    with replacing(path) as part:
        if is_nifti(path):
            nib.save(_nifti_image(array, grid, geometry, label_map=label_map), part)
        else:
            sitk.WriteImage(to_itk(array, geometry), str(part), useCompression=True)
    return path


def _nifti_image(array: np.ndarray, grid: Case | Geometry, geometry: Geometry, *, label_map: bool) -> nib.Nifti1Image:
    header = _reference_header(grid) if isinstance(grid, Case) else None
    data = np.ascontiguousarray(array).T
    if header is None:
        image = nib.Nifti1Image(data, geometry.matrix, dtype=array.dtype)
        image.set_qform(geometry.matrix, code=1)
        image.set_sform(geometry.matrix, code=1)
        image.header.set_xyzt_units("mm", "unknown")
    else:
        image = nib.Nifti1Image(data, None, header, dtype=array.dtype)
    if label_map:
        image.header.set_intent(_INTENT_LABEL, name="tumour", allow_unknown=True)
    return image


def _reference_header(case: Case) -> nib.Nifti1Header | None:
    """Return a fresh header with the orientation fields of the NIfTI file whose grid the case has, or None."""
    for source in case.sources.values():
        path = Path(source)
        if not (is_nifti(path) and path.is_file()):
            continue
        try:
            theirs = open_nifti(path)
        except InputError:
            continue
        if theirs.shape[:3][::-1] != case.geometry.shape or not np.array_equal(theirs.affine, case.geometry.matrix):
            continue
        ours = nib.Nifti1Header()
        ours.set_data_shape(theirs.shape[:3])
        pixdim = ours["pixdim"].copy()
        pixdim[:4] = theirs.header["pixdim"][:4]
        ours["pixdim"] = pixdim
        for field in ("qform_code", "sform_code", "xyzt_units", "quatern_b", "quatern_c", "quatern_d"):
            ours[field] = theirs.header[field]
        for field in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
            ours[field] = theirs.header[field]
        return ours
    return None


def _suffix_of(path: Path) -> str:
    for suffix in OUTPUT_SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[-len(suffix) :]
    raise OutputError(f"{path} cannot be written: its name must end in one of {', '.join(OUTPUT_SUFFIXES)}.")
