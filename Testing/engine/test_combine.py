"""One label per voxel from three one-vs-all probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sofa_engine.combine import combine, recombine
from sofa_engine.types import SUB_REGIONS, SubRegion

NCR, ED, ET = SUB_REGIONS
chances = hnp.arrays(np.float16, (3, 12), elements=st.floats(0, 1, width=16))
label_maps = hnp.arrays(np.uint8, 12, elements=st.sampled_from([0, 1, 2, 4]))
locks = st.sets(st.sampled_from(SUB_REGIONS))


def at(**probabilities: float) -> np.ndarray:
    return np.array([probabilities.get(r.value, 0.0) for r in SUB_REGIONS], np.float32)[:, None]


@pytest.mark.parametrize(
    ("voxel", "label"),
    [
        (at(), 0),
        (at(ncr=0.5, ed=0.5, et=0.5), 0),
        (at(ed=0.51), 2),
        (at(ncr=0.7, ed=0.9, et=0.6), 2),
        (at(ncr=0.8, ed=0.8, et=0.8), 4),
        (at(ncr=0.8, ed=0.8), 1),
        (at(ncr=float("nan"), et=0.6), 4),
        (at(ncr=float("nan")), 0),
    ],
)
def test_the_most_probable_above_the_threshold_wins(voxel, label):
    assert combine(voxel).tolist() == [label]


def test_a_stricter_threshold_leaves_less():
    assert combine(at(ed=0.7), tau=0.8).tolist() == [0]


@given(chances, st.sampled_from([0.3, 0.5, 0.7]))
def test_every_label_is_explained_by_its_probability(probabilities, tau):
    labels = combine(probabilities, tau)
    for i, label in enumerate(labels):
        mine = [r for r in SUB_REGIONS if r.label == label]
        if mine:
            assert probabilities[mine[0].index, i] == probabilities[:, i].max() > np.float16(tau)
        else:
            assert (probabilities[:, i] <= np.float16(tau)).all()


@given(label_maps, chances, st.sampled_from(SUB_REGIONS), locks)
def test_refining_one_sub_region_moves_no_border_between_the_others(labels, probabilities, refined, locked):
    result = recombine(labels, probabilities, refined, locked=locked - {refined})
    unmoved = (labels != refined.label) & (result != refined.label)
    assert np.array_equal(labels[unmoved], result[unmoved])


@given(label_maps, chances, st.sampled_from(SUB_REGIONS), locks)
def test_a_locked_sub_region_neither_loses_nor_gains_a_voxel(labels, probabilities, refined, locked):
    result = recombine(labels, probabilities, refined, locked=locked - {refined})
    for other in locked - {refined}:
        assert np.array_equal(labels == other.label, result == other.label)


@given(label_maps, chances, st.sampled_from(SUB_REGIONS), hnp.arrays(bool, 12))
def test_voxels_to_be_kept_are_kept(labels, probabilities, refined, kept):
    result = recombine(labels, probabilities, refined, kept=kept)
    assert np.array_equal(labels[kept], result[kept])


@given(label_maps, chances)
def test_refining_all_three_in_turn_comes_to_the_plain_combination(labels, probabilities):
    for sub_region in (*SUB_REGIONS, *SUB_REGIONS):
        labels = recombine(labels, probabilities, sub_region)
    assert np.array_equal(labels, combine(probabilities))


def test_a_voxel_that_the_sub_region_gives_up_goes_to_the_next_in_line():
    voxel = at(ed=0.7, ncr=0.6)
    assert recombine(np.array([ET.label], np.uint8), voxel, ET).tolist() == [ED.label]
    assert recombine(np.array([ET.label], np.uint8), voxel, ET, locked=[ED]).tolist() == [NCR.label]
    assert recombine(np.array([ET.label], np.uint8), voxel, ET, locked=[ED, NCR]).tolist() == [0]


def test_the_given_labels_are_not_written_to():
    labels = np.array([0, 2], np.uint8)
    recombine(labels, np.ones((3, 2), np.float16), SubRegion.ET)
    assert labels.tolist() == [0, 2]


def test_a_core_that_a_person_boxed_comes_before_oedema_where_it_is_present():
    both, stated = at(ncr=0.6, ed=0.9), np.zeros((3, 1), bool)
    assert combine(both, stated=stated).tolist() == [2]
    stated[ED.index] = True
    assert combine(both, stated=stated).tolist() == [2]
    stated[NCR.index] = True
    assert combine(both, stated=stated).tolist() == [1]
    assert combine(at(ncr=0.4, ed=0.9), stated=stated).tolist() == [2]
    assert combine(at(ncr=0.6, et=0.7), stated=stated).tolist() == [4]
