"""How sure the model is: per voxel, per slice, and which slices a reader should look at first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from sofa_engine.types import SUB_REGIONS, Box, Modality, SliceConfidence, SubRegion


def voxel_confidence(probabilities: np.ndarray, labels: np.ndarray, tau: float = 0.5) -> np.ndarray:
    """Return how far each voxel's label is from a coin toss.

    Background is as sure as the likeliest sub-region is far below `tau`. A sub-region's voxel is as sure as its
    probability is above `tau`, and no surer than its lead over the next sub-region.

    Args:
        probabilities: float (3, ...), order of `SUB_REGIONS`; what is not a number counts as a coin toss.
        labels: uint8 (...), values of `SubRegion.label` and 0.
        tau: the decision's threshold.

    Returns:
        float16 (...), 0 to 1.
    """
    likely = np.nan_to_num(probabilities.astype(np.float32), nan=tau)
    result = (tau - likely.max(axis=0)) / tau
    for sub_region in SUB_REGIONS:
        mine = labels == sub_region.label
        own = likely[sub_region.index][mine]
        rival = np.delete(likely, sub_region.index, axis=0)[:, mine].max(axis=0)
        result[mine] = np.minimum((own - tau) / (1 - tau), own - rival)
    return np.clip(result, 0, 1).astype(np.float16)


def slice_confidence(
    confidence: np.ndarray,
    labels: np.ndarray,
    quality: np.ndarray,
    doubt: np.ndarray,
    *,
    reach_px: int = 2,
) -> np.ndarray:
    """Return how sure the model is of each sub-region in each slice.

    Where a sub-region has voxels: the mean of its voxels' confidence near its outline, where errors are, and the
    predicted IoU. Where it has none but was nearly found: the mean confidence of the voxels that nearly were it.

    Args:
        confidence: float (D, H, W), from `voxel_confidence`.
        labels: uint8 (D, H, W).
        quality: float (3, D), predicted IoU.
        doubt: bool (3, D, H, W), voxels that nearly belonged to each sub-region.
        reach_px: how far on both sides of an outline counts as near.

    Returns:
        float32 (3, D), NaN where a sub-region is out of the question.
    """
    result = np.full(quality.shape, np.nan, dtype=np.float32)
    in_plane = ndimage.generate_binary_structure(3, 1)
    in_plane[0], in_plane[2] = False, False
    for sub_region in SUB_REGIONS:
        mask = labels == sub_region.label
        box = Box.of_mask(mask | doubt[sub_region.index])
        if box is None:
            continue
        near = box.grown((0, reach_px, reach_px), mask.shape)
        mask = mask[near.slices]
        outline = ndimage.binary_dilation(mask, in_plane, reach_px) & ~ndimage.binary_erosion(mask, in_plane, reach_px)
        present = mask.any(axis=(1, 2))
        asked = np.where(present[:, None, None], outline, doubt[sub_region.index][near.slices])
        count = asked.sum(axis=(1, 2))
        mean = (confidence[near.slices].astype(np.float32) * asked).sum(axis=(1, 2)) / np.maximum(count, 1)
        predicted = np.clip(np.nan_to_num(quality[sub_region.index, near.slices[0]], nan=0.0), 0, 1)
        score = np.where(present, (mean + predicted) / 2, mean)
        result[sub_region.index, near.slices[0]] = np.where(count > 0, score, np.nan)
    return result


def worst_slices(scores: np.ndarray, count: int, *, apart: int) -> tuple[SliceConfidence, ...]:
    """Return up to `count` slices with the lowest scores, the lowest first, none of them close together.

    Args:
        scores: float (3, D), from `slice_confidence`.
        count: the most slices to return.
        apart: smallest distance between two of them, in slices; at least 1.
    """
    filled = np.where(np.isnan(scores), np.inf, scores)
    lowest, worst = filled.min(axis=0), filled.argmin(axis=0)
    chosen: list[SliceConfidence] = []
    for z in np.argsort(lowest, kind="stable").tolist():
        if len(chosen) >= count or not np.isfinite(lowest[z]):
            break
        if all(abs(z - other.slice_index) >= apart for other in chosen):
            chosen.append(SliceConfidence(z, float(lowest[z]), SUB_REGIONS[int(worst[z])]))
    return tuple(chosen)


def mean_attention(
    weights: np.ndarray,
    labels: np.ndarray,
    brain: np.ndarray,
    modalities: tuple[Modality, ...],
) -> Mapping[SubRegion, Mapping[Modality, float]]:
    """Return the mean modality weight (eq. 2) over each sub-region's voxels, or over the brain where it has none.

    Args:
        weights: float (3, M, D, h, w) on a grid coarser than or equal to that of `labels`.
        labels: uint8 (D, H, W).
        brain: bool (D, H, W).
        modalities: the M sequences of `weights`.
    """
    _, height, width = labels.shape
    rows, columns = weights.shape[-2:]
    result = {}
    for sub_region in SUB_REGIONS:
        mask = labels == sub_region.label
        z, y, x = np.nonzero(mask if mask.any() else brain)
        picked = weights[sub_region.index][:, z, y * rows // height, x * columns // width].astype(np.float64)
        mean = np.nan_to_num(picked).mean(axis=1) if z.size else np.ones(len(modalities))
        total = mean.sum()
        shares = mean / total if total > 0 else np.full(len(modalities), 1 / len(modalities))
        result[sub_region] = {m: float(v) for m, v in zip(modalities, shares, strict=True)}
    return result
