from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from torch.nn import functional as F

from sofa_training.config import LossConfig
from sofa_training.losses import combine_losses, mask_losses, union_loss


def _masks(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 24, 20, generator=generator)
    return logits, (torch.rand(count, 24, 20, generator=generator) > 0.7).float()


def test_soft_dice_is_monais_with_squared_denominator():
    logits, truth = _masks()
    expected = DiceLoss(sigmoid=True, squared_pred=True, smooth_nr=1, smooth_dr=1, reduction="none")(
        logits[:, None], truth[:, None]
    )
    torch.testing.assert_close(mask_losses(logits, truth, torch.zeros(3)).dice, expected.flatten())


def test_cross_entropy_is_the_mean_over_pixels():
    logits, truth = _masks()
    expected = torch.stack([F.binary_cross_entropy_with_logits(a, b) for a, b in zip(logits, truth, strict=True)])
    torch.testing.assert_close(mask_losses(logits, truth, torch.zeros(3)).cross_entropy, expected)


def test_the_iou_head_learns_the_true_iou_and_1_for_two_empty_masks():
    truth, logits = torch.zeros(2, 8, 8), torch.full((2, 8, 8), -3.0)
    truth[0, :4], logits[0, 2:6] = 1, 3.0
    losses = mask_losses(logits, truth, torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(losses.iou_true, torch.tensor([16 / 48, 1.0]))
    torch.testing.assert_close(losses.quality, torch.tensor([(0.5 - 1 / 3) ** 2, 0.75**2]))


def test_an_empty_mask_gives_a_finite_loss_that_falls_when_the_phantom_goes():
    truth = torch.zeros(1, 16, 16)
    phantom, nothing = torch.full((1, 16, 16), 2.0), torch.full((1, 16, 16), -8.0)
    worse, better = (mask_losses(x, truth, torch.zeros(1)).dice.item() for x in (phantom, nothing))
    assert 0 <= better < 0.01
    assert 0.9 < worse <= 1


def test_coarse_logits_meet_the_truth_on_either_grid():
    truth = torch.zeros(1, 16, 16)
    truth[0, :8] = 1
    logits = torch.full((1, 4, 4), -20.0)
    logits[0, :2] = 20.0
    assert mask_losses(logits, truth, torch.zeros(1), "mask").dice.item() == pytest.approx(0, abs=1e-4)
    assert mask_losses(logits, truth, torch.zeros(1), "image").dice_true.item() > 0.9


def test_the_papers_loss_is_the_sum_of_both_terms_at_weight_one():
    logits, truth = _masks()
    losses = mask_losses(logits, truth, torch.zeros(3))
    config = LossConfig(quality=0)
    total = combine_losses(losses, torch.tensor([0, 1, 2]), torch.ones(3), 3, config)
    torch.testing.assert_close(total, (losses.cross_entropy + losses.dice).mean())


def test_weights_and_batch_dice_count_per_sub_region():
    logits, truth = _masks(4)
    losses = mask_losses(logits, truth, torch.zeros(4))
    regions = torch.tensor([0, 0, 1, 2])
    one = combine_losses(losses, regions, torch.tensor([3.0, 0.0, 0.0]), 4, LossConfig(seg=1, iou=0, quality=0))
    torch.testing.assert_close(one, 3 * losses.cross_entropy[:2].sum() / 4)
    batch = combine_losses(losses, regions, torch.ones(3), 4, LossConfig(seg=0, iou=0, quality=0, batch_dice=1))
    p, t = logits[:2].sigmoid(), truth[:2]
    first = 1 - (2 * (p * t).sum() + 1) / (p.square().sum() + t.sum() + 1)
    rest = losses.dice[2:]
    torch.testing.assert_close(batch, (first + rest.sum()) / 3)


def test_a_tumour_of_doubtful_parts_costs_less_than_one_that_was_missed():
    config = LossConfig(at="image")
    truth = torch.zeros(1, 3, 8, 8)
    truth[0, 1, 2:6, 2:6] = 1
    missed = torch.full((1, 3, 8, 8), -6.0)
    torn, sure = missed.clone(), missed.clone()
    torn[0, :, 2:6, 2:6] = 0.0  # each part as likely as not
    sure[0, 0, 2:6, 2:6] = 6.0  # the wrong part, but tumour
    losses = [union_loss(logits, truth, config).item() for logits in (missed, torn)]
    assert losses[1] < losses[0]
    # What is called core is wrong as tumour core, and no better as whole tumour than oedema is.
    right = missed.clone()
    right[0, 1, 2:6, 2:6] = 6.0
    assert union_loss(right, truth, config) < union_loss(sure, truth, config)
    assert union_loss(right, truth, config) < 0.01


def test_unions_are_compared_where_the_masks_are():
    truth = torch.zeros(2, 3, 16, 16)
    truth[:, 2, 4:12, 4:12] = 1
    logits = torch.where(torch.nn.functional.avg_pool2d(truth, 2) > 0.5, 8.0, -8.0).requires_grad_()
    loss = union_loss(logits, truth, LossConfig(at="mask"))
    loss.backward()
    assert loss < 0.01 and torch.isfinite(logits.grad).all()
    extreme = torch.where(logits > 0, 200.0, -200.0).detach().requires_grad_()
    union_loss(extreme, truth.flip(1), LossConfig(at="mask")).backward()
    assert torch.isfinite(extreme.grad).all()
