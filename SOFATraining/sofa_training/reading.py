"""Opening what `sofa_training.cases` found: sequences (also out of a 4D file) and truths."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError

from sofa_engine.alignment import align
from sofa_engine.case import Case
from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.itk_images import geometry_of
from sofa_engine.reading import Volume, read_volume
from sofa_engine.types import Modality
from sofa_training.cases import TrainingCase, VolumeFile

_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, zlib.error, ImageFileError)


@dataclass(frozen=True)
class Truth:
    """An expert's label map.

    Attributes:
        labels: uint8 (D, H, W), values of `SubRegion.label` and 0.
        geometry: its grid.
        values: what the file holds, ascending.
        strangers: values of the file that the dataset's labels do not know; 0 in `labels`.
    """

    labels: np.ndarray
    geometry: Geometry
    values: tuple[float, ...]
    strangers: tuple[float, ...]


def read_sequence(file: VolumeFile) -> Volume:
    """Read one sequence.

    Raises:
        InputError: the file is missing, damaged, or has no such channel.
    """
    if file.channel is None:
        return read_volume(file.path)
    try:
        image = nib.load(file.path)
        array = np.asarray(image.dataobj[..., file.channel], dtype=np.float32)
    except (*_UNREADABLE, IndexError) as error:
        raise InputError(f"{file.path} cannot be read as a 4D file with a channel {file.channel}.") from error
    return Volume(
        np.ascontiguousarray(array.T),
        Geometry.from_matrix(array.shape[::-1], image.affine),
        f"{file.path}, channel {file.channel}",
    )


def grid_of(file: VolumeFile) -> Geometry:
    """Return a sequence's grid (of a NIfTI from its header alone).

    Raises:
        InputError: the file is missing or damaged, holds several volumes where one was expected, or has no such
            channel.
    """
    try:
        if not file.path.name.endswith((".nii", ".nii.gz")):
            return geometry_of(sitk.ReadImage(str(file.path)))
        image = nib.load(file.path)
        volumes = int(np.prod(image.shape[3:]))
        grid = Geometry.from_matrix(image.shape[2::-1], image.affine)
    except _UNREADABLE as error:
        raise InputError(f"{file.path} is missing or cannot be read.") from error
    if file.channel is None and volumes != 1:
        raise InputError(f"{file.path} holds {volumes} volumes; one sequence per file is expected here.")
    if file.channel is not None and file.channel >= volumes:
        raise InputError(f"{file.path} holds {volumes} volumes and has no channel {file.channel}.")
    return grid


def middle_slice(file: VolumeFile) -> np.ndarray:
    """Return the slice in the middle of a sequence's last axis, float32 (H, W); of a NIfTI no more is read than that.

    Raises:
        InputError: the file is missing or damaged, or has no such channel.
    """
    if file.channel is None and not file.path.name.endswith((".nii", ".nii.gz")):
        array = read_sequence(file).array
        return array[len(array) // 2]
    try:
        image = nib.load(file.path)
        others = (0 if file.channel is None else file.channel,) * (len(image.shape) - 3)
        plane = image.dataobj[(slice(None), slice(None), image.shape[2] // 2, *others)]
        return np.asarray(plane, dtype=np.float32).T
    except (*_UNREADABLE, IndexError) as error:
        raise InputError(f"{file.path} is missing or cannot be read.") from error


def read_truth(case: TrainingCase) -> Truth:
    """Read a case's truth and translate its values to SOFA's.

    Raises:
        InputError: there is none, or it cannot be read as a 3D label map.
    """
    if case.truth is None:
        raise InputError(f"{case.name} has no truth.")
    try:
        if case.truth.name.endswith((".nii", ".nii.gz")):
            image = nib.load(case.truth)
            array = np.asarray(image.dataobj).squeeze().T
            geometry = Geometry.from_matrix(array.shape, image.affine)
        else:
            itk = sitk.ReadImage(str(case.truth))
            array, geometry = sitk.GetArrayFromImage(itk), geometry_of(itk)
    except _UNREADABLE as error:
        raise InputError(f"{case.truth} is missing or cannot be read.") from error
    if array.ndim != 3:
        raise InputError(f"{case.truth} has {array.ndim} dimensions; a truth is one 3D label map.")
    labels = np.zeros(array.shape, dtype=np.uint8)
    present = np.unique(array)
    strangers = []
    for value in present:
        if float(value) not in case.labels:
            strangers.append(float(value))
        elif (sub_region := case.labels[int(value)]) is not None:
            labels[array == value] = sub_region.label
    return Truth(labels, geometry, tuple(float(value) for value in present), tuple(strangers))


def open_training_case(case: TrainingCase) -> tuple[Case, np.ndarray]:
    """Read a case's sequences onto the truth's grid, and the truth.

    Returns:
        The case as the engine opens it, and labels uint8 (D, H, W), values of `SubRegion.label` and 0.

    Raises:
        InputError: a file cannot be read, the truth lies on no sequence's grid or has unknown values, or sequences
            share no space.
    """
    truth = read_truth(case)
    if truth.strangers:
        raise InputError(f"{case.truth} has values that its dataset does not know: {truth.strangers}.")
    volumes = {modality: read_sequence(file) for modality, file in case.images.items()}
    on_grid = [m for m, volume in volumes.items() if volume.geometry.same_grid(truth.geometry, tolerance_mm=0.01)]
    if not on_grid:
        raise InputError(f"{case.truth} lies on another grid than every sequence of {case.name}; resample it first.")
    reference = Modality.T1C if Modality.T1C in on_grid else on_grid[0]
    return align(volumes, name=case.name, reference=reference), truth.labels
