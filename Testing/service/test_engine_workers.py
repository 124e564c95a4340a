"""Several workers behind one address: the clinicians notice nothing, except that they wait less."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest

from sofa_engine.types import SubRegion
from sofa_service.config import CONFIG_VARIABLE, ServeConfig
from sofa_service.errors import SessionGoneError, StartError
from sofa_service.front import Front


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


def test_a_worker_gets_every_option_that_is_not_the_fronts_own(monkeypatch):
    passed_on = {
        "factory": "service_fakes:open_slow",
        "weights": Path("any.safetensors"),
        "device": "cpu",
        "feature_mb": 7,
        "max_spilled": 5,
        "idle_minutes": 2.5,
        "message_mb": 11,
        "raw_mb": 13,
    }
    shared_out = {"budget_mb": 300, "share": 1, "key_prefix": ""}
    own = {
        "host": "0.0.0.0",
        "port": 4321,
        "token": "t" * 32,
        "certfile": Path("cert.pem"),
        "keyfile": Path("key.pem"),
        "behind_proxy": True,
        "ready_file": Path("front.json"),
        "parent": None,
        "workers": 3,
    }
    options = passed_on | shared_out | own
    assert options.keys() == ServeConfig.model_fields.keys(), "say here what becomes of a new option"
    started = []

    def popen(_command, *, env, **_options):
        started.append(ServeConfig.model_validate_json(env[CONFIG_VARIABLE]))
        raise FileNotFoundError(2, "not started in this test")

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(StartError):
        Front(ServeConfig(**options)).start()
    assert {worker.key_prefix for worker in started} == {"0-", "1-", "2-"}
    for worker in started:
        assert {name: getattr(worker, name) for name in passed_on} == passed_on
        assert (worker.budget_mb, worker.share, worker.workers) == (100, 3, 1)
        assert (worker.host, worker.port, worker.certfile, worker.behind_proxy) == ("127.0.0.1", 0, None, False)
        assert worker.token != own["token"] and worker.ready_file != own["ready_file"]
        assert worker.parent is not None and worker.parent.pid == os.getpid()


def test_stopping_the_front_stops_its_workers(front):
    tree = psutil.Process(front.pid).children(recursive=True)
    assert len(tree) == 2
    front.stop()
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in tree)
