"""The boxes that the second pass is trained with: drawn around the truth as people draw, or the model's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sofa_engine.prompts import heights_in, slice_boxes
from sofa_engine.types import SUB_REGIONS, Box
from sofa_training.augment import SpatialChange
from sofa_training.config import PromptConfig
from sofa_training.prepared import PreparedCase


@dataclass(frozen=True)
class DrawnBoxes:
    """Prompts of one slice, one per sub-region.

    Attributes:
        boxes: float32 (3, 4), x0 y0 x1 y1 in pixels of the crop, half-open.
        valid: bool (3,), whether there is a box.
        heights: float32 (3,), where the slice lies in the 3D box that the rectangle was cut from, -1 to 1; else 0.
        own: bool (3,), whether the model's own box is to be used instead where its first pass finds anything.
    """

    boxes: np.ndarray
    valid: np.ndarray
    heights: np.ndarray
    own: np.ndarray


def draw_boxes(
    masks: np.ndarray,
    case: PreparedCase,
    index: int,
    change: SpatialChange,
    config: PromptConfig,
    epoch: int,
    rng: np.random.Generator,
) -> DrawnBoxes:
    """Draw a prompt per sub-region.

    Args:
        masks: bool (3, H, W), the truth in the crop.
        case: where the slice is from.
        index: the slice.
        change: how the slice became the crop.
        config: shares and jitter.
        epoch: for the share of own boxes, which may rise.
        rng: generator.
    """
    boxes = np.zeros((len(SUB_REGIONS), 4), dtype=np.float32)
    valid, heights = np.zeros(len(SUB_REGIONS), dtype=bool), np.zeros(len(SUB_REGIONS), dtype=np.float32)
    rising = 1.0 if config.own_after == 0 else min(1.0, epoch / config.own_after)
    own = np.zeros(len(SUB_REGIONS), dtype=bool)
    for r, mask in enumerate(masks):
        kind = rng.random()
        box = tight_box(mask)
        own[r] = kind < config.own * rising
        if kind >= 1 - config.cross_section:
            # An empty cross-section teaches that a box need not hold anything.
            section = _cross_section(case, r, index, change, rng)
            if section is not None:
                box, heights[r] = section
        if box is None and rng.random() < config.empty:
            box = _anywhere(masks.shape[1:], rng)
        if box is not None:
            boxes[r] = jitter(box, config, masks.shape[1:], rng)
            valid[r] = True
    return DrawnBoxes(boxes, valid, heights, own)


def tight_box(mask: np.ndarray) -> np.ndarray | None:
    """Return x0, y0, x1, y1 around the pixels of a bool (H, W) mask, half-open, or None if it is empty (eq. 4)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)


def jitter(box: np.ndarray, config: PromptConfig, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Move each side outward by up to `outward` pixels or now and then inward, and clip to the image (H, W)."""
    extent = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    out = rng.uniform(0, config.outward, 4)
    inward = -rng.uniform(0, config.inward, 4) * extent
    move = np.where(rng.random(4) < config.inward_probability, inward, out)
    moved = box + move * np.array([-1, -1, 1, 1])
    limits = np.array([size[1], size[0]] * 2)
    moved = np.clip(moved, 0, limits)
    # Never thinner than a pixel, also where the clip took all of it.
    moved[:2] = np.minimum(moved[:2], limits[:2] - 1)
    moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
    return moved.astype(np.float32)


def own_boxes(logits: Tensor, grow: int) -> tuple[Tensor, Tensor]:
    """Return the boxes of a first pass (eq. 4), as the session makes them.

    Args:
        logits: (N, H, W) on the pixels of the image; no gradient flows through a box.
        grow: pixels added on every side.

    Returns:
        Boxes float32 (N, 4), clipped to the image, and bool (N,), False where nothing was found.
    """
    mask = logits.detach() > 0
    height, width = mask.shape[-2:]
    rows, columns = mask.any(dim=2).int(), mask.any(dim=1).int()
    boxes = torch.stack(
        [
            columns.argmax(dim=1) - grow,
            rows.argmax(dim=1) - grow,
            width - columns.flip(1).argmax(dim=1) + grow,
            height - rows.flip(1).argmax(dim=1) + grow,
        ],
        dim=1,
    ).float()
    limits = torch.tensor([width, height, width, height], device=boxes.device, dtype=boxes.dtype)
    return boxes.clamp(min=0).minimum(limits), rows.any(dim=1)


def usual_shares(cases: Iterable[PreparedCase]) -> np.ndarray:
    """Return the share of its tight slice boxes that each sub-region fills, float32 (3,); 0 if there is none."""
    filled, boxed = np.zeros(len(SUB_REGIONS)), np.zeros(len(SUB_REGIONS))
    for case in cases:
        truth = np.asarray(case.truth)
        for sub_region in SUB_REGIONS:
            mask = truth == sub_region.label
            filled[sub_region.index] += np.count_nonzero(mask)
            _, boxes = slice_boxes(mask)
            boxed[sub_region.index] += ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()
    return (filled / np.maximum(boxed, 1)).astype(np.float32)


def _anywhere(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return a box of 8 to 60 pixels anywhere in an image (H, W)."""
    centre = np.array([rng.uniform(0, size[1]), rng.uniform(0, size[0])])
    half = rng.uniform(4, 30, 2)
    limits = np.array([size[1], size[0]])
    return np.concatenate([np.clip(centre - half, 0, limits), np.clip(centre + half, 0, limits)]).astype(np.float32)


def _cross_section(
    case: PreparedCase, region: int, index: int, change: SpatialChange, rng: np.random.Generator
) -> tuple[np.ndarray, float] | None:
    """Return the rectangle that the sub-region's 3D box, a little too tall, cuts from this slice, and its height."""
    box = case.boxes[region]
    if box is None:
        return None
    below, above = rng.integers(0, 3, 2)
    drawn = Box((box.lower[0] - int(below), *box.lower[1:]), (box.upper[0] + int(above), *box.upper[1:]))
    if not drawn.lower[0] <= index < drawn.upper[0]:
        return None
    mapped = change.map_box(np.array([box.lower[2], box.lower[1], box.upper[2], box.upper[1]]))
    limits = np.array([change.size[1], change.size[0]] * 2, dtype=np.float32)
    mapped = np.clip(mapped, 0, limits)
    if mapped[2] - mapped[0] < 1 or mapped[3] - mapped[1] < 1:
        return None
    return mapped, float(heights_in(drawn, np.array([index]))[0])
