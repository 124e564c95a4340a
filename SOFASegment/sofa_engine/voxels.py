"""Voxels that are no numbers: one of them would turn every percentile of its sequence, and so all of it, into nothing.

Programs that standardise intensities (SPM, ANTs) like to leave NaN around the brain, which is background like any
other. Inside a brain it is a gap that the user should know of.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from sofa_engine.case import Case
from sofa_engine.errors import InputError
from sofa_engine.foreground import background_of


def sound_case(case: Case) -> Case:
    """Return the case with background in place of voxels that are no numbers; the case itself if it has none.

    Every way into a session passes here: files, Slicer's volumes, uploads.

    Raises:
        InputError: a sequence has no image in it.
    """
    images, warnings = {}, list(case.warnings)
    for modality, array in case.images.items():
        images[modality], found = sound_voxels(array, case.sources.get(modality, modality.title))
        warnings += found
    if all(images[m] is case.images[m] for m in images):
        return case
    return replace(case, images=images, warnings=tuple(warnings))


def sound_voxels(array: np.ndarray, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return float (D, H, W) with background in place of NaN and infinity, and sentences for the user.

    An array of numbers alone comes back as it is. Nothing is said of a background that is no number.

    Args:
        array: voxels.
        source: what to call them.

    Raises:
        InputError: there is nothing but zeros and voxels that are no numbers.
    """
    # Every volume passes here on each of its ways, so what is sound must be known at a glance: NaN goes into both.
    extremes = np.array([array.min(), array.max()])
    if np.isfinite(extremes).all():
        _refuse_nothing(extremes, source)
        return array, ()
    bad = ~np.isfinite(array)
    filled = np.where(bad, array.dtype.type(0), array)
    filled[bad] = background_of(filled) or 0.0
    _refuse_nothing(filled, source)
    count = int(np.count_nonzero(_enclosed(bad) if _surrounds(bad) else bad))
    if count == 0:
        return filled, ()
    noun = "voxel that is no number" if count == 1 else "voxels that are no numbers"
    return filled, (f"{source} holds {count} {noun} (NaN or infinite); nothing can be found there.",)


def _refuse_nothing(array: np.ndarray, source: str) -> None:
    if not array.any():
        raise InputError(f"{source} is zero everywhere; give a volume with an image in it.")


def _surrounds(bad: np.ndarray) -> bool:
    return background_of(bad.astype(np.float32)) == 1.0


def _enclosed(bad: np.ndarray) -> np.ndarray:
    """Return the voxels of a mask that do not hang together with the volume's faces."""
    parts, count = ndimage.label(bad)
    enclosed = np.ones(count + 1, dtype=bool)
    enclosed[0] = False
    for axis in range(3):
        enclosed[parts.take([0, -1], axis=axis)] = False
    return enclosed[parts]
