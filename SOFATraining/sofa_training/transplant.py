"""Another patient's tumour in this patient's brain: with few cases, a way to see tumours in new surroundings.

Works where both cases lie in one atlas space, as BraTS's do: a voxel keeps its place.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sofa_training.prepared import PreparedCase

#: Standard deviation of the soft border between the two brains, pixels.
_BORDER = 2.0
#: Slices that a tumour may move up or down.
_LIFT = 3


def transplanted(
    images: np.ndarray,
    labels: np.ndarray,
    case: PreparedCase,
    index: int,
    donor: PreparedCase,
    rng: np.random.Generator,
    *,
    roam: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Add the donor's tumour of about the same height in the atlas to a slice.

    Args:
        images: uint8 (4, C, H, W), the receiving slice with its neighbours.
        labels: uint8 (H, W).
        case: where they are from.
        index: which slice they are.
        donor: whose tumour to take.
        rng: generator.
        roam: pixels that the tumour may move in plane. Where it may, it changes sides half of the time, and moves up or
            down by as many slices (3 otherwise).

    Returns:
        New arrays; the ones given where the donor has no tumour there, or lacks a sequence that the case has.
    """
    if donor.name == case.name or bool((case.present & ~donor.present).any()):
        return images, labels
    lift = max(_LIFT, roam)
    there = index + case.extent.lower[0] - donor.extent.lower[0] + int(rng.integers(-lift, lift + 1))
    if not 0 <= there < donor.truth.shape[0] or not donor.pixels[:, there].any():
        return images, labels
    reach = images.shape[1] // 2
    neighbours = np.clip(np.arange(there - reach, there + reach + 1), 0, donor.truth.shape[0] - 1)
    down = donor.extent.lower[1] - case.extent.lower[1]
    right = donor.extent.lower[2] - case.extent.lower[2]
    taken_labels, taken_images = np.asarray(donor.truth[there]), np.asarray(donor.images[:, neighbours])
    if roam:
        if rng.random() < 0.5:
            right = donor.geometry.shape[2] - donor.extent.upper[2] - case.extent.lower[2]
            taken_labels, taken_images = taken_labels[..., ::-1], taken_images[..., ::-1]
        down, right = down + int(rng.integers(-roam, roam + 1)), right + int(rng.integers(-roam, roam + 1))
    new_labels = moved(taken_labels, (down, right), labels.shape)
    new_images = moved(taken_images, (down, right), labels.shape)
    brain = images.any(axis=(0, 1))
    tumour = (new_labels > 0) & brain
    if not tumour.any():
        return images, labels
    weight = np.clip(
        2 * ndimage.gaussian_filter(ndimage.binary_dilation(tumour, iterations=2).astype(float), _BORDER), 0, 1
    )
    weight = np.where(brain & new_images.any(axis=(0, 1)), weight, 0.0)
    mixed = np.rint(images + weight * (new_images.astype(np.float64) - images)).astype(np.uint8)
    return mixed, np.where(tumour, new_labels, labels)


def moved(array: np.ndarray, move: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Return the last axes of an array placed at `move` in an empty array of `shape`, cut off where it reaches out."""
    axes = len(shape)
    placed = np.zeros((*array.shape[:-axes], *shape), dtype=array.dtype)
    target, source = [], []
    for offset, length, size in zip(move, array.shape[-axes:], shape, strict=True):
        start, stop = max(0, offset), min(size, offset + length)
        if stop <= start:
            return placed
        target.append(slice(start, stop))
        source.append(slice(start - offset, stop - offset))
    placed[(..., *target)] = array[(..., *source)]
    return placed
