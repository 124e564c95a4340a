"""Training a localiser: what it is shown, that it learns, goes on after a kill, and becomes part of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sofa_cli.localiser import _Display, app
from sofa_cli.main import app as sofa
from sofa_engine.errors import InputError, WeightsError
from sofa_engine.model.checkpoint import load_checkpoint
from sofa_engine.model.localiser import with_other_side
from sofa_training.config import AugmentationConfig
from sofa_training.folds import Fold, read_folds, write_folds
from sofa_training.localiser import (
    LocaliserTraining,
    coarse_dice,
    load_localiser_config,
    locate_prepared,
    segmentation_loss,
    train_localiser,
)
from sofa_training.localiser_file import join, read_localiser, write_localiser
from sofa_training.prepared import read_folder
from sofa_training.seen import digest, digests_in
from sofa_training.state import load_state
from sofa_training.trainer import train
from sofa_training.volumes import CoarseCase, VolumeSampler, transplanted_cells

STILL = AugmentationConfig(rotation=0, scale=(1, 1), gamma=(1, 1), gain=0, offset=0)
SMALL = {"widths": [8, 8, 16, 16], "depths": [1, 1, 1]}


def small_run(steps: int = 6, **run: object) -> LocaliserTraining:
    return LocaliserTraining.model_validate(
        {
            "model": SMALL,
            "augmentation": {"mirror": 0.5, "rotation": 10, "elastic": 1.0, "modality_dropout": 0.2},
            "optimiser": {"rate": 5e-3, "average": 0.8},
            "run": {"steps": steps, "crop": [8, 24, 24], "save_steps": 2, **run},
        }
    )


def test_cells_hold_the_images_and_the_shares_of_the_truth(prepared: Path) -> None:
    case = read_folder(prepared)[0]
    coarse = CoarseCase.of(case, 2.0)
    truth = np.asarray(case.truth)
    for row, label in ((4, 1), (5, 2), (6, 4)):
        share = float(coarse.cells[row].float().mean())
        assert share == pytest.approx(float(np.mean(truth == label)), rel=0.2)
    assert coarse.start == tuple(round(n / 2) for n in case.extent.lower)


def test_an_unmoved_crop_shows_the_cells_as_they_are(prepared: Path) -> None:
    coarse = CoarseCase.of(read_folder(prepared)[0], 2.0)
    sampler = VolumeSampler([coarse], (6, 16, 16), STILL, off_tumour=0.0, untouched=1.0, transplant=0.0, seed=3)
    image, shares = sampler.batch(0, 1)
    drawn = torch.cat([image[0], shares[0]])
    cells = coarse.cells.float()
    whole = torch.nn.functional.pad(torch.cat([with_other_side(cells[:4]), cells[4:]]), (16, 16, 16, 16, 6, 6))
    windows = whole.unfold(1, 6, 1).unfold(2, 16, 1).unfold(3, 16, 1)
    distance = (windows - drawn[:, None, None, None]).abs().amax(dim=(0, 4, 5, 6))
    assert float(distance.min()) < 2e-3, "some window of the cells is this crop"


def test_a_sample_depends_on_seed_and_step_alone(prepared: Path) -> None:
    cases = [CoarseCase.of(case, 2.0) for case in read_folder(prepared)]
    config = AugmentationConfig(mirror=0.5, elastic=2.0, noise=0.1)

    def batch(step: int, seed: int = 0) -> torch.Tensor:
        sampler = VolumeSampler(cases, (8, 16, 16), config, off_tumour=0.3, untouched=0.2, transplant=0.5, seed=seed)
        return sampler.batch(step, 2)[0]

    assert torch.equal(batch(4), batch(4))
    assert not torch.equal(batch(4), batch(5)) and not torch.equal(batch(4), batch(4, seed=1))


def test_shares_stay_shares_whatever_the_change(prepared: Path) -> None:
    cases = [CoarseCase.of(case, 2.0) for case in read_folder(prepared)]
    config = AugmentationConfig(rotation=20, scale=(0.8, 1.2), mirror=0.5, elastic=3.0, elastic_probability=1.0)
    sampler = VolumeSampler(cases, (8, 24, 24), config, off_tumour=0.5, untouched=0.0, transplant=0.5, seed=0)
    for step in range(4):
        _, shares = sampler.batch(step, 2)
        assert shares.min() >= 0 and shares.sum(dim=1).max() <= 1 + 2e-3


def test_another_patients_tumour_comes_with_its_shares_and_stays_in_the_brain(prepared: Path) -> None:
    case, donor = (CoarseCase.of(case, 2.0) for case in read_folder(prepared)[:2])
    cells = case.cells.float()
    brain, own = cells[:4].amax(dim=0) > 0, cells[4:].sum(dim=0)
    grown = 0
    for seed in range(8):
        mixed = transplanted_cells(cells, case, donor, np.random.default_rng(seed))
        tumour = mixed[4:].sum(dim=0)
        grown += int(tumour.sum() > own.sum())
        assert not mixed[:4, ~brain].any() and tumour.max() <= 1 + 2e-3
        changed = (mixed[4:] != cells[4:]).any(dim=0)
        assert not changed.any() or bool((mixed[:4] != cells[:4]).any(dim=0)[changed].any())
    assert grown >= 4
    assert transplanted_cells(cells, case, case, np.random.default_rng(0)) is cells


def test_the_loss_prefers_the_truth_and_asks_only_where_there_is_something_to_ask() -> None:
    shares = torch.zeros(1, 3, 4, 8, 8)
    shares[:, 1, :, :4, :4] = 1  # oedema
    tumour = shares.sum(dim=1)
    right = torch.stack([tumour * 2 - 1, -torch.ones_like(tumour), torch.zeros_like(tumour)], dim=1) * 12
    wrong = right.clone()
    wrong[:, 1] = 12  # all of it core
    assert segmentation_loss(right, shares) < 0.1 < segmentation_loss(wrong, shares)
    # What is enhancing is never asked where there is no core, nor what is core where there is no tumour.
    elsewhere = right.clone()
    elsewhere[:, 2] = 7
    torch.testing.assert_close(
        segmentation_loss(elsewhere, shares), segmentation_loss(right, shares), atol=1e-3, rtol=0
    )


@pytest.mark.slow
def test_it_learns_to_find_phantoms_that_it_has_not_seen(prepared: Path, tmp_path: Path) -> None:
    cases = read_folder(prepared)
    trained = train_localiser(small_run(steps=60), cases[:4], tmp_path)
    assert trained is not None
    dice = coarse_dice(locate_prepared(trained, cases[4]), np.asarray(cases[4].truth))
    assert dice["WT"] > 0.7


def test_a_run_that_was_stopped_goes_on_with_the_same_losses(prepared: Path, tmp_path: Path) -> None:
    cases = read_folder(prepared)

    def losses(folder: Path) -> list[float]:
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        return [row["loss"] for row in rows]

    train_localiser(small_run(), cases, tmp_path / "whole")

    def stop_at_three(_: str, values: dict) -> None:
        if values["step"] == 3:
            (tmp_path / "halves" / "stop").touch()

    assert train_localiser(small_run(), cases, tmp_path / "halves", listener=stop_at_three) is None
    assert train_localiser(small_run(), cases, tmp_path / "halves", resume=True) is not None
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")


def test_commands_train_without_a_fold_and_join_the_result_to_a_checkpoint(
    tiny, prepared: Path, tmp_path: Path
) -> None:
    config = tmp_path / "small.toml"
    config.write_text(
        "[model]\nwidths = [8, 8, 16, 16]\ndepths = [1, 1, 1]\n[run]\nsteps = 2\ncrop = [8, 16, 16]\n", encoding="utf-8"
    )
    folds = ["--prepared", str(prepared), "--folds", str(prepared / "folds.json"), "--fold", "1"]
    run = CliRunner()
    trained = run.invoke(app, ["train", "--config", str(config), "--out", str(tmp_path / "run"), *folds])
    assert trained.exit_code == 0, trained.output
    assert trained.output.count("WT 0.") + trained.output.count("WT 1.") == 1, "the one case that was left out"
    localiser = tmp_path / "run" / "localiser.safetensors"
    outcome = train(tiny(run__epochs=1), tmp_path / "slices")
    files = [str(localiser), "--checkpoint", str(outcome.checkpoint), "--out", str(tmp_path / "both.safetensors")]
    joined = run.invoke(app, ["join", *files, "--vote", "0.4"])
    assert joined.exit_code == 0, joined.output

    model, info = load_checkpoint(tmp_path / "both.safetensors")
    assert model.localiser is not None and model.config.localiser is not None and model.config.localiser.vote == 0.4
    third, told = read_localiser(localiser)
    for mine, given in zip(model.localiser.parameters(), third.parameters(), strict=True):
        torch.testing.assert_close(mine, given, atol=1e-3, rtol=1e-3)
    assert info.name == "both" and info.trained
    assert set(info.notes["cases_seen"]) == digests_in(told) | digests_in(load_checkpoint(outcome.checkpoint)[1].notes)
    assert not any(case.name in json.dumps(info.notes) for case in read_folder(prepared))


@pytest.fixture
def stopped(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run of `sofa localiser train` that left fold 1 out and was stopped after a step."""
    out, folds, config = tmp_path / "run", tmp_path / "folds.json", tmp_path / "small.toml"
    write_folds(read_folds(prepared / "folds.json"), folds)
    config.write_text(
        "[model]\nwidths = [8, 8, 16, 16]\ndepths = [1, 1, 1]\n[run]\nsteps = 3\ncrop = [8, 16, 16]\n", encoding="utf-8"
    )
    with monkeypatch.context() as patch:
        patch.setattr(_Display, "told", lambda *_: (out / "stop").touch())
        where = ["--prepared", str(prepared), "--folds", str(folds), "--fold", "1", "--out", str(out)]
        result = CliRunner().invoke(sofa, ["localiser", "train", "--config", str(config), *where])
    assert result.exit_code == 0 and "go on with --resume" in result.output, result.output
    config.unlink()
    # Somebody else's split by now: the run keeps its own.
    write_folds([Fold((), tuple(case.name for case in read_folder(prepared)))] * 2, folds)
    return out


def test_a_resumed_run_keeps_its_cases_and_says_which_it_has_seen(stopped: Path, prepared: Path) -> None:
    result = CliRunner().invoke(sofa, ["localiser", "train", "--resume", "--out", str(stopped)])
    assert result.exit_code == 0, result.output
    fold = read_folds(prepared / "folds.json")[1]
    assert [name for name in fold.validation if f"{name}: " in result.output] == list(fold.validation)
    assert not any(f"{name}: " in result.output for name in fold.train)
    localiser, told = read_localiser(stopped / "localiser.safetensors")
    assert localiser.config.widths == (8, 8, 16, 16)
    assert digests_in(told) == {digest(name) for name in fold.train}


def test_a_case_that_was_seen_before_the_run_went_on_stays_seen(prepared: Path, tmp_path: Path) -> None:
    first, *others = read_folder(prepared)

    def stop(*_: object) -> None:
        (tmp_path / "stop").touch()

    assert train_localiser(small_run(), [first], tmp_path, listener=stop) is None
    assert train_localiser(small_run(), others, tmp_path, resume=True) is not None
    assert load_state(tmp_path)[0].seen == sorted(digest(case.name) for case in (first, *others))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "holds a run already; resume it, or choose another folder"),
        (["--resume"], "A resumed run keeps its data.prepared; only optimiser.rate, run.steps can be changed"),
    ],
)
def test_a_run_is_neither_overwritten_nor_made_another(
    stopped: Path, prepared: Path, more: list[str], words: str
) -> None:
    before = {path: path.read_bytes() for path in stopped.iterdir() if path.is_file()}
    arguments = ["localiser", "train", "--out", str(stopped), "--prepared", str(prepared), *more]
    result = CliRunner().invoke(sofa, arguments)
    assert result.exit_code == 2 and words in " ".join(result.output.split())
    assert {path: path.read_bytes() for path in stopped.iterdir() if path.is_file()} == before


def test_a_file_of_folds_alone_leaves_its_first_fold_out(prepared: Path, tmp_path: Path) -> None:
    write_folds([Fold(("nobody",), ())], tmp_path / "folds.json")
    where = ["--prepared", str(prepared), "--folds", str(tmp_path / "folds.json"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(sofa, ["localiser", "train", *where])
    assert result.exit_code == 2 and "There are no training cases" in result.output


@pytest.mark.parametrize("kept", ["last.pt", "localiser.safetensors"])
def test_a_run_of_a_version_that_kept_no_configuration_is_not_overwritten(
    prepared: Path, tmp_path: Path, kept: str
) -> None:
    (tmp_path / kept).touch()
    with pytest.raises(InputError, match="holds a run already"):
        train_localiser(small_run(), read_folder(prepared), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [kept]


def test_a_run_that_starts_from_a_joined_checkpoint_keeps_its_localiser(tiny, prepared: Path, tmp_path: Path) -> None:
    third = train_localiser(small_run(2), read_folder(prepared), tmp_path / "run")
    assert third is not None
    write_localiser(third, tmp_path / "l.safetensors", {})
    outcome = train(tiny(run__epochs=1), tmp_path / "slices")
    join(tmp_path / "l.safetensors", outcome.checkpoint, tmp_path / "both.safetensors", name="both", vote=0.5)
    _, info = load_checkpoint(tmp_path / "both.safetensors")
    assert "cases_seen" not in info.notes, "the localiser does not tell what it has seen"

    again = train(tiny(start=str(tmp_path / "both.safetensors"), run__epochs=1), tmp_path / "again")
    model, _ = load_checkpoint(again.checkpoint)
    assert model.localiser is not None
    for mine, given in zip(model.localiser.parameters(), third.parameters(), strict=True):
        torch.testing.assert_close(mine, given, atol=1e-3, rtol=1e-3)


def test_what_is_missing_is_said_before_training_starts(tiny, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="sofa localiser join"):
        train(tiny(model__localiser=SMALL), tmp_path / "run")
    with pytest.raises(WeightsError, match="no localiser at"):
        read_localiser(tmp_path / "l.safetensors")
    (tmp_path / "l.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="damaged or no localiser"):
        read_localiser(tmp_path / "l.safetensors")
    with pytest.raises(InputError, match="one of default"):
        load_localiser_config("defualt")
    with pytest.raises(InputError, match="not a known key"):
        load_localiser_config("default", {"run.setps": 3})
