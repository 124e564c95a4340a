"""Runs that fail, and how they go on with other settings or are started over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sofa_cli.main import app
from sofa_engine.errors import InputError, OutputError, SofaError
from sofa_training.config import dump_config, load_config
from sofa_training.distributed import Process
from sofa_training.failures import TrainingFailedError
from sofa_training.run_folder import prepare_folder, resume_config
from sofa_training.runlog import read_log
from sofa_training.step import TrainingStep
from sofa_training.trainer import train


def _losses(out: Path) -> list[float]:
    return [event["loss"] for event in read_log(out) if event["event"] == "step"]


def _stopped(config, out: Path, steps: int) -> None:
    """Stop a run after so many iterations."""

    def stop(event: str, values: dict) -> None:
        if event == "step" and len(_losses(out)) == steps - 1:
            (out / "stop").touch()

    assert train(config, out, listener=stop).reason == "stopped"
    assert len(_losses(out)) == steps


@pytest.fixture
def small_card(monkeypatch: pytest.MonkeyPatch):
    """Pretend that a graphics card has room for batches of two slices."""
    forward = TrainingStep.forward

    def limited(step, batch, weights):
        if len(batch.images) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(step, batch, weights)

    monkeypatch.setattr(TrainingStep, "forward", limited)


def test_a_run_that_lost_its_loss_resumes_with_the_rate_that_its_sentence_names(tiny, tmp_path: Path, monkeypatch):
    out = tmp_path / "run"
    forward = TrainingStep.forward

    def fragile(step, batch, weights):
        result = forward(step, batch, weights)
        bad = step._config.optimiser.rate > 1e-3 and len(_losses(out)) == 3
        return result._replace(loss=result.loss * float("nan")) if bad else result

    monkeypatch.setattr(TrainingStep, "forward", fragile)
    with pytest.raises(TrainingFailedError, match=r"and resume with --set optimiser\.rate=0\.001\.$") as failure:
        train(tiny(run__checkpoint_steps=1, optimiser__rate=2e-3), out)
    assert read_log(out)[-1]["remedy"] == failure.value.remedy == {"optimiser.rate": 1e-3}
    words = ["train", "--resume", "--out", str(out), "--set", "optimiser.rate=0.001", "--set", "run.epochs=3"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    config = load_config(out / "config.toml")
    assert (config.optimiser.rate, config.run.epochs) == (1e-3, 3), "the run's configuration says what it did"
    assert len(_losses(out)) == 6 and np.isfinite(_losses(out)).all()


def test_a_resumed_run_keeps_everything_that_makes_it_the_same_run(tiny, tmp_path: Path):
    out = tmp_path / "run"
    train(tiny(run__epochs=1, run__batch=4, run__accumulate=2), out)
    before = (out / "config.toml").read_bytes()
    with pytest.raises(InputError, match=r"keeps its run\.seed; only optimiser\.rate, .* can be changed"):
        resume_config(out, {"run.seed": 1})
    with pytest.raises(InputError, match=r"8 slices in each step, so run\.batch must divide 8, not be 3"):
        resume_config(out, {"run.batch": 3})
    assert (out / "config.toml").read_bytes() == before
    changed = resume_config(out, {"run.batch": 2})
    assert (changed.run.batch, changed.run.accumulate) == (2, 4)


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4)])
def test_another_batch_goes_on_with_the_slice_that_comes_next(tiny, tmp_path: Path, before: int, after: int):
    """Ten slices are two batches of four or five of two; one step of the optimiser always takes four."""
    config = tiny(run__epochs=2, run__batch=before, run__accumulate=4 // before, data__off_tumour=0.0)
    out = tmp_path / "run"
    done = 10 // before + 4 // before
    _stopped(config, out, done)
    train(resume_config(out, {"run.batch": after}), out, resume=True)
    log = [(e["epoch"], e["iteration"]) for e in read_log(out) if e["event"] == "step"]
    assert log[:done] == [(0, i) for i in range(10 // before)] + [(1, i) for i in range(4 // before)]
    assert log[done:] == [(1, i) for i in range(4 // after, 10 // after)]


def test_a_larger_batch_for_which_too_little_is_left_of_an_epoch_goes_on_with_the_next(tiny, tmp_path: Path):
    out = tmp_path / "run"
    _stopped(tiny(run__epochs=2, run__batch=2, run__accumulate=2), out, 4)
    train(resume_config(out, {"run.batch": 4}), out, resume=True)
    log = [(e["epoch"], e["iteration"]) for e in read_log(out) if e["event"] == "step"]
    assert log == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]


@pytest.mark.parametrize(("before", "after"), [("fp16", "fp32"), ("fp32", "fp16")])
def test_a_run_goes_on_in_another_precision(tiny, tmp_path: Path, before: str, after: str):
    out = tmp_path / "run"
    _stopped(tiny(run__precision=before), out, 2)
    assert train(resume_config(out, {"run.precision": after}), out, resume=True).reason == "finished"


def test_a_run_that_ended_before_its_first_checkpoint_is_started_over(tiny, tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(InputError, match=r"lower run\.batch"):
        train(tiny(run__batch=64), out)
    with pytest.raises(InputError, match="start it again without --resume"):
        train(tiny(run__epochs=1), out, resume=True)
    assert train(tiny(run__epochs=1), out).reason == "finished"
    assert load_config(out / "config.toml").run.batch == 4


@pytest.mark.parametrize("kept", ["last.pt", "last.safetensors", "best.safetensors"])
def test_a_run_that_left_anything_of_worth_is_not_started_over(tiny, tmp_path: Path, kept: str):
    (tmp_path / "config.toml").write_text(dump_config(tiny()), encoding="utf-8")
    (tmp_path / kept).touch()
    with pytest.raises(InputError, match="holds a run already"):
        train(tiny(), tmp_path)


def test_settings_that_a_resumed_run_cannot_use_leave_its_configuration_as_it_was(tiny, tmp_path: Path):
    out = tmp_path / "run"
    train(tiny(run__epochs=1), out)
    before = (out / "config.toml").read_bytes()
    (out / "last.pt").write_bytes(b"cut short")
    with pytest.raises(SofaError):
        train(resume_config(out, {"run.epochs": 2}), out, resume=True)
    assert (out / "config.toml").read_bytes() == before


def test_a_full_disk_never_costs_a_run_its_configuration(tiny, tmp_path: Path, monkeypatch):
    alone, file = Process(0, 1, torch.device("cpu")), tmp_path / "config.toml"
    prepare_folder(tiny(), tmp_path, alone, resume=False)
    before = file.read_bytes()

    def full(path: Path, text: str, **_) -> None:
        path.write_bytes(text[:20].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    prepare_folder(tiny(), tmp_path, alone, resume=True)  # nothing has changed, so nothing is written
    with pytest.raises(OutputError, match="No space left"):
        prepare_folder(tiny(run__epochs=9), tmp_path, alone, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"] and file.read_bytes() == before


def test_an_empty_configuration_is_no_configuration_to_resume_with(tmp_path: Path):
    (tmp_path / "config.toml").touch()
    with pytest.raises(InputError, match="is empty, so what the run was started with is lost"):
        resume_config(tmp_path)


def test_a_configuration_that_somebody_wrote_by_hand_is_not_overwritten(tiny, tmp_path: Path):
    (tmp_path / "config.toml").write_text("# mine\n[run]\nepochs = 3\n", encoding="utf-8")
    with pytest.raises(InputError, match="holds a run already"):
        train(tiny(), tmp_path)
    assert (tmp_path / "config.toml").read_text(encoding="utf-8").startswith("# mine")


def test_a_card_that_is_too_small_is_said_and_half_the_batch_goes_on(tiny, tmp_path: Path, small_card):
    out = tmp_path / "run"
    with pytest.raises(
        TrainingFailedError, match=r"ran out of memory with run\.batch 4; .*--set run\.batch=2"
    ) as failure:
        train(tiny(), out)
    assert "\n" not in str(failure.value) and read_log(out)[-1]["failed"] is True
    assert train(resume_config(out, failure.value.remedy), out, resume=True).reason == "finished"
    assert load_config(out / "config.toml").run.accumulate == 2
    # By which a face tells that the process which it started did start the run.
    assert [event["event"] for event in read_log(out)].count("start") == 2


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA error: out of memory")]
)
def test_a_card_that_is_too_small_for_one_slice_offers_no_smaller_batch(tiny, tmp_path: Path, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(TrainingStep, "forward", full)
    with pytest.raises(TrainingFailedError, match=r"although run\.batch is only 1; .* smaller data\.crops"):
        train(tiny(run__batch=1), tmp_path / "run")
    assert read_log(tmp_path / "run")[-1]["remedy"] == {}
