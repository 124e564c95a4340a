"""Several workers behind one address: the clinicians notice nothing, except that they wait less."""

from __future__ import annotations

import os
import signal

import numpy as np
import psutil
import pytest

from sofa_engine.types import SubRegion
from sofa_service.errors import SessionGoneError


def drag(session):
    (box,) = session.boxes()[SubRegion.ET]
    return list(session.refine(SubRegion.ET, [box.grown((0, 3, 3), session.geometry.shape)]))


@pytest.fixture
def front(start_engine):
    return start_engine(workers=2)


def test_cases_spread_over_the_workers_and_stay_where_they_are(front, case):
    client = front.client()
    sessions = [client.open(case) for _ in range(2)]
    for session in sessions:
        session.first_pass()
        assert drag(session)
        assert session.undo() is not None
    status = client.status()
    assert [w["sessions"] for w in status.workers] == [1, 1]
    np.testing.assert_array_equal(sessions[0].labels(), sessions[1].labels())
    for session in sessions:
        session.close()
    assert client.status().sessions == ()
    with pytest.raises(SessionGoneError):
        sessions[0]._wire.labels()


def test_a_worker_that_dies_takes_nothing_with_it(front, case):
    client = front.client()
    sessions = [client.open(case) for _ in range(2)]
    for session in sessions:
        session.first_pass()
        drag(session)
    labels = sessions[0].labels()
    victim = psutil.Process(front.pid).children()[0]
    os.kill(victim.pid, signal.SIGKILL)
    for session in sessions:
        np.testing.assert_array_equal(session.labels(), labels)
        assert session.can_undo()
    assert sorted(s.recoveries for s in sessions) == [0, 1]
    assert all(w["alive"] for w in client.status().workers)


def test_stopping_the_front_stops_its_workers(front):
    tree = psutil.Process(front.pid).children(recursive=True)
    assert len(tree) == 2
    front.stop()
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in tree)
