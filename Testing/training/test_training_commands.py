from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sofa_cli.main import app
from sofa_training.config import dump_config
from sofa_training.evaluation import CaseResult
from sofa_training.experiment import ROWS
from sofa_training.folds import Fold, make_folds, read_folds, write_folds
from sofa_training.metrics import RegionScore
from sofa_training.prepared import read_folder
from sofa_training.protocols import Protocol
from sofa_training.regions import REGIONS
from sofa_training.seen import cases_trained_on
from sofa_training.summary import write_case_table


@pytest.fixture
def sofa():
    """Run the `sofa` command and return its result."""
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(a) for a in arguments])


def test_prepare_train_and_evaluate_in_a_row(sofa, brats_folder: Path, tiny, tmp_path: Path):
    out = tmp_path / "prepared"
    result = sofa("prepare", brats_folder, "--out", out, "--workers", 1)
    assert result.exit_code == 0 and "Prepared 5 cases" in result.output and (out / "folds.json").is_file()

    (tmp_path / "c.toml").write_text(dump_config(tiny()), encoding="utf-8")
    settings = [f"data.prepared={out}", f"data.folds={out / 'folds.json'}", "data.fold=0", "run.epochs=1"]
    sets = [word for setting in settings for word in ("--set", setting)]
    result = sofa("train", "--config", tmp_path / "c.toml", "--out", tmp_path / "run", *sets)
    assert result.exit_code == 0 and "best.safetensors" in result.output
    with Image.open(tmp_path / "run" / "curves.png") as curves:
        assert len(np.unique(np.asarray(curves.convert("RGB")).reshape(-1, 3), axis=0)) > 20, "lines of several colours"

    result = sofa(
        "evaluate", brats_folder, "--weights", tmp_path / "run/best.safetensors", "--protocol", "auto", "--protocol",
        "oracle", "--folds", out / "folds.json", "--fold", 0, "--out", tmp_path / "evaluation", "--device", "cpu",
        "--no-distances",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with (tmp_path / "evaluation" / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["protocol"] for row in rows} == {"auto", "oracle"} and len({row["case"] for row in rows}) == 1
    assert "Report:" in result.output and (tmp_path / "evaluation" / "report.html").is_file()
    page = (tmp_path / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "was trained on" not in page and "is not known" not in page, "the fold was held out, and the run says so"

    again = sofa(
        "train", "--config", tmp_path / "c.toml", "--out", tmp_path / "again", *sets, "--set", "data.fold=1", "--set",
        f"start={tmp_path / 'run/best.safetensors'}",
    )  # fmt: skip
    assert "The start was trained on 1 of the 1 validation cases" in " ".join(again.output.split())

    held_out = rows[0]["case"]
    trained_on = next(f"BraTS2021_{n:05d}" for n in range(5) if f"BraTS2021_{n:05d}" != held_out)
    result = sofa(
        "evaluate", brats_folder, "--weights", tmp_path / "run/best.safetensors", "--case", held_out, "--case",
        trained_on, "--against", tmp_path / "evaluation", "--out", tmp_path / "all", "--device", "cpu",
        "--no-distances",
    )  # fmt: skip
    words = " ".join(result.output.split())
    assert f"was trained on 1 of these 2 cases, {trained_on} for one" in words and "Wilcoxon" in words


def test_bad_cases_are_listed_and_stop_everything_unless_left_out(sofa, patients, tmp_path: Path):
    for number in range(3):
        patients.brats(tmp_path / "data", f"case{number}", number)
    (tmp_path / "data/case1/case1_seg.nii.gz").unlink()
    result = sofa("prepare", tmp_path / "data", "--out", tmp_path / "out", "--workers", 1)
    assert result.exit_code == 2 and "There is no truth." in result.output and not (tmp_path / "out").exists()
    result = sofa("prepare", tmp_path / "data", "--out", tmp_path / "out", "--workers", 1, "--skip-bad")
    assert result.exit_code == 0 and "Prepared 2 cases" in result.output


def test_preparing_a_dataset_that_has_grown_keeps_every_case_on_its_side(sofa, patients, tmp_path: Path):
    for number in range(3):
        patients.brats(tmp_path / "data", f"case{number}", number)
    arguments = ("prepare", tmp_path / "data", "--out", tmp_path / "out", "--workers", 1, "--folds", 2)
    assert "Wrote 2 folds" in " ".join(sofa(*arguments).output.split())
    before = read_folds(tmp_path / "out/folds.json")
    assert "Kept the 2 folds" in " ".join(sofa(*arguments).output.split())
    patients.brats(tmp_path / "data", "case3", 3)
    assert "new cases in them: 1, gone: 0" in " ".join(sofa(*arguments).output.split())
    after = read_folds(tmp_path / "out/folds.json")
    assert all(set(old.validation) <= set(new.validation) for old, new in zip(before, after, strict=True))
    assert sorted(len(fold.validation) for fold in after) == [2, 2]


def test_too_few_patients_for_folds_are_said(sofa, patients, tmp_path: Path):
    patients.brats(tmp_path / "data", "case0", 0)
    result = sofa("prepare", tmp_path / "data", "--out", tmp_path / "out", "--workers", 1)
    assert result.exit_code == 0 and "5 need at least 5 patients, and there are 1" in " ".join(result.output.split())


def test_checking_alone_writes_nothing(sofa, brats_folder: Path, tmp_path: Path):
    result = sofa("prepare", brats_folder, "--out", tmp_path / "out", "--check-only")
    assert result.exit_code == 0 and "5 cases can be used" in result.output and not (tmp_path / "out").exists()


def test_a_configuration_can_be_shown_and_a_typo_in_it_ends_with_a_sentence(sofa, tmp_path: Path):
    shown = sofa("train", "--config", "paper", "--show", "--set", "run.epochs=7")
    assert shown.exit_code == 0 and "epochs = 7" in shown.output and "rate = 3e-05" in shown.output
    wrong = sofa("train", "--config", "paper", "--set", "run.epoch=7")
    assert wrong.exit_code == 2 and "run.epoch is not a known key" in wrong.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "automatic"], "auto, box3d, oracle"),
        (["--case", "nobody"], "has no case nobody"),
        (["--folds", "nowhere.json"], "is not a list of folds"),
        (["--fold", "1"], "--fold 1 needs --folds, the file of the folds"),
        (["--against", "nowhere"], "is not the table of an evaluation"),
        (["--out", "/dev/null/here"], "cannot be created"),
    ],
)
def test_an_evaluation_that_cannot_be_done_ends_with_a_sentence(sofa, brats_folder: Path, arguments, words: str):
    result = sofa("evaluate", brats_folder, *arguments)
    assert result.exit_code == 2 and words in " ".join(result.output.split())


def test_a_file_of_folds_alone_means_its_first_fold(sofa, brats_folder: Path, tmp_path: Path):
    write_folds([Fold((), ("nobody",)), Fold((), ("BraTS2021_00000",))], tmp_path / "folds.json")
    result = sofa("evaluate", brats_folder, "--folds", tmp_path / "folds.json")
    assert result.exit_code == 2 and "has no case nobody" in " ".join(result.output.split())


def test_a_row_of_the_experiment_runs_alone_resumes_and_prints_its_tables(sofa, tmp_path: Path):
    rows = ["--row", "full", "--row", "tta"]
    arguments = ["experiment", "paper", "--smoke", *rows, "--out", tmp_path, "--device", "cpu"]
    settings = ["--set", "run.epochs=1", "--set", "run.validate_every=1"]
    first = sofa(*arguments, *settings)
    assert first.exit_code == 0, first.output
    checkpoint = tmp_path / "full/fold0/run/last.safetensors"
    written = checkpoint.stat().st_mtime_ns
    assert not (tmp_path / "tta/fold0/run").exists(), "test-time augmentation uses the full row's weights"
    with (tmp_path / "tables.csv").open() as file:
        table = list(csv.DictReader(file))
    full = [row for row in table if row["row"] == "full" and row["table"] == "3" and row["protocol"] == "oracle"]
    assert [row["paper_mean"] for row in full] == ["0.71", "0.84", "0.9", "0.9"]
    assert all(0 <= float(row["mean"]) <= 1 and row["cases"] == "2" for row in full)
    assert sofa(*arguments, *settings).exit_code == 0 and checkpoint.stat().st_mtime_ns == written
    other = sofa(*arguments, *settings[:2])
    assert other.exit_code == 2
    assert "was trained with run.validate_every = 1, and now 8 is asked for" in " ".join(other.output.split())


@pytest.mark.slow
def test_the_smoke_experiment_runs_every_row_and_fills_every_table(sofa, tmp_path: Path):
    settings = ["--set", "run.epochs=1", "--set", "run.validate_every=1"]
    result = sofa("experiment", "paper", "--smoke", "--out", tmp_path, "--device", "cpu", *settings)
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    for number in (1, 2, 3, 4):
        for protocol in ("oracle", "auto"):
            assert any(f"Table {number}:" in line for line in result.output.splitlines())
            assert f"ours under protocol {protocol}" in words
    assert "image-free control: ellipse in the same box of every slice" in words
    with (tmp_path / "tables.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {row["row"] for row in table} == set(ROWS) and {row["protocol"] for row in table} == {"oracle", "auto"}
    assert all(row["cases"] == "2" for row in table), "every row was measured in every column of its tables"


def test_an_unknown_row_or_experiment_is_said(sofa, tmp_path: Path):
    assert "choose among t1, t1c" in " ".join(sofa("experiment", "paper", "--row", "t3").output.split())
    assert sofa("experiment", "other").exit_code == 2


def test_a_checkpoint_remembers_what_its_start_has_seen_but_names_nobody(sofa, tiny, prepared: Path, tmp_path: Path):
    names = [case.name for case in read_folder(prepared)]
    write_folds(make_folds([(name, name) for name in names], 2), tmp_path / "folds.json")
    for run, (fold, start) in {"one": (0, None), "two": (1, tmp_path / "one/last.safetensors")}.items():
        values = {"run__epochs": 1, "data__folds": str(tmp_path / "folds.json"), "data__fold": fold}
        config = tiny(**values, **({} if start is None else {"start": str(start)}))
        (tmp_path / f"{run}.toml").write_text(dump_config(config), encoding="utf-8")
        result = sofa("train", "--config", tmp_path / f"{run}.toml", "--out", tmp_path / run)
        assert result.exit_code == 0, result.output
    first = cases_trained_on(tmp_path / "one/last.safetensors", names)
    assert first is not None and 0 < len(first) < len(names)
    assert cases_trained_on(tmp_path / "two/last.safetensors", names) == frozenset(names)
    assert not any(name.encode() in (tmp_path / "two/last.safetensors").read_bytes() for name in names)


def test_evaluations_of_different_cases_are_summarised_as_one(sofa, tmp_path: Path):
    controls = tuple(RegionScore(region, 0.5, 0.4, float("nan"), 10.0, 12.0) for region in REGIONS)
    for number, dice in enumerate((0.6, 0.8)):
        scores = tuple(replace(control, dice=dice) for control in controls)
        (tmp_path / str(number)).mkdir()
        results = [CaseResult(f"case{number}", Protocol.AUTO, scores, controls)]
        write_case_table(results, tmp_path / str(number) / "cases.csv")
    result = sofa("pool", tmp_path / "0", tmp_path / "1", "--out", tmp_path / "pooled")
    assert result.exit_code == 0 and "2 cases" in result.output, result.output
    with (tmp_path / "pooled/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["region"] for row in rows} == set(REGIONS)
    assert all(float(row["dice_mean"]) == pytest.approx(0.7) and row["dice_n"] == "2" for row in rows)
    result = sofa("pool", tmp_path / "0", tmp_path / "0", "--out", tmp_path / "twice")
    assert result.exit_code != 0 and "case0 was measured more than once under auto" in " ".join(result.output.split())
    assert not (tmp_path / "twice").exists()
