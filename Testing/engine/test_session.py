"""A whole session on a small synthetic patient: what a user does, and what she must find afterwards."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from fakes import FAKE_CENTRE, FAKE_SATELLITE, FAKE_SHAPE, ThresholdPredictor, fake_case
from sofa_engine.api import Session
from sofa_engine.errors import CancelledError, InputError, SofaError
from sofa_engine.options import SessionOptions
from sofa_engine.predictor import SlicePrediction
from sofa_engine.progress import CancelToken
from sofa_engine.prompts import inside_boxes
from sofa_engine.session import SegmentationSession
from sofa_engine.types import MODALITIES, SUB_REGIONS, Box, LabelScheme, Modality, Patch

NCR, ED, ET = SUB_REGIONS
WHOLE = Box((0, 0, 0), FAKE_SHAPE)
SATELLITE_BOX = Box(tuple(c - 6 for c in FAKE_SATELLITE), tuple(c + 7 for c in FAKE_SATELLITE))


@pytest.fixture
def predictor() -> ThresholdPredictor:
    return ThresholdPredictor()


@pytest.fixture
def session(predictor) -> SegmentationSession:
    session = SegmentationSession(fake_case()[0], predictor)
    session.first_pass()
    return session


def refine(session, sub_region, boxes, **options) -> list[Patch]:
    return list(session.refine(sub_region, boxes, **options))


def snapshot(session) -> tuple:
    """Everything that a user can see."""
    return (
        session.labels().tobytes(),
        session.probabilities().tobytes(),
        session.confidence().tobytes(),
        session.boxes(),
        session.uncertain_slices(),
    )


def only_box(session, sub_region) -> Box:
    (box,) = session.boxes()[sub_region]
    return box


def voxels(session, sub_region) -> np.ndarray:
    return session.labels() == sub_region.label


def outward(session, sub_region, by: int = 3) -> Box:
    return only_box(session, sub_region).grown((by, by, by), FAKE_SHAPE)


def inward(session, sub_region, by: int = 3) -> Box:
    box = only_box(session, sub_region)
    return Box(tuple(a + by for a in box.lower), tuple(b - by for b in box.upper))


def paint(session, extent: Box, label: int) -> None:
    session.edit(Patch(extent, np.full(extent.shape, label, np.uint8)))


# The first pass


def test_a_session_is_what_the_faces_expect(session):
    assert isinstance(session, Session)
    assert session.modalities == MODALITIES
    assert session.model.name == "thresholds"
    assert session.warnings == ()


def test_one_click_finds_all_three_sub_regions_and_boxes_them_tightly(session):
    for sub_region in SUB_REGIONS:
        assert only_box(session, sub_region) == Box.of_mask(voxels(session, sub_region))
    assert session.labels()[FAKE_CENTRE] == NCR.label
    assert session.labels().dtype == np.uint8
    assert session.boxes() == session.first_boxes()


def test_the_first_pass_prompts_only_slices_where_something_was_found(session, predictor):
    asked = {(p.sub_region, p.slice_index) for p in predictor.prompts}
    for sub_region in SUB_REGIONS:
        present = np.flatnonzero(voxels(session, sub_region).any(axis=(1, 2)))
        brain_top = session.geometry.shape[0] - predictor.segmented  # crop leaves the same margin on both sides
        slices = sorted(z + brain_top // 2 for r, z in asked if r is sub_region)
        assert set(present) <= set(slices)
        assert len(slices) < predictor.segmented
    assert len(predictor.prompts) == len(asked)


def test_the_boxes_of_the_second_pass_are_grown_by_three_pixels(predictor):
    grown, exact = ThresholdPredictor(), ThresholdPredictor()
    SegmentationSession(fake_case()[0], grown).first_pass()
    SegmentationSession(fake_case()[0], exact, SessionOptions(grow_px=0)).first_pass()
    for wide, tight in zip(grown.prompts, exact.prompts, strict=True):
        assert wide.slice_index == tight.slice_index
        assert [a - b for a, b in zip(wide.box, tight.box, strict=True)] == [-3, -3, 3, 3]


def test_the_paper_mode_takes_the_boxes_of_the_mask_as_they_are():
    options = SessionOptions.of_mode("paper")
    assert (options.grow_px, options.clean_mm3, options.tight_prompt, options.tau) == (0, 0, False, 0.5)


def test_a_speck_in_the_first_pass_is_not_segmented():
    case, _ = fake_case()
    case.images[Modality.T1C][8, 40, 40:42] = 2000
    session = SegmentationSession(case, ThresholdPredictor())
    session.first_pass()
    assert session.labels()[8, 40, 40] != ET.label
    assert only_box(session, ET).lower[0] > 8


def test_progress_is_told_from_nothing_to_everything_and_never_goes_back(predictor):
    told = []
    SegmentationSession(fake_case()[0], predictor).first_pass(progress=told.append)
    fractions = [p.fraction for p in told]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == pytest.approx(1)
    assert {p.stage for p in told} >= {"Encoding slices", "Finding the tumour", "Refining with its boxes"}
    assert all(p.remaining_s is None or p.remaining_s >= 0 for p in told)


def test_running_the_first_pass_again_starts_over_without_encoding_again(session, predictor):
    before = snapshot(session)
    refine(session, ET, [outward(session, ET)])
    paint(session, Box((2, 30, 30), (3, 33, 33)), ED.label)
    session.first_pass()
    assert snapshot(session) == before
    assert not session.can_undo()
    assert predictor.encoded == 1


@pytest.mark.parametrize("stage", ["Preparing the images", "Encoding slices", "Finding the tumour"])
def test_cancelling_the_first_pass_leaves_nothing_behind(predictor, stage):
    session, cancel = SegmentationSession(fake_case()[0], predictor), CancelToken()
    with pytest.raises(CancelledError):
        session.first_pass(progress=lambda p: cancel.cancel() if p.stage == stage else None, cancel=cancel)
    with pytest.raises(SofaError, match="not been segmented yet"):
        session.labels()
    session.first_pass()
    assert voxels(session, ET).any()


def test_cancelling_a_second_first_pass_keeps_the_first(session):
    refine(session, ET, [outward(session, ET)])
    before = snapshot(session)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError):
        session.first_pass(cancel=cancel)
    assert snapshot(session) == before
    assert session.can_undo()


def test_images_without_a_brain_are_refused_in_one_sentence(predictor):
    case, _ = fake_case()
    empty = replace(case, images={m: np.zeros(FAKE_SHAPE, np.float32) for m in MODALITIES})
    with pytest.raises(InputError, match="brain"):
        SegmentationSession(empty, predictor).first_pass()


def test_a_case_without_images_is_refused(predictor):
    with pytest.raises(InputError, match="at least one"):
        SegmentationSession(replace(fake_case()[0], images={}), predictor)


@pytest.mark.parametrize("present", [(Modality.FLAIR,), (Modality.T1C, Modality.FLAIR), MODALITIES[:3]])
def test_any_sequences_run_and_the_missing_ones_are_named_with_what_they_cost(predictor, present):
    session = SegmentationSession(fake_case(present)[0], predictor)
    session.first_pass()
    assert session.modalities == present
    assert voxels(session, ED).any()
    for modality in MODALITIES:
        assert any(f"Without {modality.title}," in w for w in session.warnings) == (modality not in present)
    for weights in session.attention().values():
        assert set(weights) == set(present)
        assert sum(weights.values()) == pytest.approx(1)


def test_a_sub_region_that_is_not_there_has_no_box_and_one_can_be_drawn_by_hand(predictor):
    session = SegmentationSession(fake_case((Modality.FLAIR,))[0], predictor)
    session.first_pass()
    assert session.boxes()[ET] == ()
    box = Box((20, 30, 24), (24, 38, 32))
    refine(session, ET, [box])
    assert session.boxes()[ET] == (box,)


def test_random_weights_are_said_to_mean_nothing(predictor):
    class Untrained(ThresholdPredictor):
        @property
        def info(self):
            return replace(super().info, trained=False)

    assert "random weights" in " ".join(SegmentationSession(fake_case()[0], Untrained()).warnings)


def test_a_model_that_answers_with_what_is_not_a_number_finds_nothing_there():
    class Broken(ThresholdPredictor):
        def segment(self, slices, *, cancel=None):
            answer = super().segment(slices, cancel=cancel)
            answer.probabilities[:, :, ::2] = np.nan
            return SlicePrediction(answer.probabilities, np.full_like(answer.quality, np.nan))

        def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None):
            answer = super().prompt(sub_region, slices, boxes, cancel=cancel)
            answer.probabilities[:, ::2] = np.nan
            return answer

    session = SegmentationSession(fake_case()[0], Broken())
    session.first_pass()
    refine(session, ET, [outward(session, ET)])
    assert voxels(session, ET).any()
    assert np.isfinite(session.probabilities()).all()
    assert np.isfinite(session.confidence()).all()


# Dragging boxes


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


# Locks, hand edits


def test_a_locked_neighbour_gives_up_nothing(session):
    before = session.labels()
    refine(session, ET, [outward(session, ET)], locked={ED})
    after = session.labels()
    assert np.array_equal(before == ED.label, after == ED.label)
    refine(session, ET, [outward(session, ET, 1)])
    assert (session.labels()[before == ED.label] == ET.label).any()


def test_a_locked_neighbour_gains_nothing_either(session):
    before = voxels(session, ED)
    refine(session, ET, [inward(session, ET)], locked={ED})
    assert np.array_equal(voxels(session, ED), before)


def test_a_locked_sub_region_cannot_be_refined(session):
    with pytest.raises(InputError, match="Enhancing tumour is locked"):
        session.refine(ET, [outward(session, ET)], locked={ET})


def test_painted_voxels_survive_the_refinement_of_other_boxes(session):
    extent = Box((FAKE_CENTRE[0], 30, 44), (FAKE_CENTRE[0] + 1, 33, 47))
    paint(session, extent, NCR.label)
    refine(session, ED, [inward(session, ED, 1)])
    refine(session, ET, [inward(session, ET, 1)])
    assert (session.labels()[extent.slices] == NCR.label).all()


def test_erased_voxels_stay_erased_when_another_sub_region_is_refined(session):
    extent = Box((FAKE_CENTRE[0], 20, 20), (FAKE_CENTRE[0] + 1, 24, 24))
    paint(session, extent, 0)
    refine(session, NCR, [outward(session, NCR, 1)])
    assert not session.labels()[extent.slices].any()


def test_painted_voxels_far_from_the_dragged_box_stay_with_their_sub_region(session):
    extent = Box((2, 30, 30), (3, 33, 33))
    paint(session, extent, ET.label)
    refine(session, ET, [outward(session, ET)])
    assert (session.labels()[extent.slices] == ET.label).all()


def test_inside_a_dragged_box_the_model_decides_anew_over_what_was_painted(session):
    z, y, x = FAKE_CENTRE
    extent = Box((z, y, x + 7), (z + 1, y + 1, x + 8))
    assert session.labels()[extent.slices] == ET.label
    paint(session, extent, ED.label)
    assert session.confidence()[extent.slices] == 1
    refine(session, ET, [outward(session, ET, 1)])
    assert session.labels()[extent.slices] == ET.label
    assert session.confidence()[extent.slices] < 1


def test_painting_outside_the_brain_is_kept(session):
    corner = Box((0, 0, 0), (1, 2, 2))
    paint(session, corner, ED.label)
    refine(session, ED, [inward(session, ED, 1)])
    assert (session.labels()[corner.slices] == ED.label).all()
    assert (session.confidence()[corner.slices] == 1).all()


def test_painting_what_is_there_already_is_not_a_step_of_undo(session):
    extent = Box((20, 20, 20), (24, 30, 30))
    session.edit(Patch(extent, session.labels()[extent.slices]))
    assert not session.can_undo()


@pytest.mark.parametrize(
    "patch",
    [
        Patch(Box((0, 0, 0), (1, 1, 1)), np.array([[[3]]], np.uint8)),
        Patch(Box((0, 0, 0), (1, 1, 2)), np.zeros((1, 1, 1), np.uint8)),
        Patch(Box((43, 0, 0), (45, 1, 1)), np.zeros((2, 1, 1), np.uint8)),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(session, patch):
    with pytest.raises(InputError, match="painted labels"):
        session.edit(patch)


# Undo and redo


def test_undo_restores_labels_boxes_and_confidence_bit_for_bit_and_redo_repeats(session):
    states = [snapshot(session)]
    steps = [
        lambda: refine(session, ET, [outward(session, ET)]),
        lambda: refine(session, ED, [inward(session, ED)], locked={ET}),
        lambda: paint(session, Box((2, 30, 30), (3, 33, 33)), NCR.label),
        lambda: refine(session, ET, [only_box(session, ET), SATELLITE_BOX]),
        lambda: refine(session, NCR, []),
        lambda: refine(session, ET, session.first_boxes()[ET]),
    ]
    for step in steps:
        step()
        states.append(snapshot(session))
    for state in reversed(states[:-1]):
        assert session.undo() is not None
        assert snapshot(session) == state
    assert session.undo() is None
    assert not session.can_undo()
    for state in states[1:]:
        assert session.redo() is not None
        assert snapshot(session) == state
    assert session.redo() is None
    assert not session.can_redo()


def test_undo_tells_the_face_what_to_redraw(session):
    before = session.labels()
    refine(session, ET, [outward(session, ET)])
    shown = session.labels()
    patch = session.undo()
    shown[patch.extent.slices] = patch.labels
    assert np.array_equal(shown, before)


def test_what_was_painted_counts_as_painted_again_after_undo_and_redo(session):
    extent = Box((FAKE_CENTRE[0], 30, 44), (FAKE_CENTRE[0] + 1, 33, 47))
    paint(session, extent, NCR.label)
    session.undo()
    session.redo()
    refine(session, ET, [inward(session, ET, 1)])
    assert (session.labels()[extent.slices] == NCR.label).all()


# Cancelling and previews


def test_closing_the_iterator_early_changes_nothing(session):
    before = snapshot(session)
    patches = session.refine(ET, [outward(session, ET)])
    next(patches)
    patches.close()
    assert snapshot(session) == before
    assert not session.can_undo()


def test_cancelling_in_the_middle_of_a_refinement_changes_nothing(session):
    before, cancel = snapshot(session), CancelToken()
    patches = session.refine(ET, [outward(session, ET)], cancel=cancel)
    next(patches)
    cancel.cancel()
    with pytest.raises(CancelledError):
        list(patches)
    assert snapshot(session) == before
    assert not session.can_undo()


def test_cancelling_after_the_last_patch_changes_nothing(session):
    before, cancel = snapshot(session), CancelToken()
    with pytest.raises(CancelledError):
        refine(
            session,
            ET,
            [outward(session, ET)],
            cancel=cancel,
            progress=lambda p: cancel.cancel() if p.fraction == 1 else None,
        )
    assert snapshot(session) == before


def test_a_refinement_that_was_overtaken_is_dropped(session):
    slow = session.refine(ET, [outward(session, ET)])
    next(slow)
    refine(session, ED, [inward(session, ED)])
    before = snapshot(session)
    with pytest.raises(CancelledError, match="changed meanwhile"):
        list(slow)
    assert snapshot(session) == before


def test_a_preview_shows_what_refining_would_make_of_a_slice_and_changes_nothing(session):
    before = snapshot(session)
    box = outward(session, ET)
    patches = list(session.preview(ET, [box], slices=[20, 24]))
    assert snapshot(session) == before
    assert not session.can_undo()
    refine(session, ET, [box])
    assert [p.extent.lower[0] for p in patches] == [20, 24]
    for patch in patches:
        assert np.array_equal(session.labels()[patch.extent.slices], patch.labels)


def test_a_preview_respects_locks(session):
    (patch,) = session.preview(ET, [outward(session, ET)], slices=[FAKE_CENTRE[0]], locked={ED})
    before = session.labels()[patch.extent.slices]
    assert np.array_equal(patch.labels == ED.label, before == ED.label)


def test_dragging_back_and_forth_leaves_no_trace_of_earlier_previews(session):
    shown = session.labels()
    for boxes in ([outward(session, ET)], [inward(session, ET)], session.boxes()[ET]):
        for patch in session.preview(ET, boxes, slices=[20]):
            shown[patch.extent.slices] = patch.labels
    assert np.array_equal(shown, session.labels())


def test_a_preview_costs_only_the_slices_asked_for(session, predictor):
    predictor.prompts.clear()
    list(session.preview(ET, [outward(session, ET)], slices=[20]))
    assert len(predictor.prompts) <= 2


def test_verbs_from_several_threads_wait_for_each_other(session):
    failures = []

    def work(sub_region) -> None:
        for by in (1, 2, 1, 2):
            try:
                refine(session, sub_region, [session.first_boxes()[sub_region][0].grown((by, by, by), FAKE_SHAPE)])
            except CancelledError:
                pass
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(r,)) for r in SUB_REGIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    final = snapshot(session)
    while session.undo() is not None:
        pass
    while session.redo() is not None:
        pass
    assert snapshot(session) == final


# What the user reads


def test_volumes_are_those_of_the_label_map(session):
    volumes, labels = session.volumes_ml(), session.labels()
    assert volumes["ET"] == pytest.approx((labels == 4).sum() / 1000)
    assert volumes["WT"] == pytest.approx((labels > 0).sum() / 1000)
    assert volumes["TC"] == pytest.approx(volumes["NCR"] + volumes["ET"])
    assert list(volumes) == ["NCR", "ED", "ET", "WT", "TC"]


def test_volumes_follow_the_spacing(predictor):
    session = SegmentationSession(fake_case(spacing=(2.0, 0.9, 0.9))[0], predictor)
    session.first_pass()
    assert session.volumes_ml()["WT"] == pytest.approx((session.labels() > 0).sum() * 1.62 / 1000)


def test_labels_come_in_the_scheme_that_is_asked_for(session):
    old, new = session.labels(LabelScheme.BRATS2020), session.labels(LabelScheme.BRATS2023)
    assert np.array_equal(old == 4, new == 3)
    assert not (new == 4).any()
    assert np.array_equal(old == 2, new == 2)


def test_probabilities_end_at_an_edited_box(session):
    box = inward(session, ET)
    refine(session, ET, [box])
    outside = ~inside_boxes(WHOLE, [box])
    assert session.probabilities().dtype == np.float16
    assert session.probabilities().shape == (3, *FAKE_SHAPE)
    assert not session.probabilities()[ET.index][outside].any()


def test_the_list_of_doubtful_slices_is_in_the_volumes_own_numbers_and_spread(session):
    worst = session.uncertain_slices(4)
    assert 1 <= len(worst) <= 4
    places = sorted(s.slice_index for s in worst)
    assert all(b - a >= 5 for a, b in pairwise(places))
    for entry in worst:
        assert voxels(session, entry.sub_region)[entry.slice_index].any()
    assert [s.confidence for s in worst] == sorted(s.confidence for s in worst)


def test_attention_names_the_sequence_that_the_model_relied_on(session):
    attention = session.attention()
    assert max(attention[ET], key=attention[ET].get) is Modality.T1C
    assert max(attention[ED], key=attention[ED].get) is Modality.FLAIR


def test_before_the_first_pass_every_question_says_what_to_do(predictor):
    session = SegmentationSession(fake_case()[0], predictor)
    for ask in (session.labels, session.boxes, session.volumes_ml, session.undo, lambda: session.refine(ET, [])):
        with pytest.raises(SofaError, match="run the first pass"):
            ask()


def test_a_closed_session_frees_the_model_and_says_so(session, predictor):
    session.close()
    session.close()
    assert predictor.released
    with pytest.raises(SofaError, match="closed"):
        session.labels()
    with pytest.raises(SofaError, match="closed"):
        session.first_pass()


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"tau": 1.0}, {"mode": "fast"}, {"batch_slices": 0}, {"grow_px": -1}])
def test_options_that_mean_nothing_are_refused(wrong):
    with pytest.raises(InputError):
        SessionOptions(**wrong)
