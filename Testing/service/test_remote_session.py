"""A clinician works on an engine process as she would in this one."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fakes import ThresholdPredictor
from sofa_engine.api import Session
from sofa_engine.errors import CancelledError, InputError, SofaError
from sofa_engine.progress import CancelToken
from sofa_engine.session import SegmentationSession
from sofa_engine.types import SUB_REGIONS, Box, LabelScheme, Patch, SubRegion


@pytest.fixture
def remote(client, case):
    session = client.open(case)
    session.first_pass()
    yield session
    session.close()


@pytest.fixture
def local(case):
    session = SegmentationSession(case, ThresholdPredictor())
    session.first_pass()
    return session


def wider(session, by=(0, 3, 3)):
    (box,) = session.boxes()[SubRegion.ET]
    return box.grown(by, session.geometry.shape)


def painting():
    return Patch(Box((20, 30, 20), (22, 36, 26)), np.full((2, 6, 6), SubRegion.NCR.label, np.uint8))


def same_answers(one, other):
    for scheme in LabelScheme:
        np.testing.assert_array_equal(one.labels(scheme), other.labels(scheme))
    np.testing.assert_array_equal(one.probabilities(), other.probabilities())
    np.testing.assert_array_equal(one.confidence(), other.confidence())
    assert one.boxes() == other.boxes()
    assert one.first_boxes() == other.first_boxes()
    assert one.uncertain_slices(5) == other.uncertain_slices(5)
    assert one.volumes_ml() == other.volumes_ml()
    assert (one.can_undo(), one.can_redo()) == (other.can_undo(), other.can_redo())
    for region in SUB_REGIONS:
        assert one.lesion_boxes(region) == other.lesion_boxes(region)
        assert one.attention()[region] == pytest.approx(other.attention()[region])
    return True


def test_the_remote_session_is_a_session(remote):
    assert isinstance(remote, Session)


def test_every_verb_answers_as_the_session_in_process_does(remote, local):
    assert same_answers(remote, local)
    for session in (remote, local):
        list(session.refine(SubRegion.ET, [wider(session)], first_slice=22, locked=[SubRegion.NCR]))
    assert same_answers(remote, local)
    for session in (remote, local):
        session.edit(painting())
    assert same_answers(remote, local)
    for verb in ("undo", "undo", "redo", "undo", "undo", "redo", "redo", "redo"):
        ours, theirs = getattr(remote, verb)(), getattr(local, verb)()
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.extent == theirs.extent
            np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert same_answers(remote, local)


def test_patches_rebuild_the_label_map_and_the_visible_slice_comes_first(remote):
    shown = remote.labels()
    patches = list(remote.refine(SubRegion.ET, [wider(remote)], first_slice=25))
    assert patches[0].extent.lower[0] == 25
    assert {p.generation for p in patches} == {patches[0].generation} != {0}
    for patch in patches:
        shown[patch.extent.slices] = patch.labels
    np.testing.assert_array_equal(shown, remote.labels())


def test_a_preview_shows_what_refining_would_do_and_changes_nothing(remote):
    before, box = remote.labels(), wider(remote)
    previews = list(remote.preview(SubRegion.ET, [box], slices=[20, 24]))
    np.testing.assert_array_equal(remote.labels(), before)
    assert not remote.can_undo()
    list(remote.refine(SubRegion.ET, [box]))
    after = remote.labels()
    for patch in previews:
        np.testing.assert_array_equal(patch.labels, after[patch.extent.slices])


def test_progress_is_told_and_never_falls(client, case):
    heard = []
    session = client.open(case)
    session.first_pass(progress=heard.append)
    session.close()
    fractions = [p.fraction for p in heard]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert "Encoding slices" in {p.stage for p in heard}


def test_letting_go_of_a_refinement_half_way_leaves_everything_as_it_was(remote):
    before = remote.labels()
    patches = remote.refine(SubRegion.ET, [wider(remote)])
    next(patches)
    patches.close()
    np.testing.assert_array_equal(remote.labels(), before)
    assert not remote.can_undo()
    list(remote.refine(SubRegion.ET, [wider(remote)]))
    assert remote.can_undo()


def test_painting_what_is_there_already_is_no_step_of_undo(remote):
    extent = painting().extent
    remote.edit(Patch(extent, remote.labels()[extent.slices]))
    assert not remote.can_undo()


def test_the_engines_sentence_arrives_as_the_same_error(client, case, remote):
    with pytest.raises(InputError, match="locked; unlock it"):
        list(remote.refine(SubRegion.ET, [wider(remote)], locked=[SubRegion.ET]))
    with pytest.raises(InputError, match="outside the volume"):
        remote.edit(Patch(Box((0, 0, 0), (99, 1, 1)), np.zeros((99, 1, 1), np.uint8)))
    fresh = client.open(case)
    with pytest.raises(SofaError, match="run the first pass"):
        fresh.boxes()
    with pytest.raises(SofaError, match="run the first pass"):
        fresh.labels()
    fresh.close()
    with pytest.raises(SofaError, match="was closed"):
        fresh.labels()


def test_cancelling_the_first_pass_stops_the_engine_and_leaves_the_session_usable(start_engine, case):
    client = start_engine("open_slow").client()
    session, token = client.open(case), CancelToken()
    with pytest.raises(CancelledError):
        session.first_pass(progress=lambda _: token.cancel(), cancel=token)
    assert client.status().queued == 0
    session.first_pass()
    assert session.labels().any()


def test_cancelling_a_refinement_from_another_thread_changes_nothing(start_engine, case):
    session = start_engine("open_slow").client().open(case)
    session.first_pass()
    before, token = session.labels(), CancelToken()
    with pytest.raises(CancelledError):
        for _ in session.refine(SubRegion.ED, [Box((2, 2, 2), (42, 70, 62))], cancel=token):
            threading.Thread(target=token.cancel).start()
    np.testing.assert_array_equal(session.labels(), before)
    assert not session.can_undo()


def test_a_newer_drag_takes_the_place_of_the_older(start_engine, case):
    session = start_engine("open_slow").client().open(case)
    session.first_pass()
    older = session.preview(SubRegion.ED, [Box((2, 2, 2), (42, 70, 62))], slices=range(2, 42))
    next(older)
    newer = list(session.preview(SubRegion.ET, [wider(session)], slices=[22]))
    with pytest.raises(CancelledError, match="newer request"):
        list(older)
    assert [p.extent.lower[0] for p in newer] == [22]


def test_a_drag_of_another_box_does_not_stop_a_refinement(start_engine, case):
    session = start_engine("open_slow").client().open(case)
    session.first_pass()
    refinement = session.refine(SubRegion.ET, [wider(session)])
    next(refinement)
    list(session.preview(SubRegion.ED, [Box((2, 2, 2), (42, 70, 62))], slices=[20]))
    list(refinement)
    assert session.boxes()[SubRegion.ET] == (wider(session, (0, 0, 0)),)
    assert session.can_undo()


def test_the_round_trip_tells_where_its_time_went(remote):
    list(remote.refine(SubRegion.ET, [wider(remote)]))
    trip = remote.last_round_trip
    assert 0 < trip.engine.compute_ms < trip.total_ms
    assert 0 < trip.first_ms <= trip.total_ms
    assert trip.sent < 1000 and 0 < trip.received < remote.labels().nbytes
