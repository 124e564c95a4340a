from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sofa_engine.errors import InputError, OutputError, SofaError, WeightsError
from sofa_engine.model.checkpoint import load_checkpoint, save_checkpoint
from sofa_engine.model.config import ModelConfig
from sofa_engine.model.network import SofaModel
from sofa_training.config import dump_config, load_config
from sofa_training.run_folder import resume_config
from sofa_training.runlog import read_log
from sofa_training.trainer import train

_TRAIN = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from sofa_training.config import load_config
from sofa_training.run_folder import resume_config
from sofa_training.trainer import train
config, out, resume = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "resume"
train(resume_config(out) if resume else load_config(config), out, resume=resume)
"""


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in another order differ in the last bit, so every run here computes on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _losses(out: Path) -> list[float]:
    return [event["loss"] for event in read_log(out) if event["event"] == "step"]


def _write(config, path: Path) -> str:
    path.write_text(dump_config(config), encoding="utf-8")
    return str(path)


def test_the_loss_goes_down_and_the_checkpoint_opens_in_the_engine(tiny, tmp_path: Path):
    outcome = train(tiny(run__epochs=25, optimiser__rate=3e-3, run__batch_norm="live"), tmp_path / "run")
    losses = _losses(tmp_path / "run")
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    model, info = load_checkpoint(outcome.checkpoint)
    assert outcome.reason == "finished" and model.config.arrangement == "tiny"
    assert info.notes["epochs"] == 25 and info.notes["training_cases"] == 5


def test_the_log_tells_everything_a_watcher_wants(tiny, prepared: Path, tmp_path: Path):
    config = tiny(data__folds=str(prepared / "folds.json"), data__fold=0, run__validate_every=1)
    events = []
    train(config, tmp_path / "run", listener=lambda name, values: events.append(name))
    log = read_log(tmp_path / "run")
    assert [e["event"] for e in log] == events
    assert events == ["start", *["step"] * 2, "validation", *["step"] * 2, "validation", "end"]
    step = log[1]
    assert {"loss", "first", "second", "rate", "dice", "loading", "slices_per_second", "remaining_s"} <= step.keys()
    check = log[3]
    assert set(check["dice"]) == {"NCR", "ED", "ET", "WT", "TC"}
    assert check["score"] == pytest.approx(np.mean(list(check["dice"].values())))
    assert load_config(tmp_path / "run" / "config.toml") == config
    with np.load(tmp_path / "run" / "preview.npz") as preview:
        assert preview["image"].shape == preview["truth"].shape == preview["found"].shape
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    shown = [scalar.value for scalar in board.Scalars("step/loss")]
    np.testing.assert_allclose(shown, _losses(tmp_path / "run"), rtol=1e-6)
    assert board.Scalars("validation/dice/WT")[-1].value == pytest.approx(log[-2]["dice"]["WT"])


def test_a_run_killed_in_mid_epoch_resumes_to_the_very_same_losses_and_weights(tiny, python, tmp_path: Path):
    """kill -9 leaves no time to save anything: only what was on disk already counts."""
    config = tiny(
        data__slices_per_case=8, run__epochs=3, run__checkpoint_steps=3, run__accumulate=2, run__workers=1,
        optimiser__average=0.9, loss__difficulty=1.0, prompts__own=0.6, augmentation__modality_dropout=0.2,
        augmentation__noise=0.05, model__encoder__drop_path=0.2,
    )  # fmt: skip
    path = _write(config, tmp_path / "config.toml")
    assert python("-c", _TRAIN, path, str(tmp_path / "whole"), "new").wait() == 0
    killed = python("-c", _TRAIN, path, str(tmp_path / "killed"), "new")
    log = tmp_path / "killed" / "log.jsonl"
    deadline = time.monotonic() + 400
    # Epochs have ten iterations; the fifteenth lies in the middle of the second.
    while time.monotonic() < deadline and not (
        log.is_file() and log.read_text(encoding="utf-8").count('"step"') >= 2 * 15
    ):
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = len(_losses(tmp_path / "killed"))
    assert 15 <= before < 30, "the run was to be killed in its middle"
    resumed = python("-c", _TRAIN, path, str(tmp_path / "killed"), "resume")
    assert resumed.wait() == 0, resumed.stdout.read()
    assert len(_losses(tmp_path / "whole")) == 30
    assert _losses(tmp_path / "killed") == _losses(tmp_path / "whole")
    whole, again = (load_checkpoint(tmp_path / run / "last.safetensors")[0].state_dict() for run in ("whole", "killed"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_two_processes_train_as_one_with_the_same_global_batch(tiny, python, tmp_path: Path):
    # Weights from the first step on depend on both processes' gradients; frozen batch norm makes slices independent.
    config = tiny(run__epochs=3, prompts__own=0.5, optimiser__clip=0.5)
    path = _write(config, tmp_path / "config.toml")
    alone = python("-c", _TRAIN, path, str(tmp_path / "one"), "new")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        python("-c", _TRAIN, path, str(tmp_path / "two"), "new", RANK=str(r), LOCAL_RANK=str(r), **shared)
        for r in range(2)
    ]
    for process in (alone, *ranks):
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert len(_losses(tmp_path / "one")) == 6
    np.testing.assert_allclose(_losses(tmp_path / "two"), _losses(tmp_path / "one"), rtol=2e-5)


def test_a_stop_request_saves_and_the_run_goes_on_from_there(tiny, tmp_path: Path):
    config = tiny(run__epochs=3)
    train(config, tmp_path / "whole")
    out = tmp_path / "stopped"

    def stop_in_the_second_step(event: str, values: dict) -> None:
        if event == "step" and (values["epoch"], values["iteration"]) == (1, 0):
            (out / "stop").touch()

    first = train(config, out, listener=stop_in_the_second_step)
    assert first.reason == "stopped" and 3 <= len(_losses(out)) < 6
    assert not (out / "stop").exists()
    assert train(resume_config(out), out, resume=True).reason == "finished"
    assert _losses(out) == _losses(tmp_path / "whole")


def test_a_run_keeps_its_folds_whatever_becomes_of_their_file(tiny, prepared: Path, tmp_path: Path):
    folds = tmp_path / "folds.json"
    folds.write_bytes((prepared / "folds.json").read_bytes())
    config = tiny(data__folds=str(folds), data__fold=0, run__epochs=2)
    train(config, tmp_path / "whole")
    out = tmp_path / "stopped"
    train(config, out, listener=lambda event, values: (out / "stop").touch() if event == "step" else None)
    folds.write_text("{}", encoding="utf-8")
    train(resume_config(out), out, resume=True)
    assert _losses(out) == _losses(tmp_path / "whole")
    assert (out / "folds.json").read_bytes() == (prepared / "folds.json").read_bytes()


def test_ctrl_c_stops_after_the_current_iteration_with_a_checkpoint(tiny, python, tmp_path: Path):
    path = _write(tiny(run__epochs=500), tmp_path / "config.toml")
    process = python("-c", _TRAIN, path, str(tmp_path / "run"), "new")
    log = tmp_path / "run" / "log.jsonl"
    while not (log.is_file() and '"step"' in log.read_text(encoding="utf-8")):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert read_log(tmp_path / "run")[-1]["reason"] == "stopped" and (tmp_path / "run" / "last.pt").is_file()


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tiny, tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(SofaError, match=r"became (nan|inf).*last good checkpoint is kept") as error:
        train(tiny(run__epochs=40, run__checkpoint_steps=1, optimiser__rate=1e12, optimiser__clip=0), out)
    assert "\n" not in str(error.value)
    parts = torch.load(out / "last.pt", weights_only=True)
    assert all(torch.isfinite(v).all() for v in parts["model"].values() if v.is_floating_point())
    assert read_log(out)[-1]["failed"] is True


def test_a_full_disk_stops_the_run_with_a_sentence_and_leaves_the_checkpoint_before(tiny, python, tmp_path: Path):
    path = _write(tiny(run__epochs=2), tmp_path / "config.toml")
    out = tmp_path / "run"
    assert python("-c", _TRAIN, path, str(out), "new").wait() == 0
    good = (out / "last.pt").read_bytes()
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n" + _TRAIN
    text = (out / "config.toml").read_text(encoding="utf-8").replace("epochs = 2", "epochs = 4")
    (out / "config.toml").write_text(text, encoding="utf-8")
    process = python("-c", limited, path, str(out), "resume")
    output, _ = process.communicate()
    assert process.returncode != 0 and "is the disk full?" in output
    assert (out / "last.pt").read_bytes() == good and not list(out.glob("*.part"))


def test_early_stopping_ends_a_run_that_no_longer_improves(tiny, prepared: Path, tmp_path: Path):
    config = tiny(
        data__folds=str(prepared / "folds.json"), data__fold=1, optimiser__rate=1e-12, optimiser__name="adam",
        run__epochs=50, run__validate_every=1, run__patience=2,
    )  # fmt: skip
    outcome = train(config, tmp_path / "run")
    scores = [event["score"] for event in read_log(tmp_path / "run") if event["event"] == "validation"]
    assert outcome.reason == "no more progress" and outcome.epochs == len(scores) < 50
    assert scores.index(max(scores)) == len(scores) - 3, "it stops two validations after the best"
    assert outcome.checkpoint.name == "best.safetensors"


def test_a_frozen_encoder_keeps_its_weights_and_its_cached_embeddings_serve_later_epochs(tiny, tmp_path: Path):
    config = tiny(run__train="decoder", run__cached_variants=1, run__epochs=3, augmentation__modality_dropout=0.3)
    kept: list[Path] = []

    def look(event: str, values: dict) -> None:
        if event == "step":
            kept[:] = sorted((tmp_path / "run" / "embeddings").iterdir())

    outcome = train(config, tmp_path / "run", listener=look)
    torch.manual_seed(config.run.seed)
    untrained = SofaModel(config.model).state_dict()
    trained = load_checkpoint(outcome.checkpoint)[0].state_dict()
    for key in untrained:
        frozen = key.startswith("image_encoder.")
        if frozen:
            assert torch.equal(untrained[key], trained[key]), key
    assert not torch.equal(untrained["attention.weight"], trained["attention.weight"])
    assert len(kept) == 8  # two batches of four, the same in every epoch
    assert not (tmp_path / "run" / "embeddings").exists()


def test_cached_and_fresh_embeddings_of_a_frozen_encoder_give_nearly_the_same_losses(tiny, tmp_path: Path):
    common = {"run__train": "decoder", "run__epochs": 1}
    train(tiny(**common, run__cached_variants=1), tmp_path / "cached")
    train(tiny(**common), tmp_path / "fresh")
    np.testing.assert_allclose(_losses(tmp_path / "cached"), _losses(tmp_path / "fresh"), rtol=2e-3)


@pytest.mark.parametrize("mode", ["bf16", "fp16"])
def test_half_precision_trains_with_finite_losses(tiny, tmp_path: Path, mode: str):
    train(tiny(run__precision=mode, run__epochs=2), tmp_path / "half")
    train(tiny(run__epochs=2), tmp_path / "full")
    np.testing.assert_allclose(_losses(tmp_path / "half")[0], _losses(tmp_path / "full")[0], rtol=0.05)


def test_two_accumulated_halves_step_like_one_whole_batch(tiny, tmp_path: Path):
    train(tiny(run__batch=8, run__epochs=2), tmp_path / "whole")
    train(tiny(run__batch=4, run__accumulate=2, run__epochs=2), tmp_path / "halves")
    halves = np.array(_losses(tmp_path / "halves")).reshape(-1, 2).mean(axis=1)
    np.testing.assert_allclose(halves[0], _losses(tmp_path / "whole")[0], rtol=1e-5)
    whole, again = (load_checkpoint(tmp_path / r / "last.safetensors")[0].state_dict() for r in ("whole", "halves"))
    assert all(torch.allclose(whole[k].float(), again[k].float(), atol=2e-3) for k in whole)


@pytest.mark.parametrize(
    "options",
    [
        {"model__mode": "paper", "model__learned_temperature": False, "model__modality_conditioning": "none",
         "model__dense_prompt": False, "loss__sub_regions": "one", "data__slices_per_case": 0, "data__background": 0.0},
        {"model__encoder__context": 3, "augmentation__reverse": 0.5, "data__transplant": 1.0},
        {"model__attention": "mean", "model__prompting": False},
        {"model__attention": "global", "model__normalisation": "slice"},
        {"model__detail": 3, "model__modality_conditioning": "stages", "loss__at": "mask", "loss__batch_dice": 1.0},
        {"data__crops": [[48, 48], [32, 64]], "prompts__empty": 1.0, "augmentation__elastic": 5.0},
    ],
    ids=["paper", "2.5D and transplants", "no attention, no prompting", "global attention", "detail", "two crops"],
)  # fmt: skip
def test_every_option_of_the_ablation_trains(tiny, tmp_path: Path, options: dict):
    train(tiny(run__epochs=1, **options), tmp_path / "run")
    assert np.isfinite(_losses(tmp_path / "run")).all()


def test_a_single_sequence_run_never_sees_the_others(tiny, tmp_path: Path, prepared: Path):
    config = tiny(modalities=["flair"], run__epochs=1)
    train(config, tmp_path / "run")
    assert np.isfinite(_losses(tmp_path / "run")).all()


def test_training_starts_from_a_checkpoint_of_the_same_arrangement(tiny, tmp_path: Path):
    first = train(tiny(run__epochs=1), tmp_path / "first").checkpoint
    train(tiny(start=str(first), run__epochs=1, optimiser__rate=1e-12, optimiser__name="adam"), tmp_path / "second")
    one, two = (load_checkpoint(tmp_path / r / "last.safetensors")[0].state_dict() for r in ("first", "second"))
    assert all(torch.allclose(one[k].float(), two[k].float(), atol=1e-6) for k in one)


def test_a_start_that_was_trained_on_validation_cases_is_noted_and_one_that_was_not_is_not(
    tiny, prepared: Path, tmp_path: Path
):
    def notes(out: str, fold: int, **values: object) -> dict[str, object]:
        config = tiny(run__epochs=1, data__folds=str(prepared / "folds.json"), data__fold=fold, **values)
        outcome = train(config, tmp_path / out)
        (start,) = [event for event in read_log(tmp_path / out) if event["event"] == "start"]
        told = load_checkpoint(outcome.checkpoint)[1].notes
        assert start.get("validation_cases_seen") == told.get("validation_cases_seen")
        return told

    assert "validation_cases_seen" not in notes("first", 0)
    first = str(tmp_path / "first" / "best.safetensors")
    assert "validation_cases_seen" not in notes("same", 0, start=first)
    assert notes("other", 1, start=first)["validation_cases_seen"] == 1


def test_a_checkpoint_of_another_model_is_refused_before_training(tiny, tmp_path: Path):
    config = tiny()
    wider = config.model.model_copy(update={"channels": 64})
    save_checkpoint(SofaModel(ModelConfig.model_validate(wider.model_dump())), tmp_path / "w.safetensors", name="wider")
    with pytest.raises(WeightsError, match="of another arrangement"):
        train(tiny(start=str(tmp_path / "w.safetensors")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_by_another(tiny, tmp_path: Path):
    train(tiny(run__epochs=1), tmp_path / "run")
    with pytest.raises(InputError, match="holds a run already"):
        train(tiny(run__epochs=1), tmp_path / "run")


def test_nothing_to_resume_is_said(tmp_path: Path):
    with pytest.raises(InputError, match="is no training run"):
        resume_config(tmp_path)


def test_a_batch_larger_than_an_epoch_is_said(tiny, tmp_path: Path):
    with pytest.raises(InputError, match="more than the 10 of an epoch"):
        train(tiny(run__batch=64), tmp_path / "run")


def test_a_fold_that_does_not_exist_is_said(tiny, prepared: Path, tmp_path: Path):
    with pytest.raises(InputError, match="folds 0 to 4"):
        train(tiny(data__folds=str(prepared / "folds.json"), data__fold=7), tmp_path / "run")
    with pytest.raises(InputError, match=r"data\.folds must name"):
        train(tiny(data__fold=0), tmp_path / "run")


def test_a_run_folder_that_cannot_be_written_is_said(tiny, tmp_path: Path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError):
        train(tiny(), tmp_path / "file" / "run")


def test_a_line_that_a_kill_cut_off_does_not_spoil_the_log(tiny, tmp_path: Path):
    train(tiny(run__epochs=1), tmp_path / "run")
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write(json.dumps({"event": "step", "loss": 1})[:9])
    assert read_log(tmp_path / "run")[-1]["event"] == "end"
