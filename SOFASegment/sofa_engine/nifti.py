"""NIfTI files through nibabel, which keeps the affine as the file has it (ITK takes it apart and rounds)."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from sofa_engine.errors import InputError

NIFTI_SUFFIXES = (".nii", ".nii.gz")

#: What nibabel and gzip raise for files that are damaged or not what their name says.
DAMAGED = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError)


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
    except DAMAGED as error:
        raise damaged(path) from error
    if not isinstance(image, nib.Nifti1Image):
        raise damaged(path)
    return image


def damaged(path: Path) -> InputError:
    """Return what is said about an image file that cannot be read."""
    return InputError(f"{path} cannot be read: it is damaged, cut short, or not an image; copy or export it again.")
