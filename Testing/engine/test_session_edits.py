"""Locks, hand edits, undo, cancelling and previews of a session."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from session_tools import ED, ET, NCR, SATELLITE_BOX, inward, only_box, outward, paint, refine, snapshot, voxels

from fakes import FAKE_CENTRE, FAKE_SHAPE
from sofa_engine.errors import CancelledError, InputError
from sofa_engine.progress import CancelToken
from sofa_engine.types import SUB_REGIONS, Box, Patch

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
