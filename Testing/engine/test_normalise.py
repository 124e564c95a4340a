from __future__ import annotations

import numpy as np
import pytest

from sofa_engine.case import Case
from sofa_engine.normalise import intensity_warnings, normalise_case, normalise_volume
from sofa_engine.opening import open_case
from sofa_engine.types import MODALITIES
from studies import geometry_for, head


def case_of(*arrays: np.ndarray, matrix: np.ndarray | None = None) -> Case:
    images = dict(zip(MODALITIES, (a.astype(np.float32) for a in arrays), strict=False))
    shape = arrays[0].shape
    return Case(images, geometry_for(shape) if matrix is None else geometry_for(shape, matrix))


def noisy_head_with_skull() -> np.ndarray:
    """A head in air that is never zero, as it comes from the scanner."""
    rng = np.random.default_rng(1)
    grid = np.indices((24, 64, 56))
    radius = np.sqrt(sum(((g - (n - 1) / 2) / (0.42 * n)) ** 2 for g, n in zip(grid, (24, 64, 56), strict=True)))
    signal = np.where(radius < 0.8, 400, np.where(radius < 0.9, 60, np.where(radius < 1, 700, 0)))
    return np.hypot(signal + rng.normal(0, 12, signal.shape), rng.normal(0, 12, signal.shape)) + 1


def test_brain_voxels_fill_0_to_255_and_zero_stays_zero():
    images, brain = normalise_case(case_of(head(), 7 * head(seed=1)))
    assert images.shape == (2, 16, 48, 40)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(brain, (head() > 0) | (head(seed=1) > 0))
    for image in images:
        assert image[brain].min() == 0
        assert image.max() == 255
        assert not image[~brain].any()


def test_intensities_follow_the_percentiles_of_the_brain_alone():
    array = head()
    values = array[array > 0]
    low, high = np.percentile(values, [0.5, 99.5])
    images, _ = normalise_case(case_of(array))
    expected = np.where(array > 0, (np.clip(array, low, high) - low) / (high - low) * 255, 0)
    np.testing.assert_allclose(images[0], expected, atol=1e-3)


def test_a_few_saturated_voxels_do_not_darken_the_rest():
    spoiled = head()
    spoiled[8, 20:22, 20] = 32767
    clean, _ = normalise_case(case_of(head()))
    images, _ = normalise_case(case_of(spoiled))
    assert np.abs(images - clean)[clean > 0].mean() < 3


def test_negative_intensities_of_a_z_scored_brain_belong_to_the_brain():
    array = head()
    inside = array > 0
    scored = np.where(inside, (array - array[inside].mean()) / array[inside].std(), 0)
    assert scored.min() < 0
    images, brain = normalise_case(case_of(scored))
    np.testing.assert_array_equal(brain, inside)
    plain, _ = normalise_case(case_of(array))
    np.testing.assert_allclose(images, plain, atol=0.01)


def test_an_even_background_that_is_not_zero_is_background():
    shifted = np.where(head() > 0, head(), -1000)
    images, brain = normalise_case(case_of(shifted))
    plain, plain_brain = normalise_case(case_of(head()))
    np.testing.assert_array_equal(brain, plain_brain)
    np.testing.assert_allclose(images, plain, atol=1e-3)


def test_a_brain_of_one_single_value_is_bright_and_not_a_division_by_zero():
    array = np.zeros((4, 6, 6), np.float32)
    array[1:3, 2:4, 2:4] = 5
    np.testing.assert_array_equal(normalise_volume(array, array > 0), 255 * (array > 0))


def test_a_volume_without_foreground_stays_zero():
    assert not normalise_volume(np.zeros((4, 6, 6), np.float32), np.zeros((4, 6, 6), bool)).any()


def test_the_air_around_a_head_with_skull_is_left_out():
    array = noisy_head_with_skull()
    images, brain = normalise_case(case_of(array))
    assert not brain[:, 0].any()
    assert not images[0][:, 0].any()
    assert not brain[array < 5].any()
    assert brain[10:14, 22:42, 18:38].all()


def test_a_head_with_its_skull_on_is_warned_about():
    (warning,) = intensity_warnings(case_of(*[noisy_head_with_skull()] * 4))
    assert "The skull seems to be still on in T1, T1c, T2, FLAIR" in warning
    assert "strip it first" in warning


def test_a_masked_head_too_large_for_a_brain_is_warned_about():
    (warning,) = intensity_warnings(case_of(*[head()] * 4, matrix=np.diag([-9.0, -9.0, 9.0, 1.0])))
    assert "The skull seems to be still on" in warning


def test_a_saturated_sequence_is_warned_about():
    cut = np.minimum(head(), 400)
    (warning,) = intensity_warnings(case_of(head(), cut, head(), head()))
    assert "of T1c is saturated at 400" in warning


@pytest.mark.parametrize("name", ["BraTS2021_00000", "BraTS2021_01482"])
def test_a_real_skull_stripped_case_needs_no_warning(real_data, name):
    case = open_case(real_data / "brats2021" / name)
    assert intensity_warnings(case) == ()
    images, brain = normalise_case(case)
    assert 1000 < brain.sum() * case.geometry.voxel_ml < 2000
    for image in images:
        assert 40 < np.median(image[brain]) < 200
