"""NIfTI files through nibabel, which keeps the affine as the file has it (ITK takes it apart and rounds)."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from sofa_engine.integrity import damaged

NIFTI_SUFFIXES = (".nii", ".nii.gz")

#: What nibabel and gzip raise for files that are damaged or not what their name says.
_DAMAGED = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError)


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def open_nifti(path: Path) -> nib.Nifti1Image:
    """Open a NIfTI-1 or NIfTI-2 file; its voxels are read when they are asked for.

    Raises:
        InputError: the file is damaged.
    """
    try:
        image = nib.load(path, mmap=False)
    except _DAMAGED as error:
        raise damaged(path) from error
    if not isinstance(image, nib.Nifti1Image):
        raise damaged(path)
    return image


def read_voxels(path: Path, image: nib.Nifti1Image) -> np.ndarray:
    """Return the scaled voxels of an opened file, float32, axes as in the file (x, y, z, ...).

    Raises:
        InputError: the file is damaged or cut short.
    """
    try:
        return np.asarray(image.dataobj, dtype=np.float32)
    except _DAMAGED as error:
        raise damaged(path) from error
