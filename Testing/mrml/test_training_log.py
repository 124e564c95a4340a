"""What the panel says of a run is what the run has written, however the log grows, breaks off or starts anew."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from SOFASegmentLib import ManualScheduler
from SOFATrainingLib.controller import Phase, TrainingController
from SOFATrainingLib.follow import LogFollower
from SOFATrainingLib.plan import resumeArguments
from SOFATrainingLib.run import TrainingRun

START = {"event": "start", "epochs": 10, "iterations_per_epoch": 4, "training_cases": 3, "validation_cases": 1}


def step(number: int, loss: float | None = 1.0) -> dict[str, Any]:
    where = {"epoch": number // 4, "iteration": number % 4}
    left = {"remaining_s": 60.0 - number, "slices_per_second": 5.0}
    return {"event": "step", **where, "loss": loss, "first": 0.4, "second": 0.6, **left}


def validation(epoch: int, **dice: float) -> dict[str, Any]:
    return {"event": "validation", "epoch": epoch, "dice": dice}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def append(log: Path, *events: dict[str, Any]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def test_only_what_is_new_is_read(log: Path):
    follower = LogFollower(log.parent)
    assert not follower.read()
    append(log, START, step(0), step(1))
    assert follower.read() and not follower.read()
    append(log, step(2, loss=0.5))
    assert follower.read()
    assert follower.status.losses() == [[0.25, 1.0, 0.4, 0.6], [0.5, 1.0, 0.4, 0.6], [0.75, 0.5, 0.4, 0.6]]
    assert follower.status.progress.stage == "Epoch 1 of 10 · loss 0.500"
    assert follower.status.progress.fraction == pytest.approx(3 / 40)
    assert follower.status.progress.remaining_s == 58.0


def test_a_line_that_is_being_written_waits_for_its_end(log: Path):
    append(log, START, step(0))
    line = json.dumps(step(1))
    with log.open("a", encoding="utf-8") as file:
        file.write(line[:20])
    follower = LogFollower(log.parent)
    follower.read()
    assert follower.status.done == 1
    with log.open("a", encoding="utf-8") as file:
        file.write(line[20:] + "\n")
    follower.read()
    assert follower.status.done == 2


def test_a_resumed_run_writes_its_log_anew_and_nothing_counts_twice(log: Path):
    append(log, START, *(step(n) for n in range(6)), {"event": "end", "reason": "stopped"})
    follower = LogFollower(log.parent)
    follower.read()
    assert follower.status.ended["reason"] == "stopped"
    part = log.with_suffix(".part")
    append(part, START, *(step(n) for n in range(4)), START, step(4, loss=0.25))
    part.replace(log)
    follower.read()
    assert follower.status.starts == 2 and follower.status.ended is None
    assert [row[1] for row in follower.status.losses()] == [1.0, 1.0, 1.0, 1.0, 0.25]


def test_the_best_validation_is_the_one_whose_weights_are_kept(log: Path):
    append(log, START, validation(1, NCR=0.9, ED=0.1), validation(2, NCR=0.6, ED=0.6), validation(3, NCR=0.7, ED=0.2))
    follower = LogFollower(log.parent)
    follower.read()
    assert follower.status.bestDice()[:2] == [0.6, 0.6]
    assert follower.status.lastDice()[:2] == [0.7, 0.2]
    assert math.isnan(follower.status.lastDice()[2])


def test_validation_cases_that_the_start_has_seen_are_passed_on(log: Path):
    follower = LogFollower(log.parent)
    append(log, {**START, "validation_cases_seen": 1})
    follower.read()
    assert follower.status.facts["validation_cases_seen"] == 1


def test_measuring_between_epochs_is_said(log: Path):
    append(log, START, *(step(n) for n in range(4)))
    follower = LogFollower(log.parent)
    follower.read()
    assert follower.status.progress.stage == "Epoch 1 of 10 · measuring the validation cases"
    append(log, validation(1, NCR=0.5))
    follower.read()
    assert follower.status.progress.stage == "Epoch 2 of 10 · loss 1.000"


def test_a_long_run_is_drawn_with_a_few_hundred_points_and_keeps_its_mean(log: Path):
    long = {**START, "epochs": 1000}
    append(log, long, *(step(n, loss=float(n % 2)) for n in range(4000)))
    follower = LogFollower(log.parent)
    follower.read()
    rows = follower.status.losses()
    assert 200 <= len(rows) <= 400
    assert sum(row[1] for row in rows) / len(rows) == pytest.approx(0.5)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_a_loss_that_is_no_number_and_a_line_of_another_version_do_no_harm(log: Path):
    append(log, START, step(0), step(1, loss=None), {"event": "step"}, {"event": "something new"})
    with log.open("a", encoding="utf-8") as file:
        file.write("not json\n")
    append(log, step(2))
    follower = LogFollower(log.parent)
    follower.read()
    assert len(follower.status.losses()) == 2
    assert follower.status.done == 3


def test_a_run_that_was_resumed_with_other_batches_is_drawn_on(log: Path):
    longer = {**START, "iterations_per_epoch": 8}
    append(log, START, step(0), step(1), longer, {**step(0), "epoch": 0, "iteration": 4, "loss": 0.5})
    follower = LogFollower(log.parent)
    follower.read()
    assert [row[:2] for row in follower.status.losses()] == [[0.25, 1.0], [0.5, 1.0], [0.625, 0.5]]
    append(log, {**step(0), "epoch": 0, "iteration": 0, "loss": 0.25})  # counted apart from the first of the others
    follower.read()
    assert follower.status.losses()[0][:2] == [0.25, 1.0]


@pytest.mark.parametrize(
    ("remedy", "resumable", "arguments"),
    [
        ({}, True, []),
        ({"remedy": {"run.batch": 2}}, True, ["--set", "run.batch=2"]),
        ({"remedy": {}}, False, []),
    ],
    ids=["a full disk", "a small card", "a card too small for one slice"],
)
def test_a_failed_run_is_resumed_with_what_it_needs_and_not_offered_where_nothing_helps(
    log: Path, remedy: dict[str, Any], resumable: bool, arguments: list[str]
):
    append(log, START, step(0), {"event": "end", "reason": "It failed.", "failed": True, **remedy})
    run = TrainingRun(log.parent)
    run.find()
    assert not run.resumable
    (log.parent / "last.pt").touch()
    assert run.resumable is resumable
    assert resumeArguments(log.parent, run.remedy or {})[6:] == arguments


def test_a_paused_run_that_is_given_up_leaves_no_features_of_the_encoder(log: Path):
    (log.parent / "embeddings").mkdir()
    (log.parent / "embeddings" / "a.npz").touch()
    scheduler = ManualScheduler()
    controller = TrainingController(scheduler)
    controller.run, controller.phase = TrainingRun(log.parent), Phase.PAUSED
    controller.stop()
    scheduler.drain()
    assert controller.phase is Phase.IDLE and not (log.parent / "embeddings").exists()
