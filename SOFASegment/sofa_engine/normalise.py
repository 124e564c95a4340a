"""Intensities as the model wants them (section 3.2): clipped to percentiles, scaled to [0, 255]."""

from __future__ import annotations

import numpy as np

from sofa_engine.case import Case
from sofa_engine.foreground import foreground_of, is_skull_stripped

_PERCENTILES = (0.5, 99.5)
#: More voxels than this at the very maximum are not tissue but the end of the scanner's or the file's range.
_SATURATED_SHARE = 0.005


def normalise_case(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return the normalised sequences and the brain.

    Returns:
        images: float32 (M, D, H, W) in the order of `case.modalities`, 0 to 255, zero outside each one's brain.
        brain: bool (D, H, W), the voxels that any sequence shows. Where the skull is still on, the head.
    """
    images = np.empty((len(case.modalities), *case.geometry.shape), dtype=np.float32)
    brain = np.zeros(case.geometry.shape, dtype=bool)
    for image, modality in zip(images, case.modalities, strict=True):
        foreground = foreground_of(case.images[modality])
        image[...] = normalise_volume(case.images[modality], foreground)
        brain |= foreground
    return images, brain


def normalise_volume(array: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Clip (D, H, W) to the foreground's 0.5 and 99.5 percentiles and scale to [0, 255]; the rest is zero.

    A foreground of one single value becomes 255.
    """
    result = np.zeros(array.shape, dtype=np.float32)
    values = array[foreground]
    if values.size == 0:
        return result
    low, high = np.percentile(values, _PERCENTILES)
    if high > low:
        result[foreground] = (np.clip(values, low, high) - low) * (255.0 / (high - low))
    else:
        result[foreground] = 255.0
    return result


def intensity_warnings(case: Case) -> tuple[str, ...]:
    """Return sentences for the user about intensities that the model was not trained on."""
    warnings = []
    with_skull = [m.title for m in case.modalities if not is_skull_stripped(case.images[m], case.geometry)]
    if with_skull:
        warnings.append(
            f"The skull seems to be still on in {', '.join(with_skull)}: the model knows skull-stripped brains only, "
            "so strip it first (HD-BET, SynthStrip) for a reliable result."
        )
    for modality in case.modalities:
        array = case.images[modality]
        bright = array[array != 0]
        if bright.size == 0:
            continue
        top = bright.max()
        share = float(np.mean(bright == top))
        if share > _SATURATED_SHARE:
            warnings.append(
                f"{share:.1%} of {modality.title} is saturated at {top:g}; bright tissue there cannot be told apart."
            )
    return tuple(warnings)
