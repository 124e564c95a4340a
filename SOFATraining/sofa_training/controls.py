"""What a box alone is worth: shapes drawn into boxes of the truth, reading no image.

A result under a prompted protocol says something about the model only as far as it beats these. Each region is
measured on its own, in its own boxes, as the paper's one-vs-all masks are.
"""

from __future__ import annotations

import numpy as np

from sofa_engine.types import Box


def _ellipsoid(lower: tuple[int, ...], upper: tuple[int, ...]) -> np.ndarray:
    """Return the ellipsoid inscribed in a half-open box of any dimension, bool of the box's shape."""
    distance = sum(
        ((axis - (low + high - 1) / 2) / ((high - low) / 2)) ** 2
        for axis, low, high in zip(np.ogrid[_within(lower, upper)], lower, upper, strict=True)
    )
    return np.asarray(distance <= 1)


def _within(lower: tuple[int, ...], upper: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(low, high) for low, high in zip(lower, upper, strict=True))


def ellipses_in_slice_boxes(truth: np.ndarray) -> np.ndarray:
    """Return an ellipse in the truth's tight box of every slice: the control of the oracle protocol.

    Args:
        truth: bool (D, H, W), one region.

    Returns:
        bool (D, H, W).
    """
    drawn = np.zeros_like(truth, dtype=bool)
    for index in np.flatnonzero(truth.any(axis=(1, 2))):
        rows, columns = np.flatnonzero(truth[index].any(axis=1)), np.flatnonzero(truth[index].any(axis=0))
        lower, upper = (rows[0], columns[0]), (rows[-1] + 1, columns[-1] + 1)
        drawn[index][_within(lower, upper)] = _ellipsoid(lower, upper)
    return drawn


def ellipsoid_in_box(shape: tuple[int, int, int], box: Box | None) -> np.ndarray:
    """Return the ellipsoid in one 3D box, bool of `shape`: the control of the box3d protocol; empty without a box."""
    drawn = np.zeros(shape, dtype=bool)
    if box is not None:
        drawn[box.slices] = _ellipsoid(box.lower, box.upper)
    return drawn
