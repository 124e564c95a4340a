"""Boxes from masks (eq. 4)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sofa_engine.prompts import (
    clean_mask,
    clipped,
    cross_section,
    inside_boxes,
    lesion_boxes,
    section_of,
    shifted,
    slice_boxes,
)
from sofa_engine.types import Box

MM = (1.0, 1.0, 1.0)
masks = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7))


def ball(shape, centre, radius):
    return sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre, strict=True)) <= radius**2


@st.composite
def boxes_within(draw, shape=(6, 7, 8), beyond=3):
    bounds = []
    for n in shape:
        a = draw(st.integers(-beyond, n + beyond - 1))
        bounds.append((a, draw(st.integers(a + 1, n + beyond))))
    return Box(tuple(a for a, _ in bounds), tuple(b for _, b in bounds))


def test_a_speck_of_noise_makes_no_box_but_a_lesion_does():
    mask = ball((20, 30, 30), (10, 12, 12), 4)
    lesion = mask.copy()
    mask[2, 28, 28] = True
    assert np.array_equal(clean_mask(mask, MM, min_mm3=10), lesion)


def test_what_counts_as_a_speck_is_measured_in_millimetres():
    mask = np.zeros((5, 9, 9), bool)
    mask[2, 3:5, 3:5] = True
    assert not clean_mask(mask, MM, min_mm3=10).any()
    assert clean_mask(mask, (5.0, 1.0, 1.0), min_mm3=10).any()


def test_voxels_that_touch_at_a_corner_are_one_component():
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert clean_mask(mask, MM, min_mm3=2).sum() == 2


def test_cleaning_may_be_switched_off():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    assert clean_mask(mask, MM, min_mm3=0).sum() == 1


def test_two_lesions_far_apart_get_a_box_each_the_larger_first():
    small, large = ball((20, 40, 40), (10, 8, 8), 3), ball((20, 40, 40), (10, 28, 28), 6)
    boxes = lesion_boxes(small | large, MM, apart_mm=5, min_mm3=30)
    assert boxes == (Box.of_mask(large), Box.of_mask(small))


def test_parts_close_together_share_one_box():
    mask = np.zeros((9, 9, 30), bool)
    mask[3:6, 3:6, 2:8] = mask[3:6, 3:6, 11:17] = True  # nearest voxels 4 mm apart
    assert len(lesion_boxes(mask, MM, apart_mm=5, min_mm3=10)) == 1
    assert len(lesion_boxes(mask, MM, apart_mm=2, min_mm3=10)) == 2
    assert len(lesion_boxes(mask, (1.0, 1.0, 3.0), apart_mm=5, min_mm3=10)) == 2


def test_a_lesion_below_the_smallest_volume_gets_no_box():
    mask = ball((20, 40, 40), (10, 28, 28), 6)
    whole = Box.of_mask(mask)
    mask[3, 3, 3] = True
    assert lesion_boxes(mask, MM, apart_mm=5, min_mm3=30) == (whole,)


@given(masks)
def test_lesion_boxes_together_hold_every_voxel_of_the_mask(mask):
    boxes = lesion_boxes(mask, MM, apart_mm=3, min_mm3=0)
    assert not (mask & ~inside_boxes(Box((0, 0, 0), mask.shape), boxes)).any()
    assert all(mask[box.slices].any() for box in boxes)


@given(masks, st.integers(0, 3))
def test_each_slice_is_boxed_tightly_grown_and_kept_in_the_image(mask, grow):
    slices, boxes = slice_boxes(mask, grow)
    assert slices.tolist() == np.flatnonzero(mask.any(axis=(1, 2))).tolist()
    height, width = mask.shape[1:]
    for z, (x0, y0, x1, y1) in zip(slices, boxes, strict=True):
        y, x = np.nonzero(mask[z])
        assert (x0, y0) == (max(x.min() - grow, 0), max(y.min() - grow, 0))
        assert (x1, y1) == (min(x.max() + 1 + grow, width), min(y.max() + 1 + grow, height))


def test_an_empty_mask_has_no_boxes():
    slices, boxes = slice_boxes(np.zeros((3, 4, 5), bool))
    assert slices.shape == (0,)
    assert boxes.shape == (0, 4)
    assert lesion_boxes(np.zeros((3, 4, 5), bool), MM, apart_mm=5, min_mm3=0) == ()


def test_the_cross_section_of_a_box_is_x_then_y():
    assert cross_section(Box((1, 2, 3), (4, 6, 8))).tolist() == [3, 2, 8, 6]


@settings(max_examples=60)
@given(st.lists(boxes_within(), max_size=4))
def test_a_voxel_is_inside_boxes_exactly_where_one_of_them_holds_it(boxes):
    extent = Box((1, 2, 0), (6, 7, 8))
    inside = inside_boxes(extent, boxes)
    for index in np.ndindex(*extent.shape):
        voxel = [i + a for i, a in zip(index, extent.lower, strict=True)]
        held = any(all(a <= v < b for a, v, b in zip(box.lower, voxel, box.upper, strict=True)) for box in boxes)
        assert inside[index] == held


def test_a_box_beyond_the_image_is_clipped_and_one_outside_drops_out():
    whole = Box((0, 0, 0), (10, 10, 10))
    beyond, outside = Box((-4, 2, 2), (3, 12, 5)), Box((11, 0, 0), (12, 3, 3))
    assert clipped([beyond, outside, beyond], whole) == (Box((0, 2, 2), (3, 10, 5)),)


def test_a_shifted_box_counts_from_the_crop():
    assert shifted(Box((5, 6, 7), (8, 9, 10)), (5, 5, 5)) == Box((0, 1, 2), (3, 4, 5))


def test_a_slice_is_prompted_with_its_own_outline_but_for_the_faces_that_reach_beyond_what_was_known():
    found = np.zeros((40, 40), dtype=bool)
    found[12:16, 10:14] = True
    known = Box((0, 8, 6), (10, 30, 28))
    inside = Box((0, 8, 7), (10, 29, 28))
    assert section_of(inside, found, known, 1).tolist() == [9, 11, 15, 17]
    assert section_of(replace(inside, upper=(10, 29, 35)), found, known, 1).tolist() == [9, 11, 35, 17]
    assert section_of(replace(inside, lower=(0, 2, 13)), found, known, 1).tolist() == [13, 2, 15, 17]
    elsewhere = Box((0, 20, 20), (10, 30, 30))
    for nothing in (section_of(elsewhere, found, known, 1), section_of(elsewhere, found, None, 1)):
        assert nothing.tolist() == [20, 20, 30, 30]
