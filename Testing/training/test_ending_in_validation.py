"""Runs that are stopped or killed while the validation cases are measured lose none of the training."""

from __future__ import annotations

from pathlib import Path

import pytest

from sofa_training import trainer, validation
from sofa_training.folds import make_folds, write_folds
from sofa_training.prepared import read_folder
from sofa_training.run_folder import resume_config
from sofa_training.runlog import read_log
from sofa_training.state import load_state
from sofa_training.trainer import train


def _told(out: Path, event: str, value: str) -> list:
    return [e[value] for e in read_log(out) if e["event"] == event]


@pytest.fixture
def config(tiny, prepared: Path, tmp_path: Path):
    """A run that validates two cases or more after each of two epochs."""
    names = [case.name for case in read_folder(prepared)]
    write_folds(make_folds([(name, name) for name in names], 2), tmp_path / "folds.json")
    return tiny(
        data__folds=str(tmp_path / "folds.json"), data__fold=0, run__batch=2, run__validate_every=1, run__epochs=2
    )


def _same_as_without_interruption(out: Path, config, whole: Path) -> None:
    train(config, whole)
    for event, value in (("step", "loss"), ("validation", "epoch"), ("validation", "dice")):
        assert _told(out, event, value) == _told(whole, event, value)
    assert (load_state(out)[0].best, load_state(out)[0].misses) == (
        load_state(whole)[0].best,
        load_state(whole)[0].misses,
    )


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_killed_in_mid_validation_keeps_its_epoch_and_validates_when_it_goes_on(
    config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    out, tell = tmp_path / "run", trainer._Run._tell

    def killed(run, event: str, **values) -> None:
        if event == "validation":
            if moment == "after":
                tell(run, event, **values)
            raise KeyboardInterrupt
        tell(run, event, **values)

    monkeypatch.setattr(trainer._Run, "_tell", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, out)
    monkeypatch.undo()
    state = load_state(out)[0]
    assert (state.epoch, state.iteration, state.due, state.best) == (1, 0, True, None)
    assert train(resume_config(out), out, resume=True).reason == "finished"
    _same_as_without_interruption(out, config, tmp_path / "whole")


def test_a_stop_is_heard_between_two_validation_cases(config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out, segmented = tmp_path / "run", []
    first_pass = validation.run_first_pass

    def asked_to_stop(*arguments, **more):
        segmented.append(1)
        (out / "stop").touch()
        return first_pass(*arguments, **more)

    monkeypatch.setattr(validation, "run_first_pass", asked_to_stop)
    outcome = train(config, out)
    assert outcome.reason == "stopped" and len(segmented) == 1
    assert outcome.checkpoint.is_file() and _told(out, "validation", "epoch") == []
    monkeypatch.undo()
    assert train(resume_config(out), out, resume=True).reason == "finished"
    _same_as_without_interruption(out, config, tmp_path / "whole")
