"""A whole session on a small synthetic patient: the first pass, and what the user reads of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from session_tools import ED, ET, NCR, WHOLE, inward, only_box, outward, paint, refine, snapshot, voxels

from fakes import FAKE_CENTRE, FAKE_SHAPE, ThresholdPredictor, fake_case
from sofa_engine.api import Session
from sofa_engine.errors import CancelledError, InputError, SofaError
from sofa_engine.options import SessionOptions
from sofa_engine.predictor import SlicePrediction
from sofa_engine.progress import CancelToken
from sofa_engine.prompts import inside_boxes
from sofa_engine.session import SegmentationSession
from sofa_engine.types import MODALITIES, SUB_REGIONS, Box, LabelScheme, Modality

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
    empty = replace(case, images={m: np.full(FAKE_SHAPE, 7, np.float32) for m in MODALITIES})
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
