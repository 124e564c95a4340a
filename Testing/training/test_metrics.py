from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import DiceMetric, MeanIoU
from scipy import ndimage

from sofa_training.metrics import EMPTY_HD95_MM, hd95_mm, overlap, score_labels


def test_dice_and_iou_of_two_overlapping_bars_are_those_on_paper():
    found, truth = np.zeros((1, 1, 10), bool), np.zeros((1, 1, 10), bool)
    found[..., 0:6], truth[..., 4:8] = True, True
    assert overlap(found, truth) == (2 * 2 / (6 + 4), 2 / 8)


def test_hd95_of_two_single_voxels_is_their_distance_in_mm():
    found, truth = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    found[1, 4, 4], truth[4, 4, 8] = True, True
    assert hd95_mm(found, truth, (2.0, 1.0, 0.5)) == pytest.approx(math.hypot(3 * 2.0, 4 * 0.5))


def test_hd95_ignores_one_voxel_in_thousands_but_the_maximum_does_not():
    truth = np.zeros((30, 40, 40), bool)
    truth[5:25, 5:25, 5:25] = True
    found = truth.copy()
    found[15, 15, 39] = True
    assert hd95_mm(found, truth, (1.0, 1.0, 1.0)) == 0.0


def test_hd95_equals_the_definition_computed_from_surfaces():
    rng = np.random.default_rng(0)
    found, truth = (ndimage.gaussian_filter(rng.standard_normal((12, 20, 20)), 2) > 0.02 for _ in range(2))
    spacing = (2.0, 1.0, 1.0)

    def surface(mask):
        return mask & ~ndimage.binary_erosion(mask)

    def percentile(a, b):
        return np.percentile(ndimage.distance_transform_edt(~surface(b), sampling=spacing)[surface(a)], 95)

    expected = max(percentile(found, truth), percentile(truth, found))
    assert hd95_mm(found, truth, spacing) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_dice_and_iou_are_monais(seed: int):
    rng = np.random.default_rng(seed)
    found, truth = rng.random((2, 3, 6, 6)) < rng.uniform(0.05, 0.9)
    truth[0, 0, 0] = True
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (found, truth)]
    dice, iou = overlap(found, truth)
    assert dice == pytest.approx(DiceMetric()(*pair).item(), abs=1e-6)
    assert iou == pytest.approx(MeanIoU()(*pair).item(), abs=1e-6)


def test_brats_rule_for_empties_is_1_for_both_and_0_for_one():
    nothing, something = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    something[1:3, 1:3, 1:3] = 4
    both = score_labels(nothing, nothing, (1, 1, 1))
    assert all((s.dice, s.iou, s.hd95_mm, s.present) == (1.0, 1.0, 0.0, False) for s in both)
    phantom = {s.region: s for s in score_labels(something, nothing, (1, 1, 1))}
    assert (phantom["ET"].dice, phantom["ET"].hd95_mm) == (0.0, EMPTY_HD95_MM)
    assert phantom["ED"].dice == 1.0 and phantom["ET"].volume_ml == pytest.approx(0.008)
    missed = {s.region: s for s in score_labels(nothing, something, (1, 1, 1))}
    assert missed["WT"].dice == 0.0 and missed["WT"].volume_error_ml == pytest.approx(-0.008)


def test_the_regions_are_unions_of_labels_as_brats_defines_them():
    truth = np.zeros((1, 1, 7), np.uint8)
    truth[..., 0:1], truth[..., 1:3], truth[..., 3:7] = 1, 2, 4
    volumes = {s.region: round(s.truth_ml * 1000) for s in score_labels(truth, truth, (1, 1, 1), distances=False)}
    assert volumes == {"NCR": 1, "ED": 2, "ET": 4, "WT": 7, "TC": 5}


def test_voxel_volume_follows_the_spacing():
    truth = np.ones((10, 10, 10), np.uint8)
    (ncr, *_) = score_labels(truth, truth, (2.0, 0.5, 0.5), distances=False)
    assert ncr.truth_ml == pytest.approx(0.5)


def test_maps_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        score_labels(np.zeros((1, 2, 3)), np.zeros((3, 2, 1)), (1, 1, 1))
