"""Boxes from masks (eq. 4) and back: whole sub-regions, single lesions, single slices.

Masks are bool (D, H, W). Boxes in a slice are float32 (x0, y0, x1, y1) in pixels, half-open, as the prompt encoder
takes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from sofa_engine.types import Box

_NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)


def clean_mask(mask: np.ndarray, spacing: tuple[float, float, float], min_mm3: float) -> np.ndarray:
    """Return the mask without its 26-connected components smaller than `min_mm3`.

    Args:
        mask: bool (D, H, W).
        spacing: mm between voxels (z, y, x).
        min_mm3: smallest volume that stays, in mm³; 0 keeps everything.
    """
    box = Box.of_mask(mask)
    if box is None or min_mm3 <= 0:
        return mask
    labels, _ = ndimage.label(mask[box.slices], structure=_NEIGHBOURS_26)
    large = np.bincount(labels.ravel()) * float(np.prod(spacing)) >= min_mm3
    large[0] = False
    cleaned = np.zeros_like(mask)
    cleaned[box.slices] = large[labels]
    return cleaned


def lesion_boxes(
    mask: np.ndarray,
    spacing: tuple[float, float, float],
    *,
    apart_mm: float,
    min_mm3: float,
) -> tuple[Box, ...]:
    """Return a tight box per lesion, the largest lesion first.

    Parts of the mask whose distance exceeds `apart_mm` (to within a voxel) are lesions of their own; a lesion of less
    than `min_mm3` in all its parts is left out.

    Args:
        mask: bool (D, H, W).
        spacing: mm between voxels (z, y, x).
        apart_mm: largest gap inside one lesion, in mm between voxel centres; 0 separates all components.
        min_mm3: smallest lesion, in mm³.
    """
    whole = Box.of_mask(mask)
    if whole is None:
        return ()
    reach = apart_mm / 2
    around = whole.grown(tuple(int(np.ceil(reach / s)) for s in spacing), mask.shape)  # type: ignore[arg-type]
    inside = mask[around.slices]
    # Two parts belong together where the mask, swollen by half the gap, touches.
    swollen = inside if reach <= 0 else ndimage.distance_transform_edt(~inside, sampling=spacing) <= reach
    labels, count = ndimage.label(swollen, structure=_NEIGHBOURS_26)
    labels = np.where(inside, labels, 0)
    voxels = np.bincount(labels.ravel(), minlength=count + 1)
    extents = ndimage.find_objects(labels, max_label=count)
    found = []
    for i, extent in enumerate(extents, start=1):
        if extent is not None and voxels[i] * float(np.prod(spacing)) >= min_mm3:
            lower = tuple(s.start + a for s, a in zip(extent, around.lower, strict=True))
            upper = tuple(s.stop + a for s, a in zip(extent, around.lower, strict=True))
            found.append((int(voxels[i]), Box(lower, upper)))
    return tuple(box for _, box in sorted(found, key=lambda item: (-item[0], item[1].lower)))


def slice_boxes(mask: np.ndarray, grow_px: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the tight box of each slice that has voxels, grown and clipped to the image (eq. 4, per slice).

    Args:
        mask: bool (D, H, W).
        grow_px: pixels added on every side.

    Returns:
        Slice indices, int64 (n,), ascending, and boxes, float32 (n, 4).
    """
    _, height, width = mask.shape
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    rows, columns = np.any(mask[slices], axis=2), np.any(mask[slices], axis=1)
    boxes = np.stack(
        [
            np.maximum(columns.argmax(axis=1) - grow_px, 0),
            np.maximum(rows.argmax(axis=1) - grow_px, 0),
            np.minimum(width - columns[:, ::-1].argmax(axis=1) + grow_px, width),
            np.minimum(height - rows[:, ::-1].argmax(axis=1) + grow_px, height),
        ],
        axis=1,
    )
    return slices.astype(np.int64), boxes.astype(np.float32)


def cross_section(box: Box) -> np.ndarray:
    """Return the rectangle that a 3D box cuts from each of its slices, float32 (4,)."""
    (_, y0, x0), (_, y1, x1) = box.lower, box.upper
    return np.array([x0, y0, x1, y1], dtype=np.float32)


def section_of(part: Box, found: np.ndarray, known: Box | None, grow_px: int = 0) -> np.ndarray:
    """Return the rectangle to prompt a slice of a 3D box with, float32 (4,).

    A face that reaches beyond what was known says where to look. One that does not only holds together what the slice's
    own outline bounds more closely, and a wide rectangle leads the network to expect more than there is.

    Args:
        part: the 3D box.
        found: bool (H, W), what the first pass found in the slice.
        known: box around all that the first pass found; None where it found nothing.
        grow_px: pixels added around what was found.
    """
    wide = cross_section(part)
    inside = np.zeros((1, *found.shape), dtype=bool)
    inside[0][part.slices[1:]] = found[part.slices[1:]]
    _, tight = slice_boxes(inside, grow_px)
    if known is None or not len(tight):
        return wide
    before = cross_section(known)
    least = np.where(wide[:2] < before[:2], wide[:2], np.maximum(wide[:2], tight[0, :2]))
    most = np.where(wide[2:] > before[2:], wide[2:], np.minimum(wide[2:], tight[0, 2:]))
    return np.concatenate([least, most])


def heights_in(box: Box, slices: np.ndarray) -> np.ndarray:
    """Return where slices lie in a 3D box, float32 (n,): -1 at its lowest face, 0 in the middle, 1 at its highest."""
    half = (box.upper[0] - box.lower[0]) / 2
    return ((slices + 0.5 - box.lower[0] - half) / half).astype(np.float32)


def clipped(boxes: Sequence[Box], extent: Box) -> tuple[Box, ...]:
    """Return the parts of the boxes inside `extent`, without repeats, in their order; boxes beyond it drop out."""
    parts = (box.intersection(extent) for box in boxes)
    return tuple(dict.fromkeys(part for part in parts if part is not None))


def shifted(box: Box, origin: tuple[int, int, int]) -> Box:
    """Return the box counted from `origin` (z, y, x) instead of from the volume's first voxel."""
    return Box(
        tuple(a - o for a, o in zip(box.lower, origin, strict=True)),  # type: ignore[arg-type]
        tuple(b - o for b, o in zip(box.upper, origin, strict=True)),  # type: ignore[arg-type]
    )


def inside_boxes(extent: Box, boxes: Sequence[Box]) -> np.ndarray:
    """Return which voxels of `extent` lie in any of the boxes, bool `extent.shape`."""
    inside = np.zeros(extent.shape, dtype=bool)
    for part in clipped(boxes, extent):
        inside[shifted(part, extent.lower).slices] = True
    return inside
