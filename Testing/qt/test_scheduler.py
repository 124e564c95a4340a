"""Slicer's main thread: what is posted arrives there, in order; what is cancelled does not."""

from __future__ import annotations

import threading
import time

import pytest
from PySide6 import QtWidgets


@pytest.fixture
def scheduler(slicer_stand_in):
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "SOFASegment"))
    from SOFASegmentQt.scheduler import QtScheduler

    made = QtScheduler()
    yield made
    made.close()


def wait(until, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        QtWidgets.QApplication.processEvents()
        time.sleep(0.002)


def test_background_work_leaves_the_main_thread_and_its_messages_come_back_to_it(scheduler):
    threads = []

    def work():
        threads.append(threading.current_thread())
        for number in range(20):
            scheduler.post(lambda number=number: threads.append((number, threading.current_thread())))

    scheduler.runInBackground(work)
    wait(lambda: len(threads) == 21)
    assert threads[0] is not threading.main_thread()
    assert threads[1:] == [(number, threading.main_thread()) for number in range(20)]


def test_background_work_runs_one_piece_after_the_other(scheduler):
    seen = []
    scheduler.runInBackground(lambda: (time.sleep(0.05), seen.append(1)))
    scheduler.runInBackground(lambda: seen.append(2))
    wait(lambda: seen == [1, 2])


def test_work_beside_does_not_wait_for_background_work_that_hangs(scheduler):
    hangs, seen = threading.Event(), []
    scheduler.runInBackground(lambda: hangs.wait(10))
    scheduler.runBeside(lambda: (hangs.set(), scheduler.post(lambda: seen.append(threading.current_thread()))))
    wait(lambda: seen)
    assert seen == [threading.main_thread()]
    wait(lambda: not scheduler._look.active)


def test_what_is_posted_from_the_main_thread_arrives_without_any_background_work(scheduler):
    seen = []
    scheduler.post(lambda: seen.append(1))
    assert seen == []
    wait(lambda: seen == [1])


def test_the_main_thread_stops_looking_when_there_is_nothing_to_wait_for(scheduler):
    scheduler.runInBackground(lambda: None)
    assert scheduler._look.active
    wait(lambda: not scheduler._look.active)


def test_a_call_is_made_later_and_a_cancelled_one_never(scheduler):
    seen = []
    scheduler.callLater(30, lambda: seen.append("late"))
    scheduler.callLater(1, lambda: seen.append("soon"))
    scheduler.callLater(1, lambda: seen.append("never")).cancel()
    wait(lambda: len(seen) == 2)
    assert seen == ["soon", "late"]


def test_cancelling_a_call_that_was_made_is_harmless(scheduler):
    seen = []
    timer = scheduler.callLater(0, lambda: seen.append(1))
    wait(lambda: seen == [1])
    timer.cancel()


def test_one_message_that_fails_does_not_stop_the_next(scheduler):
    seen = []
    scheduler.post(lambda: 1 / 0)
    scheduler.post(lambda: seen.append(2))
    wait(lambda: seen == [2])


def test_after_closing_nothing_arrives_any_more(scheduler):
    seen = []
    scheduler.post(lambda: seen.append(1))
    scheduler.callLater(0, lambda: seen.append(2))
    scheduler.close()
    for _ in range(20):
        QtWidgets.QApplication.processEvents()
        time.sleep(0.002)
    assert seen == []


def test_work_that_fails_against_its_promise_does_not_take_along_what_waits_behind_it(scheduler, caplog):
    done = []
    scheduler.runInBackground(lambda: 1 / 0)
    scheduler.runInBackground(lambda: done.append(True))
    wait(lambda: done)
    assert "division by zero" in caplog.text
