"""Voxels that are no numbers, on every way into a session."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fakes import ThresholdPredictor, fake_case
from sofa_engine.alignment import align
from sofa_engine.case import Case
from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.reading import Volume
from sofa_engine.session import SegmentationSession
from sofa_engine.types import Modality
from sofa_engine.voxels import sound_case, sound_voxels
from sofa_engine.working_grid import to_working
from studies import head

INSIDE = (22, 60, 28)


def spoiled(case: Case, at: object, value: float = np.nan) -> Case:
    """The case with voxels of its FLAIR replaced."""
    array = case.images[Modality.FLAIR].copy()
    array[at] = value
    return replace(case, images={**case.images, Modality.FLAIR: array})


def labels_of(case: Case) -> tuple[np.ndarray, tuple[str, ...]]:
    session = SegmentationSession(case, ThresholdPredictor())
    session.first_pass()
    return session.labels(), session.warnings


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_voxel_does_not_cost_a_session_its_sequence(value: float) -> None:
    case, _ = fake_case()
    labels, warnings = labels_of(spoiled(case, INSIDE, value))
    np.testing.assert_array_equal(labels, labels_of(case)[0])
    assert "FLAIR holds 1 voxel that is no number (NaN or infinite); nothing can be found there." in warnings


def test_a_background_that_is_no_number_is_a_background_like_any_other() -> None:
    case, _ = fake_case()
    outside = case.images[Modality.FLAIR] == 0
    labels, warnings = labels_of(spoiled(case, outside))
    plain, expected = labels_of(case)
    np.testing.assert_array_equal(labels, plain)
    assert warnings == expected, "nothing is said of it"
    gap = outside.copy()
    gap[20:24, 58:62, 26:30] = True
    assert any("FLAIR holds 64 voxels that are no numbers" in w for w in labels_of(spoiled(case, gap))[1])


def test_gaps_get_the_value_that_surrounds_the_patient() -> None:
    array = head() - 1024
    clean = array.copy()
    array[8, 24, 20] = np.nan
    filled, (sentence,) = sound_voxels(array, "T1")
    clean[8, 24, 20] = -1024
    np.testing.assert_array_equal(filled, clean)
    assert sentence.startswith("T1 holds 1 voxel")
    assert np.isnan(array[8, 24, 20]), "the caller's voxels stay as they are"


def test_resampling_does_not_spread_what_is_no_number() -> None:
    case, _ = fake_case(spacing=(0.5, 1.0, 1.0))
    gap = spoiled(case, INSIDE)
    working = to_working(gap)
    assert working.geometry != gap.geometry, "this grid is resampled"
    assert all(np.isfinite(image).all() for image in working.images.values())
    assert len(working.warnings) == 1
    fine = Geometry.from_matrix(case.geometry.shape, case.geometry.matrix @ np.diag([1.01, 1, 1, 1]))
    volumes = {
        Modality.T1C: Volume(case.images[Modality.T1C], fine, "t1c"),
        Modality.FLAIR: Volume(gap.images[Modality.FLAIR], gap.geometry, "Patient flair"),
    }
    aligned = align(volumes)
    assert np.isfinite(aligned.images[Modality.FLAIR]).all()
    assert any(warning.startswith("Patient flair holds 1 voxel") for warning in aligned.warnings)


def test_a_sound_case_is_left_alone_and_an_empty_sequence_refused() -> None:
    case, _ = fake_case()
    assert sound_case(case) is case
    for value in (0.0, np.nan):
        with pytest.raises(InputError, match="FLAIR is zero everywhere; give a volume with an image in it"):
            SegmentationSession(spoiled(case, ..., value), ThresholdPredictor())
