"""Several clinicians and little memory: nobody waits for another's first pass, nobody sees another's patient."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from fakes import fake_case
from sofa_engine.errors import CancelledError
from sofa_engine.progress import CancelToken
from sofa_engine.types import Modality, SubRegion
from sofa_service.config import ServeConfig
from sofa_service.errors import SessionGoneError, TooLargeError

#: The synthetic case counts as 15 MiB: room for two, not for three.
TWO_CASES_MB = 35


def drag(session, by=3):
    (box,) = session.boxes()[SubRegion.ET]
    return list(session.refine(SubRegion.ET, [box.grown((0, by, by), session.geometry.shape)]))


def states(client):
    return sorted(s.state for s in client.status().sessions)


def test_two_sessions_at_once_answer_each_its_own_patient(client, case):
    other_case = replace(case, images={m: a[:, ::-1].copy() for m, a in case.images.items()})
    sessions = [client.open(case), client.open(other_case)]
    errors = []

    def work(session):
        try:
            session.first_pass()
            for _ in range(3):
                drag(session)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(s,)) for s in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    mine, theirs = (s.labels() for s in sessions)
    assert mine.any()
    np.testing.assert_array_equal(mine, theirs[:, ::-1])
    for session in sessions:
        session.close()


def test_a_drag_does_not_wait_for_another_clinicians_first_pass(start_engine, case):
    client = start_engine("open_slow").client()
    dragging, starting = client.open(case), client.open(case)
    dragging.first_pass()
    finished = threading.Event()
    thread = threading.Thread(target=lambda: (starting.first_pass(), finished.set()))
    thread.start()
    while client.status().queued == 0:
        time.sleep(0.01)
    (box,) = dragging.boxes()[SubRegion.ET]
    assert list(dragging.preview(SubRegion.ET, [box.grown((0, 3, 3), case.geometry.shape)], slices=[22]))
    assert not finished.is_set()
    thread.join()
    assert finished.is_set() and starting.labels().any()


def test_refinements_of_two_sessions_take_turns(start_engine, case):
    client = start_engine("open_slow").client()
    order, sessions = [], [client.open(case), client.open(case)]
    for session in sessions:
        session.first_pass()

    def work(number):
        (box,) = sessions[number].boxes()[SubRegion.ED]
        for _ in sessions[number].refine(SubRegion.ED, [box.grown((2, 2, 2), case.geometry.shape)]):
            order.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = order[0]
    assert 1 - first in order[: order.count(first)], order


def test_the_least_recently_used_session_is_spilled_and_wakes_as_it_was(start_engine, case):
    client = start_engine(budget_mb=TWO_CASES_MB).client()
    first = client.open(case)
    first.first_pass()
    drag(first)
    drag(first)
    first.undo()
    labels, boxes = first.labels(), first.boxes()
    for _ in range(2):
        client.open(case).first_pass()
    assert states(client) == ["live", "live", "spilled"]
    assert client.status().memory_mb <= TWO_CASES_MB
    np.testing.assert_array_equal(first.labels(), labels)
    assert first.recoveries == 0  # the engine woke it; the client did nothing
    assert first.boxes() == boxes
    assert first.redo() is not None
    assert states(client) == ["live", "live", "spilled"]


def test_a_drag_on_a_spilled_session_wakes_it(start_engine, case):
    client = start_engine(budget_mb=TWO_CASES_MB).client()
    first = client.open(case)
    first.first_pass()
    for _ in range(2):
        client.open(case).first_pass()
    assert drag(first)


def test_an_evicted_session_is_told_why_and_the_client_opens_it_again(start_engine, case):
    client = start_engine(budget_mb=TWO_CASES_MB, max_spilled=0).client()
    told = []
    first = client.open(case, notify=told.append)
    first.first_pass()
    drag(first)
    labels = first.labels()
    for _ in range(3):
        client.open(case).first_pass()
    assert len(client.status().sessions) == 2
    with pytest.raises(SessionGoneError, match=r"least recently used\. Open the case again"):
        first._wire.labels()
    np.testing.assert_array_equal(first.labels(), labels)
    assert first.recoveries == 1 and first.can_undo() and len(told) == 1


def test_a_first_pass_cancelled_on_an_engine_that_had_lost_the_case_leaves_what_was_found(start_engine, case):
    session, token = start_engine("open_slow").client().open(case), CancelToken()
    session.first_pass()
    drag(session)
    labels, boxes = session.labels(), session.boxes()
    session._wire.close()
    with pytest.raises(CancelledError):
        session.first_pass(progress=lambda _: token.cancel(), cancel=token)
    assert session.boxes() == boxes
    np.testing.assert_array_equal(session.labels(), labels)
    session.undo()
    assert not session.can_undo()


def test_an_idle_session_is_evicted_in_time(start_engine, case):
    client = start_engine(idle_minutes=0.01).client()
    session = client.open(case)
    session.first_pass()
    deadline = time.monotonic() + 20
    while client.status().sessions:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(SessionGoneError, match="was unused"):
        session._wire.labels()


def test_closing_frees_the_memory_and_ends_the_access(client, case):
    before = client.status().memory_mb
    session = client.open(case)
    session.first_pass()
    wire = session._wire
    assert client.status().memory_mb > before
    session.close()
    assert client.status().memory_mb == before
    with pytest.raises(SessionGoneError, match="was closed"):
        wire.labels()
    session.close()  # once more does no harm


def test_the_status_shows_nothing_of_a_patient_and_no_usable_id(client, case):
    session = client.open(replace(case, name="Doe^Jane", warnings=("/home/jane/t1.nii was resampled",)))
    text = client.status().model_dump_json()
    assert "Doe" not in text and "jane" not in text
    assert session._wire._opened.session not in text
    assert session.warnings == ("/home/jane/t1.nii was resampled",)
    session.close()


def test_names_and_paths_stay_with_the_client(client, case):
    named = replace(case, name="Doe^Jane", sources={Modality.T1: "/home/jane/t1.nii"}, warnings=("/home/jane odd",))
    session = client.open(named)
    assert b"jane" not in session._upload.lower()
    session.close()


def test_missing_sequences_travel(client):
    case, _ = fake_case((Modality.T1C, Modality.FLAIR))
    session = client.open(case)
    assert session.modalities == (Modality.T1C, Modality.FLAIR)
    session.first_pass()
    assert session.labels().any()
    session.close()


def test_a_client_keeps_the_compressed_case_and_not_the_images(client, case):
    session = client.open(case)
    assert session.upload_bytes < sum(a.nbytes for a in case.images.values()) / 2
    session.close()
    assert session.upload_bytes == 0


def test_a_case_too_large_for_the_engine_says_what_to_do(start_engine, case):
    with pytest.raises(TooLargeError, match=r"needs about 15 MiB .* may use 10 MiB: crop it"):
        start_engine(budget_mb=10).client().open(case)


@pytest.mark.parametrize(("megabytes", "told"), [(None, {}), (0, {"feature_bytes": 0}), (64, {"feature_bytes": 2**26})])
def test_the_memory_for_a_cases_features_reaches_its_session(case, monkeypatch, megabytes, told):
    given = []
    monkeypatch.setattr("sofa_engine.loading.open_session", lambda _case, **options: given.append(options))
    ServeConfig(device="cpu", feature_mb=megabytes).load_factory()(case)
    assert given == [{"weights": None, "device": "cpu", **told}]
