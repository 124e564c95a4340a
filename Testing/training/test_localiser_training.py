"""Training a localiser: what it is shown, that it learns, goes on after a kill, and is built into a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sofa_cli.localiser import app
from sofa_engine.errors import InputError, WeightsError
from sofa_engine.model.checkpoint import load_checkpoint
from sofa_training.config import AugmentationConfig
from sofa_training.localiser import (
    LocaliserTraining,
    coarse_dice,
    load_localiser_config,
    segmentation_loss,
    train_localiser,
)
from sofa_training.located import locate_prepared, read_localiser, read_located, write_localiser, write_located
from sofa_training.prepared import read_folder
from sofa_training.trainer import train
from sofa_training.volumes import CoarseCase, VolumeSampler

STILL = AugmentationConfig(rotation=0, scale=(1, 1), gamma=(1, 1), gain=0, offset=0)
SMALL = {"widths": [8, 8, 16, 16], "depths": [1, 1, 1]}
WITH_LOCALISER = {"model__detail": 3, "model__box_prior": True, "model__localiser": SMALL}


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
    for row, label in ((9, 1), (10, 2), (11, 4)):
        share = float(coarse.cells[row].float().mean())
        assert share == pytest.approx(float(np.mean(truth == label)), rel=0.2)
    torch.testing.assert_close(
        coarse.cells[8:].float().sum(dim=0), torch.ones(coarse.cells.shape[1:]), atol=2e-3, rtol=0
    )


def test_an_unmoved_crop_shows_the_cells_as_they_are(prepared: Path) -> None:
    coarse = CoarseCase.of(read_folder(prepared)[0], 2.0)
    sampler = VolumeSampler([coarse], (6, 16, 16), STILL, off_tumour=0.0, untouched=1.0, seed=3)
    image, shares = sampler.batch(0, 1)
    drawn = torch.cat([image[0], shares[0]])
    whole = torch.nn.functional.pad(coarse.cells.float(), (16, 16, 16, 16, 6, 6))
    windows = whole[:8].unfold(1, 6, 1).unfold(2, 16, 1).unfold(3, 16, 1)
    distance = (windows - drawn[:8, None, None, None]).abs().amax(dim=(0, 4, 5, 6))
    assert float(distance.min()) < 2e-3, "some window of the cells is this crop"


def test_a_sample_depends_on_seed_and_step_alone(prepared: Path) -> None:
    cases = [CoarseCase.of(case, 2.0) for case in read_folder(prepared)]
    config = AugmentationConfig(mirror=0.5, elastic=2.0, noise=0.1)

    def batch(step: int, seed: int = 0) -> torch.Tensor:
        sampler = VolumeSampler(cases, (8, 16, 16), config, off_tumour=0.3, untouched=0.2, seed=seed)
        return sampler.batch(step, 2)[0]

    assert torch.equal(batch(4), batch(4))
    assert not torch.equal(batch(4), batch(5)) and not torch.equal(batch(4), batch(4, seed=1))


def test_shares_stay_shares_whatever_the_change(prepared: Path) -> None:
    cases = [CoarseCase.of(case, 2.0) for case in read_folder(prepared)]
    config = AugmentationConfig(rotation=20, scale=(0.8, 1.2), mirror=0.5, elastic=3.0, elastic_probability=1.0)
    sampler = VolumeSampler(cases, (8, 24, 24), config, off_tumour=0.5, untouched=0.0, seed=0)
    for step in range(4):
        _, shares = sampler.batch(step, 2)
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(2, 8, 24, 24), atol=2e-3, rtol=0)
        assert shares.min() >= 0


def test_the_loss_prefers_the_truth_and_ignores_overlap_of_what_is_absent() -> None:
    shares = torch.zeros(1, 4, 4, 8, 8)
    shares[:, 0] = 1
    shares[:, 0, :, :4, :4], shares[:, 2, :, :4, :4] = 0, 1
    right = (shares - 0.5) * 20
    wrong = right[:, [2, 1, 0, 3]]
    assert segmentation_loss(right, shares) < 0.05 < segmentation_loss(wrong, shares)
    nothing = torch.zeros(1, 4, 4, 8, 8)
    nothing[:, 0] = 1
    assert segmentation_loss((nothing - 0.5) * 20, nothing) < 0.05


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


def test_commands_train_without_a_fold_and_answer_that_fold(prepared: Path, tmp_path: Path) -> None:
    config = tmp_path / "small.toml"
    config.write_text(
        "[model]\nwidths = [8, 8, 16, 16]\ndepths = [1, 1, 1]\n[run]\nsteps = 2\ncrop = [8, 16, 16]\n", encoding="utf-8"
    )
    folds = ["--prepared", str(prepared), "--folds", str(prepared / "folds.json"), "--fold", "1"]
    run = CliRunner()
    trained = run.invoke(app, ["train", "--config", str(config), "--out", str(tmp_path / "run"), *folds])
    assert trained.exit_code == 0, trained.output
    assert trained.output.count("WT 0.") + trained.output.count("WT 1.") == 1, "the one case that was left out"
    file = str(tmp_path / "run" / "localiser.safetensors")
    answered = run.invoke(app, ["apply", file, "--out", str(tmp_path / "located"), *folds])
    assert answered.exit_code == 0, answered.output
    (answer,) = (tmp_path / "located").glob("*.npy")
    assert read_located(tmp_path / "located", answer.stem).shape[0] == 3


def test_a_network_is_trained_on_answers_and_ships_with_its_localiser(tiny, prepared: Path, tmp_path: Path) -> None:
    trained = train_localiser(small_run(2), read_folder(prepared), tmp_path / "run")
    assert trained is not None
    write_localiser(trained, tmp_path / "l.safetensors", {})
    for case in read_folder(prepared):
        write_located(tmp_path / "located", case.name, locate_prepared(trained, case))
    places = {"data__localiser": str(tmp_path / "l.safetensors"), "data__located": str(tmp_path / "located")}
    outcome = train(tiny(**WITH_LOCALISER, **places, run__epochs=1), tmp_path / "first")
    model, _ = load_checkpoint(outcome.checkpoint)
    assert model.localiser is not None
    for mine, given in zip(model.localiser.parameters(), trained.parameters(), strict=True):
        torch.testing.assert_close(mine, given)

    # Fine-tuned elsewhere, its own localiser is asked about the new cases.
    start = {"start": str(outcome.checkpoint)}
    train(tiny(**WITH_LOCALISER, **start, run__epochs=1), tmp_path / "second")
    assert len(list((tmp_path / "second" / "located").glob("*.npy"))) == 5


def test_what_is_missing_is_said_before_training_starts(tiny, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="sofa localiser train"):
        train(tiny(**WITH_LOCALISER), tmp_path / "run")
    with pytest.raises(InputError, match="sofa localiser apply"):
        read_located(tmp_path, "Patient_1")
    (tmp_path / "Patient_1.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="damaged"):
        read_located(tmp_path, "Patient_1")
    with pytest.raises(WeightsError, match="no localiser at"):
        read_localiser(tmp_path / "l.safetensors")
    with pytest.raises(InputError, match="one of located"):
        load_localiser_config("lcoated")
    with pytest.raises(InputError, match="not a known key"):
        load_localiser_config("located", {"run.setps": 3})
