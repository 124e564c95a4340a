"""How sure the model is, and where a reader should look."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sofa_engine.combine import combine
from sofa_engine.confidence import mean_attention, slice_confidence, voxel_confidence, worst_slices
from sofa_engine.types import SUB_REGIONS, Modality, SubRegion

NCR, ED, ET = SUB_REGIONS


@given(hnp.arrays(np.float16, (3, 20), elements=st.floats(0, 1, width=16)))
def test_confidence_lies_between_a_coin_toss_and_certainty(probabilities):
    confidence = voxel_confidence(probabilities, combine(probabilities))
    assert confidence.dtype == np.float16
    assert ((confidence >= 0) & (confidence <= 1)).all()


@pytest.mark.parametrize(
    ("ncr", "ed", "et", "expected"),
    [
        (0.0, 0.0, 1.0, 1.0),  # surely enhancing
        (0.0, 0.0, 0.0, 1.0),  # surely background
        (0.0, 0.0, 0.5, 0.0),  # a coin toss
        (0.0, 0.75, 0.0, 0.5),
        (0.0, 0.25, 0.0, 0.5),
        (0.95, 0.0, 1.0, 0.05),  # surely tumour, but which part?
        (np.nan, np.nan, np.nan, 0.0),
    ],
)
def test_confidence_of_single_voxels(ncr, ed, et, expected):
    probabilities = np.array([[ncr], [ed], [et]], np.float32)
    assert voxel_confidence(probabilities, combine(probabilities))[0] == pytest.approx(expected, abs=1e-3)


def test_a_label_that_the_model_does_not_believe_in_is_a_coin_toss():
    assert voxel_confidence(np.zeros((3, 1), np.float32), np.array([ET.label], np.uint8))[0] == 0


@given(st.floats(0.1, 0.9))
def test_a_coin_toss_is_at_the_threshold_wherever_that_is(tau):
    probabilities = np.array([[tau], [0.0], [0.0]], np.float32)
    assert voxel_confidence(probabilities, np.zeros(1, np.uint8), tau)[0] == pytest.approx(0, abs=1e-3)


def four_slices():
    labels = np.zeros((4, 20, 20), np.uint8)
    labels[1:3, 6:14, 6:14] = ET.label
    return labels, np.ones((4, 20, 20), np.float16), np.ones((3, 4), np.float32), np.zeros((3, 4, 20, 20), bool)


def test_a_slice_without_the_sub_region_has_no_score():
    labels, confidence, quality, doubt = four_slices()
    scores = slice_confidence(confidence, labels, quality, doubt)
    assert np.isnan(scores[ET.index]).tolist() == [True, False, False, True]
    assert np.isnan(scores[[NCR.index, ED.index]]).all()


def test_doubt_at_the_outline_lowers_a_slice_but_doubt_far_away_does_not():
    labels, confidence, quality, doubt = four_slices()
    confidence[1, 5:15, 5:7] = 0.1
    confidence[2, 0, 0] = 0.1
    scores = slice_confidence(labels=labels, confidence=confidence, quality=quality, doubt=doubt)[ET.index]
    assert scores[1] < scores[2] == 1


def test_a_low_predicted_quality_lowers_a_slice():
    labels, confidence, quality, doubt = four_slices()
    quality[ET.index, 2] = 0.3
    scores = slice_confidence(confidence, labels, quality, doubt)[ET.index]
    assert scores[2] == pytest.approx(0.65)


def test_a_slice_where_a_sub_region_was_nearly_found_is_worth_a_look():
    labels, confidence, quality, doubt = four_slices()
    doubt[ED.index, 3, 2:6, 2:6] = True
    confidence[3, 2:6, 2:6] = 0.2
    scores = slice_confidence(confidence, labels, quality, doubt)
    assert scores[ED.index, 3] == pytest.approx(0.2, abs=1e-3)


def test_a_quality_that_is_not_a_number_counts_as_none():
    labels, confidence, quality, doubt = four_slices()
    quality[:] = np.nan
    assert slice_confidence(confidence, labels, quality, doubt)[ET.index, 1] == pytest.approx(0.5)


def test_the_list_is_spread_over_the_volume_and_starts_with_the_worst():
    scores = np.full((3, 40), np.nan)
    scores[ET.index, 10:20] = np.linspace(0.1, 0.2, 10)
    scores[ED.index, 30] = 0.15
    worst = worst_slices(scores, 3, apart=5)
    assert [(s.slice_index, s.sub_region) for s in worst] == [(10, ET), (30, ED), (15, ET)]
    assert worst[0].confidence == pytest.approx(0.1)


@given(hnp.arrays(np.float32, (3, 30), elements=st.floats(0, 1, width=32)), st.integers(0, 12), st.integers(1, 9))
def test_no_two_listed_slices_are_neighbours(scores, count, apart):
    worst = worst_slices(scores, count, apart=apart)
    assert len(worst) <= count
    places = sorted(s.slice_index for s in worst)
    assert all(b - a >= apart for a, b in pairwise(places))
    assert [s.confidence for s in worst] == sorted(s.confidence for s in worst)


def test_attention_is_averaged_inside_the_sub_region_on_a_coarser_grid():
    labels = np.zeros((2, 9, 9), np.uint8)
    labels[1, 0:3, 0:3] = ET.label
    weights = np.zeros((3, 2, 2, 3, 3), np.float16)
    weights[:, 0], weights[:, 1] = 0.2, 0.8
    weights[ET.index, :, 1, 0, 0] = (0.9, 0.1)
    modalities = (Modality.T1C, Modality.FLAIR)
    shares = mean_attention(weights, labels, np.ones(labels.shape, bool), modalities)
    assert shares[ET][Modality.T1C] == pytest.approx(0.9, abs=1e-3)
    assert shares[ED][Modality.FLAIR] == pytest.approx(0.8, abs=1e-3)
    for sub_region in SubRegion:
        assert sum(shares[sub_region].values()) == pytest.approx(1)


def test_attention_without_any_weight_is_even():
    shares = mean_attention(
        np.full((3, 2, 1, 2, 2), np.nan, np.float16),
        np.zeros((1, 4, 4), np.uint8),
        np.ones((1, 4, 4), bool),
        (Modality.T1, Modality.T2),
    )
    assert shares[NCR] == {Modality.T1: 0.5, Modality.T2: 0.5}
