"""What the engine does while nobody asks for anything, and that it stands back when somebody does."""

from __future__ import annotations

import threading
import time

import pytest

from sofa_engine.errors import SofaError
from sofa_service import worker as worker_module
from sofa_service.worker import Job, JobKind, Worker


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setattr(worker_module, "_QUIET_S", 0.05)
    worker = Worker()
    yield worker
    worker.stop()


def ask(worker: Worker) -> str:
    """Have a job done, and return its answer."""
    answered = threading.Event()
    told = []

    def steps(_):
        yield "begun"
        return "done"

    def finish(result, error):
        told.append(result if error is None else error)
        answered.set()

    worker.submit(Job("somebody", JobKind.CALL, steps, finish))
    assert answered.wait(5)
    return told[0]


def test_idle_time_is_used_until_nothing_is_left_and_again_after_the_next_job(worker):
    calls = []
    exhausted = threading.Event()

    def work():
        calls.append(threading.current_thread())
        if len(calls) % 3 == 0:
            exhausted.set()
            return False
        return True

    worker.use_idle_time(work)
    assert ask(worker) == "done"
    assert exhausted.wait(5)
    time.sleep(0.3)
    before = len(calls)
    time.sleep(0.3)
    assert len(calls) == before and before % 3 == 0, "not once more after it said that nothing is left"
    assert calls[0] is worker._thread, "sessions are touched by one thread alone"
    exhausted.clear()
    assert ask(worker) == "done"
    assert exhausted.wait(5)


def test_a_request_waits_for_one_piece_of_idle_work_and_not_for_all(worker):
    pieces = []

    def work():
        time.sleep(0.05)
        pieces.append(time.perf_counter())
        return True

    worker.use_idle_time(work)
    ask(worker)
    while len(pieces) < 3:
        time.sleep(0.01)
    before = len(pieces)
    assert ask(worker) == "done"
    assert len(pieces) <= before + 1


@pytest.mark.parametrize("error", [SofaError("the disk is full"), RuntimeError("a bug")])
def test_idle_work_that_fails_takes_nothing_with_it(worker, error, caplog):
    failed = threading.Event()

    def work():
        failed.set()
        raise error

    worker.use_idle_time(work)
    ask(worker)
    assert failed.wait(5)
    assert ask(worker) == "done"
    assert "ahead" in caplog.text
