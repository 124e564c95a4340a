"""What in a volume is the patient, and whether the skull was taken off."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from sofa_engine.geometry import Geometry

#: A value that fills more of the volume's side faces than this is its background.
_BORDER_SHARE = 0.5
#: No brain is larger; a foreground beyond it has the skull and the skin on.
_LARGEST_BRAIN_ML = 2300.0


def background_of(array: np.ndarray) -> float | None:
    """Return the value that surrounds the patient in (D, H, W), or None where it is surrounded by noise.

    The side faces of the volume are asked; the first and last slices may well cut through the brain.
    """
    border = np.concatenate([array[:, [0, -1]].ravel(), array[:, :, [0, -1]].ravel()])
    if np.count_nonzero(border == 0) > _BORDER_SHARE * border.size:
        return 0.0
    values, counts = np.unique(border, return_counts=True)
    most = int(np.argmax(counts))
    return float(values[most]) if counts[most] > _BORDER_SHARE * border.size else None


def is_skull_stripped(array: np.ndarray, geometry: Geometry) -> bool:
    """Whether (D, H, W) shows a brain alone on an even background."""
    background = background_of(array)
    if background is None:
        return False
    return int(np.count_nonzero(array != background)) * geometry.voxel_ml < _LARGEST_BRAIN_ML


def foreground_of(array: np.ndarray) -> np.ndarray:
    """Return the patient's voxels, bool (D, H, W).

    On an even background that is every other voxel, negative ones included (z-scored volumes). On noise it is the
    largest bright object (Otsu's threshold) with its holes filled slice by slice.
    """
    background = background_of(array)
    if background is not None:
        return array != background
    image = sitk.GetImageFromArray(np.clip(array, *np.percentile(array, [0.5, 99.5])))
    bright = sitk.OtsuThreshold(image, 0, 1, 128)
    components = sitk.RelabelComponent(sitk.ConnectedComponent(bright), sortByObjectSize=True)
    largest = sitk.GetArrayFromImage(components) == 1
    return np.stack([ndimage.binary_fill_holes(plane) for plane in largest])
