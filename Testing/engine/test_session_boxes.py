"""Dragging the boxes of a session."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from session_tools import ED, ET, NCR, SATELLITE_BOX, WHOLE, inward, only_box, outward, paint, refine, snapshot, voxels

from fakes import FAKE_CENTRE, FAKE_SATELLITE, FAKE_SHAPE, ThresholdPredictor, fake_case
from sofa_engine.options import SessionOptions
from sofa_engine.predictor import SlicePrediction
from sofa_engine.prompts import inside_boxes
from sofa_engine.session import SegmentationSession
from sofa_engine.types import SUB_REGIONS, Box


def test_dragging_the_faces_outward_grows_the_segment_inside_the_box(session):
    before, box = voxels(session, ET), outward(session, ET)
    refine(session, ET, [box])
    after = voxels(session, ET)
    assert after.sum() > before.sum()
    assert not (after & ~inside_boxes(WHOLE, [box])).any()
    assert session.boxes()[ET] == (box,)


def test_dragging_the_faces_inward_gives_up_what_is_outside_to_its_neighbours(session):
    before, box = session.labels(), inward(session, ET)
    refine(session, ET, [box])
    after = session.labels()
    given_up = (before == ET.label) & ~inside_boxes(WHOLE, [box])
    assert given_up.any()
    assert not (after[given_up] == ET.label).any()
    assert (after[given_up] == ED.label).any()
    assert np.array_equal(before == NCR.label, after == NCR.label)


class _Forgetful(ThresholdPredictor):
    """Finds nothing in any box."""

    def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None):
        found = super().prompt(sub_region, slices, boxes, heights, stated=stated, cancel=cancel)
        return found if not stated else SlicePrediction(np.zeros_like(found.probabilities), found.quality)


@pytest.mark.parametrize("mode", ["default", "paper"])
def test_what_the_first_pass_found_in_a_box_stays_but_in_paper_mode(mode):
    case, _ = fake_case()
    session = SegmentationSession(case, _Forgetful(), SessionOptions.of_mode(mode))
    session.first_pass()
    before, box = voxels(session, ET), outward(session, ET)
    refine(session, ET, [box])
    kept = before & inside_boxes(WHOLE, [box])
    after = voxels(session, ET)
    assert kept.any()
    assert after[kept].all() if mode == "default" else not after.any()


class _Porous(ThresholdPredictor):
    """Sees no oedema in a few columns of any slice when it is shown a box."""

    def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None):
        found = super().prompt(sub_region, slices, boxes, heights, stated=stated, cancel=cancel)
        if sub_region is ED and stated:
            found.probabilities[...] = 0.9
            found.probabilities[:, 10:14, 10:14] = 0
        return found


@pytest.mark.parametrize("mode", ["default", "paper"])
def test_what_the_tumour_encloses_in_a_slice_of_an_oedema_box_is_oedema_but_in_paper_mode(mode):
    session = SegmentationSession(fake_case()[0], _Porous(), SessionOptions.of_mode(mode))
    session.first_pass()
    refine(session, ET, [])
    refine(session, NCR, [])
    z, top, left = (lower + 2 for lower in session._crop.lower)
    box = Box((z, top, left), (z + 2, top + 30, left + 30))
    refine(session, ED, [box])
    inside = session.labels()[box.slices]
    filled = np.count_nonzero(inside == ED.label) == inside.size
    assert filled if mode == "default" else np.count_nonzero(inside) == inside.size - 2 * 16


def test_a_box_that_ends_in_a_hollow_of_the_tumour_fills_it_as_the_preview_did():
    class Blind(ThresholdPredictor):
        def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None):
            found = super().prompt(sub_region, slices, boxes, heights, stated=stated, cancel=cancel)
            return SlicePrediction(found.probabilities * (sub_region is not ED), found.quality)

    session = SegmentationSession(fake_case()[0], Blind())
    session.first_pass()
    rim = only_box(session, ET)
    refine(session, NCR, [])
    z, y, x = ((low + high) // 2 for low, high in zip(rim.lower, rim.upper, strict=True))
    reach = Box((z - 4, rim.lower[1], rim.lower[2]), (z + 5, rim.upper[1], x))
    refine(session, ED, [replace(reach, upper=(*reach.upper[:2], rim.lower[2] + 2))])
    (shown,) = session.preview(ED, [reach], slices=[z])
    hollow = session.labels()[z, y, :x] == 0
    refine(session, ED, [reach])
    labels = session.labels()
    assert np.array_equal(labels[shown.extent.slices], shown.labels)
    assert np.count_nonzero(labels[z, y, :x][hollow] == ED.label) > 3


def test_a_segment_that_was_cut_by_its_box_comes_back_when_the_box_does(session):
    first, labels = only_box(session, ET), session.labels()
    refine(session, ET, [inward(session, ET, 4)])
    refine(session, ET, [outward(session, ET, 2)])
    refine(session, ET, [first])
    assert np.array_equal(session.labels(), labels)


def test_resetting_every_box_brings_back_the_first_pass_without_asking_the_model(session, predictor):
    before = snapshot(session)
    for sub_region in SUB_REGIONS:
        refine(session, sub_region, [outward(session, sub_region, 4)])
        refine(session, sub_region, [inward(session, sub_region, 6)])
    asked = len(predictor.prompts)
    for sub_region, boxes in session.first_boxes().items():
        refine(session, sub_region, boxes)
    after = snapshot(session)
    assert (after[0], after[1], after[3]) == (before[0], before[1], before[3])
    assert len(predictor.prompts) == asked


def test_removing_all_boxes_empties_the_sub_region_even_of_painted_voxels(session):
    paint(session, Box((2, 30, 30), (3, 33, 33)), ET.label)
    refine(session, ET, [])
    assert not voxels(session, ET).any()
    assert session.boxes()[ET] == ()
    assert voxels(session, ED).any()


def test_a_drag_costs_the_decoder_alone_and_only_in_the_slices_of_the_box(session, predictor):
    predictor.prompts.clear()
    box = outward(session, ET)
    refine(session, ET, [box])
    depth = box.upper[0] - box.lower[0]
    assert depth <= len(predictor.prompts) <= 2 * depth
    assert {p.sub_region for p in predictor.prompts} == {ET}
    assert predictor.encoded == 1
    assert predictor.segmented <= FAKE_SHAPE[0]


def test_each_slice_is_prompted_with_the_cross_section_and_then_with_the_tight_box_of_that_answer(session, predictor):
    predictor.prompts.clear()
    box = only_box(session, NCR).grown((0, 9, 9), FAKE_SHAPE)
    refine(session, NCR, [box], first_slice=FAKE_CENTRE[0])
    first, second = (p.box for p in predictor.prompts[:2])
    assert [first[2] - first[0], first[3] - first[1]] == [box.shape[2], box.shape[1]]
    core = voxels(session, NCR)[FAKE_CENTRE[0]]
    y, x = np.nonzero(core)
    assert second[2] - second[0] == np.ptp(x) + 1 + 6
    assert second[3] - second[1] == np.ptp(y) + 1 + 6
    assert first[0] <= second[0] < second[2] <= first[2]


def test_a_slice_whose_first_answer_is_empty_stays_empty_and_is_asked_once(session, predictor):
    predictor.prompts.clear()
    box = Box((2, 30, 24), (5, 38, 32))  # no necrosis anywhere near
    refine(session, NCR, [box])
    assert len(predictor.prompts) == 3
    assert not voxels(session, NCR).any()


def test_the_slice_on_the_screen_is_answered_first_and_alone_then_its_neighbours(session):
    box = outward(session, ET)
    patches = refine(session, ET, [box], first_slice=16)
    assert (patches[0].extent.lower[0], patches[0].extent.upper[0]) == (16, 17)
    middles = [abs((p.extent.lower[0] + p.extent.upper[0] - 1) / 2 - 16) for p in patches]
    assert middles[-1] == max(middles)


def test_patches_together_are_the_whole_change_and_do_not_overlap(session):
    labels = session.labels()
    covered = np.zeros(FAKE_SHAPE, int)
    for patch in session.refine(ET, [outward(session, ET)], first_slice=20):
        labels[patch.extent.slices] = patch.labels
        covered[patch.extent.slices] += 1
    assert np.array_equal(labels, session.labels())
    assert covered.max() == 1


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_size_of_batches_does_not_change_the_answer(session, size):
    other = SegmentationSession(fake_case()[0], ThresholdPredictor(), SessionOptions(batch_slices=size))
    other.first_pass()
    for s in (session, other):
        refine(s, ET, [outward(s, ET)], first_slice=3)
    assert np.array_equal(session.labels(), other.labels())


def test_the_same_boxes_again_are_nothing_to_do_and_nothing_to_undo(session, predictor):
    asked = len(predictor.prompts)
    assert refine(session, ET, session.boxes()[ET]) == []
    assert len(predictor.prompts) == asked
    assert not session.can_undo()


def test_of_two_boxes_only_the_dragged_one_is_computed_and_the_other_keeps_its_voxels(session, predictor):
    first = only_box(session, ET)
    refine(session, ET, [first, SATELLITE_BOX])
    main, satellite = inside_boxes(WHOLE, [first]), inside_boxes(WHOLE, [SATELLITE_BOX])
    before = voxels(session, ET)
    assert (before & satellite).sum() > 30
    predictor.prompts.clear()
    smaller = Box(tuple(a + 4 for a in SATELLITE_BOX.lower), SATELLITE_BOX.upper)
    refine(session, ET, [first, smaller])
    after = voxels(session, ET)
    assert np.array_equal(after & main, before & main)
    assert (after & satellite).sum() < (before & satellite).sum()
    assert len(predictor.prompts) <= 2 * smaller.shape[0]


def test_an_untouched_first_box_keeps_its_voxels_when_a_second_is_added(session):
    before = voxels(session, ET)
    refine(session, ET, [only_box(session, ET), SATELLITE_BOX])
    after = voxels(session, ET)
    assert not (before & ~after).any()
    assert after[FAKE_SATELLITE]


def test_where_boxes_overlap_the_untouched_one_keeps_what_it_had(session):
    first = only_box(session, ET)
    before = voxels(session, ET)
    z, y, x = first.upper
    corner = Box((z - 8, y - 8, x - 8), (z + 4, y + 4, x + 4))
    refine(session, ET, [first, corner])
    refine(session, ET, [first])
    assert np.array_equal(voxels(session, ET), before)


def test_a_less_generous_answer_in_an_overlapping_box_takes_nothing_from_the_untouched_one():
    class Forgetful(ThresholdPredictor):
        forgets = False

        def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None):
            answer = super().prompt(sub_region, slices, boxes, cancel=cancel)
            return SlicePrediction(answer.probabilities * (not self.forgets), answer.quality)

    predictor = Forgetful()
    session = SegmentationSession(fake_case()[0], predictor)
    session.first_pass()
    before = voxels(session, ET)
    predictor.forgets = True
    refine(session, ET, [only_box(session, ET), inward(session, ET)])
    assert np.array_equal(voxels(session, ET), before)


def test_a_first_box_that_is_put_back_beside_another_brings_its_answer_back_without_asking(session, predictor):
    first, before = only_box(session, ET), voxels(session, ET)
    refine(session, ET, [SATELLITE_BOX])
    assert not (voxels(session, ET) & inside_boxes(WHOLE, [first])).any()
    asked = len(predictor.prompts)
    refine(session, ET, [first, SATELLITE_BOX])
    assert len(predictor.prompts) == asked
    assert np.array_equal(voxels(session, ET) & inside_boxes(WHOLE, [first]), before)


def test_what_the_model_found_outside_of_the_box_goes_when_the_box_is_edited():
    class Leaky(ThresholdPredictor):
        def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None):
            height, width = self.attention().shape[-2:]
            everywhere = np.tile(np.array([0, 0, 4 * width, 4 * height], np.float32), (len(slices), 1))
            return super().prompt(sub_region, slices, everywhere, cancel=cancel)

    session = SegmentationSession(fake_case()[0], Leaky(), SessionOptions(clean_mm3=400))
    session.first_pass()
    assert voxels(session, ET)[FAKE_SATELLITE]
    assert not inside_boxes(WHOLE, session.boxes()[ET])[FAKE_SATELLITE]
    refine(session, ET, [outward(session, ET, 1)])
    assert not voxels(session, ET)[FAKE_SATELLITE]
    refine(session, ET, session.first_boxes()[ET])
    assert voxels(session, ET)[FAKE_SATELLITE]


def test_lesions_far_apart_can_be_steered_one_by_one(session):
    refine(session, ET, [only_box(session, ET), SATELLITE_BOX])
    main, satellite = session.lesion_boxes(ET)
    assert satellite.intersection(SATELLITE_BOX) == satellite
    refine(session, ET, [main])
    assert not voxels(session, ET)[FAKE_SATELLITE]
    assert voxels(session, ET).any()


def test_a_box_dragged_beyond_the_volume_ends_at_its_border(session):
    (_, y, x), (_, y1, x1) = only_box(session, ET).lower, only_box(session, ET).upper
    refine(session, ET, [Box((-20, y, x), (99, y1, x1))])
    assert session.boxes()[ET] == (Box((0, y, x), (FAKE_SHAPE[0], y1, x1)),)


def test_a_box_wholly_outside_the_volume_holds_nothing(session):
    refine(session, ET, [Box((-9, 0, 0), (-2, 5, 5))])
    assert session.boxes()[ET] == ()
    assert not voxels(session, ET).any()


def test_a_box_beside_the_brain_is_legal_and_finds_nothing(session, predictor):
    asked = len(predictor.prompts)
    refine(session, NCR, [Box((0, 0, 0), (1, 2, 2))])
    assert not voxels(session, NCR).any()
    assert len(predictor.prompts) == asked
