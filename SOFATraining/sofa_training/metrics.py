"""Dice, IoU, HD95 and volume error of one case, with BraTS's rules for what is empty (section 4.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sofa_engine.types import Box
from sofa_training.regions import REGIONS, region_mask

#: BraTS's distance where one of two masks is empty: the diagonal of its 240 x 240 x 155 mm volume.
EMPTY_HD95_MM = math.sqrt(240**2 + 240**2 + 155**2)


@dataclass(frozen=True)
class RegionScore:
    """How well one region of one case was found.

    Attributes:
        region: one of `REGIONS`.
        dice: 2|A and B| / (|A| + |B|); BraTS's rule: 1 where both are empty, 0 where one is.
        iou: |A and B| / |A or B|, same rule.
        hd95_mm: 95th percentile of the surface distances, the larger of both directions; 0 where both are empty,
            `EMPTY_HD95_MM` where one is.
        volume_ml: millilitres found.
        truth_ml: millilitres in truth.
    """

    region: str
    dice: float
    iou: float
    hd95_mm: float
    volume_ml: float
    truth_ml: float

    @property
    def volume_error_ml(self) -> float:
        """Return found minus true millilitres."""
        return self.volume_ml - self.truth_ml

    @property
    def present(self) -> bool:
        """Whether the truth has this region at all."""
        return self.truth_ml > 0


def overlap(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return Dice and IoU of two bool masks of one shape; both are 1 where both masks are empty."""
    found_size, truth_size = int(np.count_nonzero(found)), int(np.count_nonzero(truth))
    total = found_size + truth_size
    if total == 0:
        return 1.0, 1.0
    common = int(np.count_nonzero(found & truth))
    return 2 * common / total, common / (total - common)


def hd95_mm(found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """Return the 95th percentile Hausdorff distance of two bool masks (D, H, W) in mm (MONAI's definition).

    Args:
        found: the prediction.
        truth: the expert's mask.
        spacing: mm between voxel centres, (z, y, x).
    """
    extent_found, extent_truth = Box.of_mask(found), Box.of_mask(truth)
    if extent_found is None and extent_truth is None:
        return 0.0
    if extent_found is None or extent_truth is None:
        return EMPTY_HD95_MM
    import torch  # noqa: PLC0415 - MONAI takes seconds to import, and only a distance needs it
    from monai.metrics import compute_hausdorff_distance  # noqa: PLC0415

    # A margin of one voxel keeps surfaces at the extent's border closed; everything beyond it is empty in both.
    extent = extent_found.union(extent_truth).grown((1, 1, 1), found.shape).slices
    pair = [torch.from_numpy(np.ascontiguousarray(mask[extent]))[None, None] for mask in (found, truth)]
    return float(compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(spacing)))


def score_region(
    region: str, found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], *, distances: bool = True
) -> RegionScore:
    """Score one bool mask (D, H, W) against the truth's; `distances=False` leaves HD95 out (NaN)."""
    dice, iou = overlap(found, truth)
    voxel_ml = float(np.prod(spacing)) / 1000
    return RegionScore(
        region=region,
        dice=dice,
        iou=iou,
        hd95_mm=hd95_mm(found, truth, spacing) if distances else math.nan,
        volume_ml=float(np.count_nonzero(found)) * voxel_ml,
        truth_ml=float(np.count_nonzero(truth)) * voxel_ml,
    )


def score_labels(
    found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], *, distances: bool = True
) -> tuple[RegionScore, ...]:
    """Score a label map against the truth's, for every region of `REGIONS`.

    Args:
        found: uint8 (D, H, W), values of `SubRegion.label` and 0.
        truth: same shape and values.
        spacing: mm between voxel centres, (z, y, x).
        distances: whether to compute HD95, which takes most of the time.

    Raises:
        ValueError: the two shapes differ.
    """
    if found.shape != truth.shape:
        raise ValueError(f"The prediction {found.shape} and the truth {truth.shape} must have one shape.")
    return tuple(
        score_region(name, region_mask(found, name), region_mask(truth, name), spacing, distances=distances)
        for name in REGIONS
    )
