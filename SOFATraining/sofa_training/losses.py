"""Cross-entropy and soft Dice per mask (eq. 7), and the IoU head's target."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sofa_training.config import LossConfig

#: Added to both sides of a Dice ratio, in pixels: an empty mask costs as much as a handful of wrong pixels does.
_SMOOTH = 1.0
#: Indices in `SUB_REGIONS` of the parts of whole tumour and tumour core.
_UNIONS = ([0, 1, 2], [0, 2])


class MaskLosses(NamedTuple):
    """Losses of N masks, each (N,) float32, with what a Dice over several of them needs.

    Attributes:
        cross_entropy: mean over pixels.
        dice: 1 - soft Dice.
        quality: squared error of the IoU head.
        common, total: numerator (without its 2) and denominator of the soft Dice.
        iou_true, dice_true: of the thresholded mask; 1 where both it and the truth are empty.
    """

    cross_entropy: Tensor
    dice: Tensor
    quality: Tensor
    common: Tensor
    total: Tensor
    iou_true: Tensor
    dice_true: Tensor


def mask_losses(logits: Tensor, truth: Tensor, quality: Tensor, at: str = "image") -> MaskLosses:
    """Compare N masks with the truth.

    Args:
        logits: (N, h, w), possibly coarser than the truth.
        truth: float (N, H, W), the share of each pixel that the mask covers.
        quality: (N,), the IoU head's estimate.
        at: "image" enlarges the logits to the truth's pixels, as inference reads them; "mask" averages the truth over
            the logits' pixels.

    Returns:
        Losses in float32 whatever the precision of the computation.
    """
    logits, target = logits.float(), truth.float()
    if at == "image":
        logits = enlarge(logits, target.shape[-2:])
    elif logits.shape[-2:] != target.shape[-2:]:
        target = F.adaptive_avg_pool2d(target, logits.shape[-2:])
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2))
    probability = logits.sigmoid()
    common = (probability * target).sum((1, 2))
    # Squared denominator, as LiteMedSAM trains.
    total = probability.square().sum((1, 2)) + target.square().sum((1, 2))
    dice = 1 - (2 * common + _SMOOTH) / (total + _SMOOTH)
    with torch.no_grad():
        mask, there = logits > 0, target > 0.5
        hits = (mask & there).sum((1, 2)).float()
        sizes = mask.sum((1, 2)).float() + there.sum((1, 2)).float()
        empty = sizes == 0
        iou_true = torch.where(empty, 1.0, hits / (sizes - hits).clamp(min=1))
        dice_true = torch.where(empty, 1.0, 2 * hits / sizes.clamp(min=1))
    return MaskLosses(cross_entropy, dice, (quality.float() - iou_true).square(), common, total, iou_true, dice_true)


def combine_losses(losses: MaskLosses, regions: Tensor, weights: Tensor, count: int, config: LossConfig) -> Tensor:
    """Return the weighted loss of a pass, a scalar.

    Args:
        losses: of N masks.
        regions: int64 (N,), sub-region of each.
        weights: (3,), weight of each sub-region.
        count: divides the sum; at least N. The same for every process of a run, so that the mean over processes is
            the mean over their masks.
        config: weights of the terms.
    """
    each = config.seg * losses.cross_entropy + config.iou * losses.dice + config.quality * losses.quality
    loss = (each * weights[regions]).sum() / count
    if config.batch_dice > 0:
        common = losses.common.new_zeros(len(weights)).index_add(0, regions, losses.common)
        total = losses.total.new_zeros(len(weights)).index_add(0, regions, losses.total)
        ratio = 1 - (2 * common + _SMOOTH) / (total + _SMOOTH)
        loss = loss + config.batch_dice * (ratio * weights).mean()
    return loss


def union_loss(logits: Tensor, truth: Tensor, config: LossConfig) -> Tensor:
    """Return the loss of whole tumour and tumour core as unions of three one-vs-all answers, a scalar.

    The probability of a union is 1 - prod(1 - p) over its parts. Cross-entropy, and a soft Dice over all slices.

    Args:
        logits: (B, 3, h, w), order of `SUB_REGIONS`.
        truth: float (B, 3, H, W), the share of each pixel that each sub-region covers.
        config: weights of the terms, and where to compare.
    """
    target = truth.float()
    if config.at == "image":
        logits = F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
    elif logits.shape[-2:] != target.shape[-2:]:
        target = F.adaptive_avg_pool2d(target, logits.shape[-2:])
    absent = F.logsigmoid(-logits.float())
    loss = absent.new_zeros(())
    for parts in _UNIONS:
        nowhere = absent[:, parts].sum(dim=1).clamp(max=-1e-6)
        union = target[:, parts].sum(dim=1).clamp(max=1)
        found = -torch.expm1(nowhere)
        cross_entropy = -(union * found.log() + (1 - union) * nowhere).mean()
        dice = (2 * (found * union).sum() + _SMOOTH) / (found.square().sum() + union.square().sum() + _SMOOTH)
        loss = loss + config.seg * cross_entropy + config.iou * (1 - dice)
    return loss / len(_UNIONS)


def enlarge(logits: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Return (N, h, w) logits on the image's pixels (bilinear), as inference reads them."""
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
