"""The boxes that a localiser is trained with: one around a sub-region as a person draws it, or one in every slice."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from sofa_engine.model.localiser import what_boxes_say
from sofa_training.config import Section

#: A cell belongs to what a box is drawn around from this share on.
_HALF = 0.5
#: Cells by which the faces of a person's box lie outside of the sub-region, mean and spread per axis (z, y, x), and the
#: least and most: what `sofa_training.protocols.person_box` does, on cells of 2 mm.
_MEAN, _SPREAD, _LIMITS = np.array([0.25, 0.5, 0.5]), np.array([0.5, 0.75, 0.75]), (-1.5, 2.5)
#: Sides of a slice's box are known to a part of a cell.
_FINE = 0.25


class VolumePrompts(Section):
    """How boxes are drawn around the truth of a crop.

    Attributes:
        share: probability that a crop is shown any.
        each: probability that a sub-region of such a crop is boxed.
        slices: probability that boxes are drawn slice by slice instead of once in 3D.
    """

    share: float = Field(0.55, ge=0, le=1)
    each: float = Field(0.8, ge=0, le=1)
    slices: float = Field(0.4, ge=0, le=1)


def draw_prompt(shares: Tensor, config: VolumePrompts, rng: np.random.Generator) -> Tensor:
    """Return what the drawn boxes say of each cell, float32 (3, D, H, W): -1 outside to 1 inside, 0 without a box.

    Args:
        shares: (3, D, H, W), the truth.
        config: what is drawn how often.
        rng: generator.
    """
    said = torch.zeros(shares.shape)
    if rng.random() >= config.share:
        return said
    by_slice = rng.random() < config.slices
    for plane, share in zip(said, shares.numpy(), strict=True):
        mask = share > _HALF
        if rng.random() >= config.each or not mask.any():
            continue
        if by_slice:
            layers = np.flatnonzero(mask.any(axis=(1, 2)))
            edges = [_in_layer(z, *_around(mask[z], np.zeros(2), np.full(2, _FINE), rng)) for z in layers]
        else:
            edges = [_around(mask, _MEAN, _SPREAD, rng)]
        plane.copy_(what_boxes_say(edges, mask.shape))
    return said


def _in_layer(z: int, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.array([z, *lower]), np.array([z + 1, *upper])


def _around(
    mask: np.ndarray, mean: np.ndarray, spread: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper corner of a box around a mask whose faces moved outward by about `mean` cells."""
    there = np.argwhere(mask)
    below, above = np.clip(rng.normal(mean, spread, (2, mask.ndim)), *_LIMITS)
    lower = there.min(axis=0) - below
    return lower, np.maximum(lower + _HALF, there.max(axis=0) + 1 + above)
