"""The brain's extent: nothing outside of it is ever computed."""

from __future__ import annotations

import numpy as np

from sofa_engine.errors import InputError
from sofa_engine.types import Box


def brain_box(mask: np.ndarray) -> Box:
    """Return the smallest box around a brain mask (D, H, W), in plane and in slices.

    Raises:
        InputError: the mask is empty.
    """
    box = Box.of_mask(mask)
    if box is None:
        raise InputError("No brain was found in the images; check that they show one.")
    return box


def crop(array: np.ndarray, box: Box, multiple: int = 1) -> np.ndarray:
    """Cut the box out of (..., D, H, W) and pad rows and columns with zeros to a multiple, at their ends.

    Returns:
        (..., d, h', w'), a copy; h' and w' are multiples of `multiple`, slices are never padded.
    """
    _, height, width = box.shape
    padding = [(0, 0)] * (array.ndim - 2) + [(0, -height % multiple), (0, -width % multiple)]
    return np.pad(array[(..., *box.slices)], padding)


def uncrop(array: np.ndarray, box: Box, shape: tuple[int, int, int]) -> np.ndarray:
    """Put a crop (..., d, h', w') back where it came from, without its padding, into zeros of (..., *shape)."""
    depth, height, width = box.shape
    result = np.zeros((*array.shape[:-3], *shape), dtype=array.dtype)
    result[(..., *box.slices)] = array[..., :depth, :height, :width]
    return result
