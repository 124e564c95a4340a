"""What gliomas have in common settles what three one-vs-all answers leave open."""

from __future__ import annotations

import numpy as np
import pytest

from sofa_engine.anatomy import settle
from sofa_engine.combine import combine
from sofa_engine.first_pass import run_first_pass
from sofa_engine.options import SessionOptions
from sofa_engine.predictor import SlicePrediction
from sofa_engine.stages import Stages
from sofa_engine.types import SUB_REGIONS

NCR, ED, ET = (r.index for r in SUB_REGIONS)
SHAPE = (20, 48, 48)
Y, X = np.indices(SHAPE[1:])
RADIUS = np.hypot(Y - 24, X - 24)
EVERYWHERE = np.ones((3, SHAPE[0]), dtype=bool)


def blank() -> np.ndarray:
    return np.zeros((3, *SHAPE), dtype=np.float16)


def ringed(gap: int = 0) -> np.ndarray:
    """An enhancing rim of radius 9 to 12 in every slice, open over `gap` columns above the middle."""
    probabilities = blank()
    rim = (RADIUS >= 9) & (RADIUS <= 12) & ~((Y < 24) & (abs(X - 24) < gap / 2))
    probabilities[ET] = 0.9 * rim
    return probabilities


def settled(probabilities: np.ndarray, spacing=(1.0, 1.0, 1.0), present=EVERYWHERE) -> np.ndarray:
    changed = probabilities.copy()
    settle(changed, present, spacing, 0.5)
    return combine(changed, 0.5)


def test_a_voxel_that_is_surely_tumour_goes_to_the_likeliest_part():
    probabilities = blank()
    probabilities[:, 5, 20, 20] = (0.4, 0.3, 0.0)
    probabilities[:, 5, 30, 30] = (0.2, 0.19, 0.0)
    probabilities[:, 5, 40, 40] = (0.1, 0.32, 0.0)
    labels = settled(probabilities)
    assert labels[5, 20, 20] == 1 and labels[5, 40, 40] == 2
    assert np.count_nonzero(labels) == 2


def test_core_is_believed_where_oedema_is_less_than_twice_as_likely():
    probabilities = blank()
    probabilities[:, 5, 20, 20] = (0.3, 0.55, 0.0)
    probabilities[:, 5, 30, 30] = (0.2, 0.55, 0.0)
    probabilities[:, 5, 40, 40] = (0.3, 0.32, 0.7)
    labels = settled(probabilities)
    assert labels[5, 20, 20] == 1
    assert labels[5, 30, 30] == 2
    assert labels[5, 40, 40] == 4


def test_oedema_outside_the_rim_is_not_doubted_for_core_that_cannot_be_there():
    probabilities = ringed()
    probabilities[:2, 5, 22:27, 37:46] = np.array([0.4, 0.7]).reshape(2, 1, 1)
    settle(probabilities, EVERYWHERE, (1.0, 1.0, 1.0), 0.5)
    assert np.all(probabilities[ED, 5, 22:27, 37:46] > 0.69)
    assert np.all(probabilities[NCR, 5, 22:27, 37:46] < 0.41)


def test_doubts_about_what_was_not_found_in_a_slice_add_up_to_nothing():
    probabilities = blank()
    probabilities[:, 5, 20, 20] = (0.5, 0.4, 0.0)
    # Core at least half as likely as oedema, which alone is too faint to be tumour.
    probabilities[:, 5, 30, 30] = (0.2, 0.3, 0.0)
    present = EVERYWHERE.copy()
    present[NCR, 5] = False
    assert not settled(probabilities, present=present).any()


def test_what_the_rim_encloses_is_core_whether_or_not_the_network_saw_it():
    probabilities = ringed()
    probabilities[ED] = 0.95 * (RADIUS < 5)
    labels = settled(probabilities)
    assert (labels[:, RADIUS < 8.5] == 1).all()
    assert (labels[:, RADIUS > 12.5] == 0).all()


@pytest.mark.parametrize("gap", [0, 3])
def test_core_outside_the_rim_is_oedema_and_inside_it_stays(gap):
    probabilities = ringed(gap)
    probabilities[NCR] = 0.8 * ((RADIUS < 7) | ((RADIUS > 13) & (RADIUS < 20)))
    labels = settled(probabilities)
    # At its two ends the rim is open to above and below as well.
    assert (labels[8:-8, RADIUS < 7] == 1).all()
    assert (labels[:, (RADIUS > 13.5) & (RADIUS < 19.5)] == 2).all()


def test_a_tumour_that_hardly_enhances_keeps_its_core():
    probabilities = blank()
    probabilities[NCR] = 0.8 * (RADIUS < 15)
    probabilities[ET, 5, 24:28, 24:28] = 0.9
    labels = settled(probabilities)
    assert (labels[:, (RADIUS < 15) & (labels[5] != 4)] == 1).all()


def test_how_much_enhances_is_counted_in_millilitres_and_gaps_in_millimetres():
    core_outside = (RADIUS > 13) & (RADIUS < 20)
    small = ringed()
    small[NCR] = 0.8 * core_outside
    # The same picture at a third of the voxel's size holds less than 3 ml.
    assert (settled(small, (1 / 3, 1 / 3, 1 / 3))[:, core_outside] == 1).all()
    open_rim = ringed(gap=3)
    open_rim[NCR] = 0.8 * (RADIUS < 7)
    assert (settled(open_rim, (1.0, 1.0, 1.0))[8:-8, RADIUS < 7] == 1).all()
    # At 9 mm a voxel the opening is 27 mm wide.
    assert (settled(open_rim, (9.0, 9.0, 9.0))[:, RADIUS < 7] == 2).all()


def test_what_a_tumour_encloses_in_a_slice_is_oedema_and_a_gap_that_is_open_is_none():
    probabilities = blank()
    probabilities[ED] = 0.9 * ((RADIUS >= 6) & (RADIUS <= 14))
    probabilities[ED, :10, Y[:, 0] < 24, 23:26] = 0
    labels = settled(probabilities)
    assert (labels[10:, RADIUS < 5.5] == 2).all()
    assert not labels[:10, RADIUS < 5.5].any(), "what is open to one side is not enclosed"
    assert not labels[:, RADIUS > 14.5].any()


def test_what_was_likelier_before_it_was_enclosed_stays_so():
    probabilities = blank()
    probabilities[ED] = 0.9 * ((RADIUS >= 6) & (RADIUS <= 14)) + 0.3 * (RADIUS < 6)
    changed = probabilities.copy()
    settle(changed, EVERYWHERE, (1.0, 1.0, 1.0), 0.5)
    assert changed[ED, 5, 24, 24] == pytest.approx(0.51, abs=1e-3), "just enough, so that it counts as a doubt"
    np.testing.assert_array_equal(changed[ED, :, RADIUS == 10], probabilities[ED, :, RADIUS == 10])


def test_a_speck_of_oedema_far_from_the_tumour_is_none_unless_it_has_a_core_or_is_no_speck():
    probabilities = blank()
    probabilities[ED] = 0.9 * (RADIUS <= 14)
    probabilities[ED, 3:6, 2:6, 2:6] = 0.9
    probabilities[ED, 3:6, 40:44, 2:6] = 0.9
    probabilities[ET, 4, 41, 3] = 0.95
    labels = settled(probabilities)
    assert not labels[3:6, 2:6, 2:6].any()
    assert (labels[3:6, 40:44, 2:6] > 0).all()
    assert (labels[:, RADIUS < 13.5] == 2).all()
    changed = probabilities.copy()
    settle(changed, EVERYWHERE, (1.0, 1.0, 1.0), 0.5)
    assert (changed[ED, 3:6, 2:6, 2:6] == 0.5).all(), "it is still the likeliest there, as a doubt"
    alone = blank()
    alone[ED, 3:6, 2:6, 2:6] = alone[ED, 12:15, 2:6, 2:6] = 0.9
    assert np.count_nonzero(settled(alone)) == 96


class _Ring:
    """Answers every slice with the same rim and a core beside it."""

    def segment(self, slices, *, cancel=None):
        answer = ringed()[:, slices]
        answer[NCR] = 0.8 * ((RADIUS > 13) & (RADIUS < 20))
        return SlicePrediction(answer, np.ones((3, len(slices)), np.float32))

    def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None):
        assert not stated
        found = self.segment(slices)
        return SlicePrediction(found.probabilities[sub_region.index], found.quality[sub_region.index])

    def believe(self, probabilities):
        self.told = probabilities.copy()

    def look_ahead(self) -> bool:
        return False


@pytest.mark.parametrize(("mode", "label"), [("default", 2), ("paper", 1)])
def test_the_letter_of_the_paper_knows_no_anatomy(mode, label):
    options = SessionOptions.of_mode(mode)
    predictor = _Ring()
    found = run_first_pass(predictor, SHAPE, (1.0, 1.0, 1.0), options, stages=Stages(None, {}))
    assert (combine(found.probabilities, 0.5)[:, (RADIUS > 13.5) & (RADIUS < 19.5)] == label).all()
    told = getattr(predictor, "told", None)
    assert (told is None) == (mode == "paper")
    if told is not None:
        np.testing.assert_array_equal(told, found.probabilities)


def test_a_rim_that_is_open_in_its_slices_but_not_across_them_still_holds_its_core():
    z, y, x = np.indices((40, 48, 48))
    radius = np.sqrt((z - 20) ** 2 + (y - 24) ** 2 + (x - 24) ** 2)
    probabilities = np.zeros((3, 40, 48, 48), dtype=np.float16)
    # A shell with a wide opening towards x: no axial slice near its middle is closed, nor any coronal one.
    opening = (x > 24) & (np.hypot(z - 20, y - 24) < 9)
    probabilities[ET] = 0.9 * ((radius >= 12) & (radius <= 16) & ~opening)
    probabilities[NCR] = 0.8 * ((radius < 10) | ((radius > 18) & (radius < 20)))
    labels = settled(probabilities, present=np.ones((3, 40), dtype=bool))
    core = radius < 10
    assert (labels[core & (x <= 24)] == 1).all()
    assert (labels[(radius > 18.5) & (radius < 19.5)] == 2).all()
