"""Bringing a patient's sequences onto one grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from sofa_engine.case import Case
from sofa_engine.errors import InputError
from sofa_engine.foreground import background_of
from sofa_engine.geometry import Geometry
from sofa_engine.itk_images import to_itk
from sofa_engine.progress import Progress, ProgressCallback
from sofa_engine.reading import Volume
from sofa_engine.types import MODALITIES, Modality
from sofa_engine.voxels import sound_voxels

#: Which sequence's grid the case gets where nothing is asked for: enhancing tumour is drawn on T1c.
_REFERENCE_ORDER = (Modality.T1C, Modality.FLAIR, Modality.T2, Modality.T1)

#: Skull-stripped sequences of one patient overlap by more (Dice of the brains); less hints at motion or a mix-up.
_USUAL_OVERLAP = 0.85
#: A volume with more zeros than this is taken for skull-stripped.
_STRIPPED_ZEROS = 0.3
#: A sequence that covers less of the reference's image than this leaves part of it without data.
_USUAL_COVERAGE = 0.95

_SEED = 20260101
#: Between LPS and RAS.
_FLIP = np.array([-1.0, -1.0, 1.0])


def align(
    volumes: Mapping[Modality, Volume],
    *,
    name: str = "case",
    reference: Modality | None = None,
    register: bool = False,
    progress: ProgressCallback | None = None,
) -> Case:
    """Put all sequences on the grid of one of them.

    A sequence on the reference's grid is taken as it is; others are resampled linearly, and get their background where
    they cover nothing.

    Args:
        volumes: one to four sequences.
        name: what the case is called in reports.
        reference: whose grid to use; the first of T1c, FLAIR, T2, T1 that is there if None.
        register: whether to move the others rigidly onto the reference first (for patients who moved between scans).
        progress: told before each sequence.

    Raises:
        InputError: the reference is not among the sequences, or a sequence is empty or shares no space with it.
    """
    if not volumes:
        raise InputError("No sequence was given; at least one of T1, T1c, T2 and FLAIR is needed.")
    chosen = next(m for m in _REFERENCE_ORDER if m in volumes) if reference is None else reference
    if chosen not in volumes:
        raise InputError(f"The reference {chosen.title} is not among the sequences; choose one that is there.")
    volumes = {m: _sound(volume) for m, volume in volumes.items()}
    fixed = volumes[chosen]
    present = tuple(m for m in MODALITIES if m in volumes)
    images: dict[Modality, np.ndarray] = {}
    warnings: list[str] = [warning for m in present for warning in volumes[m].warnings]
    for done, modality in enumerate(present):
        if progress is not None:
            verb = "Registering" if register and modality is not chosen else "Aligning"
            progress(Progress(f"{verb} {modality.title}", done / len(present)))
        moving = volumes[modality]
        if modality is chosen or (not register and moving.geometry.same_grid(fixed.geometry)):
            images[modality] = moving.array
            continue
        transform = rigid_transform(fixed, moving) if register else sitk.Transform(3, sitk.sitkIdentity)
        images[modality] = _resample(moving, fixed.geometry, transform)
        warnings += _judge(fixed, moving, images[modality], transform, (chosen.title, modality.title))
    if progress is not None:
        progress(Progress("Aligned", 1.0))
    sources = {m: volumes[m].source for m in present}
    return Case(images, fixed.geometry, name, sources, tuple(dict.fromkeys(warnings)))


def rigid_transform(fixed: Volume, moving: Volume) -> sitk.Transform:
    """Find the rigid motion from `fixed`'s LPS space to `moving`'s that maximises Mattes mutual information.

    Two resolutions, seeded sampling; threads add up in any order, so the result is rounded well below what is visible
    and the same files always give the same answer.

    Raises:
        InputError: the two have nothing in common that could be matched.
    """
    target, image = to_itk(fixed.array, fixed.geometry), to_itk(moving.array, moving.geometry)
    start = sitk.Euler3DTransform()
    if _coverage(fixed, moving.geometry, start) < 0.5:
        start = sitk.Euler3DTransform(
            sitk.CenteredTransformInitializer(target, image, start, sitk.CenteredTransformInitializerFilter.GEOMETRY)
        )
    centre = np.array(fixed.geometry.shape) / 2
    start.SetCenter((_FLIP * fixed.geometry.index_to_ras(centre)).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([0.2, 0.1], seed=_SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=150, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(target, image)
    except RuntimeError as error:
        raise InputError(
            f"{moving.source} cannot be registered to {fixed.source}; check that both are of the same patient."
        ) from error
    start.SetParameters([round(value, 6) for value in start.GetParameters()])
    return start


def _sound(volume: Volume) -> Volume:
    """Return a volume of numbers alone, for interpolation spreads those that are none."""
    array, warnings = sound_voxels(volume.array, volume.source)
    return volume if array is volume.array else replace(volume, array=array, warnings=(*volume.warnings, *warnings))


def _resample(moving: Volume, grid: Geometry, transform: sitk.Transform) -> np.ndarray:
    filter_ = sitk.ResampleImageFilter()
    filter_.SetReferenceImage(to_itk(np.zeros(grid.shape, dtype=np.uint8), grid))
    filter_.SetTransform(transform)
    filter_.SetInterpolator(sitk.sitkLinear)
    filter_.SetDefaultPixelValue(background_of(moving.array) or 0.0)
    filter_.SetOutputPixelType(sitk.sitkFloat32)
    return sitk.GetArrayFromImage(filter_.Execute(to_itk(moving.array, moving.geometry)))


def _judge(
    fixed: Volume, moving: Volume, resampled: np.ndarray, transform: sitk.Transform, titles: tuple[str, str]
) -> list[str]:
    """Refuse a sequence that shares no space with the reference, and warn of one that shares little.

    `titles` are the names of the reference and of the sequence.
    """
    inside = fixed.array != (background_of(fixed.array) or 0.0)
    filled = resampled != (background_of(moving.array) or 0.0)
    coverage = _coverage(fixed, moving.geometry, transform)
    shared = np.count_nonzero(inside & filled)
    if coverage == 0.0 or shared == 0:
        raise InputError(
            f"{titles[1]} ({moving.source}) and {titles[0]} ({fixed.source}) do not overlap in space; "
            "they look like mismatched patients, so check the files."
        )
    if coverage < _USUAL_COVERAGE:
        return [f"{titles[1]} covers only {coverage:.0%} of the {titles[0]}; the rest of it counts as background."]
    stripped = min(1 - inside.mean(), 1 - filled.mean()) > _STRIPPED_ZEROS
    dice = 2 * shared / (np.count_nonzero(inside) + np.count_nonzero(filled))
    if stripped and dice < _USUAL_OVERLAP:
        advice = "check that both are of the same patient, or have them registered"
        return [f"The brain in {titles[1]} overlaps that in {titles[0]} by only {dice:.0%}; {advice}."]
    return []


def _coverage(fixed: Volume, moving: Geometry, transform: sitk.Transform) -> float:
    """Return the part of the reference's non-zero voxels (some thousands of them) that lies inside the moving grid."""
    where = np.flatnonzero(fixed.array)
    picked = where[:: max(1, where.size // 5000)]
    points = np.stack(np.unravel_index(picked, fixed.geometry.shape), axis=-1)
    lps = fixed.geometry.index_to_ras(points) * _FLIP
    moved = np.array([transform.TransformPoint(point) for point in lps.tolist()])
    index = moving.ras_to_index(moved * _FLIP)
    return float(np.all((index >= -0.5) & (index <= np.array(moving.shape) - 0.5), axis=1).mean())
