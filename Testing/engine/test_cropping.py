from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofa_engine.cropping import brain_box, crop, uncrop
from sofa_engine.errors import InputError
from sofa_engine.types import Box


def test_the_box_touches_the_brain_on_every_side():
    mask = np.zeros((10, 20, 30), bool)
    mask[2, 5, 7] = mask[6, 11, 21] = True
    assert brain_box(mask) == Box((2, 5, 7), (7, 12, 22))


def test_no_brain_is_said():
    with pytest.raises(InputError, match="No brain was found"):
        brain_box(np.zeros((3, 4, 5), bool))


def test_rows_and_columns_are_padded_to_the_multiple_and_slices_are_not():
    array = np.arange(2 * 5 * 9 * 13, dtype=np.float32).reshape(2, 5, 9, 13)
    part = crop(array, Box((1, 1, 2), (4, 8, 12)), multiple=8)
    assert part.shape == (2, 3, 8, 16)
    np.testing.assert_array_equal(part[:, :, :7, :10], array[:, 1:4, 1:8, 2:12])
    assert not part[:, :, 7:].any()
    assert not part[:, :, :, 10:].any()


def test_a_crop_is_a_copy():
    array = np.zeros((4, 4, 4))
    crop(array, Box((0, 0, 0), (4, 4, 4)))[...] = 1
    assert not array.any()


@settings(max_examples=50, deadline=None)
@given(lower=st.tuples(*[st.integers(0, 3)] * 3), size=st.tuples(*[st.integers(1, 6)] * 3), multiple=st.integers(1, 7))
def test_what_was_cropped_goes_back_to_its_place(lower, size, multiple):
    shape = (9, 10, 11)
    box = Box(lower, tuple(a + n for a, n in zip(lower, size, strict=True)))
    array = np.random.default_rng(0).integers(1, 9, (3, *shape))
    back = uncrop(crop(array, box, multiple), box, shape)
    np.testing.assert_array_equal(back[(..., *box.slices)], array[(..., *box.slices)])
    back[(..., *box.slices)] = 0
    assert not back.any()
