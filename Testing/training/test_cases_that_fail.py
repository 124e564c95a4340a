"""An evaluation with cases that cannot be measured: the others count, and nobody is left out in silence."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from sofa_cli.main import app
from sofa_engine.errors import CancelledError
from sofa_engine.model.checkpoint import save_checkpoint
from sofa_engine.model.network import SofaModel
from sofa_training import evaluation
from sofa_training.evaluation import EvaluationOptions, FailedCase, evaluate


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    save_checkpoint(SofaModel(tiny().model), tmp_path / "tiny.safetensors", name="tiny", trained=False)
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def dataset(patients, tmp_path: Path) -> Path:
    for number in range(3):
        patients.brats(tmp_path / "data", f"case{number}", number)
    return tmp_path / "data"


def _spoil(dataset: Path, name: str) -> Path:
    """Take everything out of an image, which no check of the headers sees."""
    path = dataset / name / f"{name}_t2.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.float32), image.affine), path)
    return path


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, " ".join(result.output.split())


def _evaluate(dataset: Path, weights: Path, out: Path, *more: object) -> tuple[int, str]:
    return _run(
        "evaluate", dataset, "--weights", weights, "--out", out, "--device", "cpu", "--no-distances", *more
    )  # fmt: skip


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_bad_case_is_named_everywhere_and_the_others_are_measured(dataset: Path, weights: Path, tmp_path: Path):
    whole = shutil.copytree(dataset, tmp_path / "whole")
    _spoil(dataset, "case1")
    code, words = _evaluate(dataset, weights, tmp_path / "out")
    assert code == 2 and "1 of 3 cases could not be measured and are in no number: case1." in words
    assert "case1 could not be measured: " in words and "Traceback" not in words
    assert {row["case"] for row in _rows(tmp_path / "out/cases.csv")} == {"case0", "case2"}
    summary = _rows(tmp_path / "out/summary.csv")
    assert {(row["failed"], row["dice_n"]) for row in summary} == {("case1", "2")}
    assert [row["case"] for row in _rows(tmp_path / "out/failed.csv")] == ["case1"]
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "1 of 3 cases could not be measured" in page and "case1: " in page

    code, words = _run("pool", tmp_path / "out", "--out", tmp_path / "one")
    assert code == 0 and "In no number, since they could not be measured: case1." in words
    assert _rows(tmp_path / "one/summary.csv")[0]["failed"] == "case1"
    code, words = _evaluate(whole, weights, tmp_path / "rest", "--case", "case1")
    assert code == 0 and not (tmp_path / "rest/failed.csv").exists()
    code, words = _run("pool", tmp_path / "out", tmp_path / "rest", "--out", tmp_path / "both")
    assert code == 0 and "3 cases" in words and "In no number" not in words
    assert _rows(tmp_path / "both/summary.csv")[0]["failed"] == ""


def test_where_every_case_fails_there_is_no_report(dataset: Path, weights: Path, tmp_path: Path):
    _spoil(dataset, "case1")
    code, words = _evaluate(dataset, weights, tmp_path / "out", "--case", "case1")
    assert code == 2 and "None of the cases could be measured (case1)" in words
    assert not (tmp_path / "out/report.html").exists() and not (tmp_path / "out/summary.csv").exists()


LEFT = ("summary.csv", "report.html", "failed.csv", "comparisons.csv", "edits.csv", "reliability.csv")


def _leave_earlier_report(out: Path) -> Path:
    """Write what an earlier evaluation with everything left, and a file of the user's own."""
    out.mkdir()
    for name in ("cases.csv", *LEFT, "notes.txt"):
        (out / name).write_text("of before", encoding="utf-8")
    return out


def test_nothing_of_an_earlier_evaluation_stays_beside_the_new_numbers(dataset: Path, weights: Path, tmp_path: Path):
    out = _leave_earlier_report(tmp_path / "out")
    code, words = _evaluate(dataset, tmp_path / "nowhere.safetensors", out)
    assert code == 2 and all((out / name).exists() for name in LEFT), "nothing was measured, so nothing is lost"
    code, words = _evaluate(dataset, weights, out, "--case", "case0")
    assert code == 0, words
    assert sorted(path.name for path in out.iterdir()) == ["cases.csv", "notes.txt", "report.html", "summary.csv"]
    assert "of before" not in (out / "report.html").read_text(encoding="utf-8")
    code, words = _evaluate(dataset, weights, out, "--case", "case0", "--against", out)
    assert code == 2 and "cannot be compared with itself; give this evaluation another --out" in words
    table = out / "cases.csv"
    before = table.read_bytes()
    code, words = _evaluate(table, weights, out)
    assert code == 2 and "give another --out" in words
    assert table.read_bytes() == before
    assert (out / "report.html").exists()


def test_an_interrupted_evaluation_leaves_its_own_cases_and_no_earlier_report(
    dataset: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, measure = _leave_earlier_report(tmp_path / "out"), evaluation._measure

    def interrupted(files, *more):
        if files.name == "case1":
            raise KeyboardInterrupt
        return measure(files, *more)

    monkeypatch.setattr(evaluation, "_measure", interrupted)
    code, _ = _evaluate(dataset, weights, out)
    assert code == 130 and {row["case"] for row in _rows(out / "cases.csv")} == {"case0"}
    assert sorted(path.name for path in out.iterdir()) == ["cases.csv", "notes.txt"]


def test_two_cases_of_one_name_are_refused(dataset: Path, weights: Path, tmp_path: Path):
    shutil.copytree(dataset / "case1", dataset / "again" / "case1")
    (tmp_path / "cases.csv").write_text(
        "name,truth,t1,t1c,t2,flair\n"
        + "".join(
            f"case1,data/{n}/{n}_seg.nii.gz,data/{n}/{n}_t1.nii.gz,data/{n}/{n}_t1ce.nii.gz,data/{n}/{n}_t2.nii.gz,"
            f"data/{n}/{n}_flair.nii.gz\n"
            for n in ("case0", "case1")
        ),
        encoding="utf-8",
    )
    code, words = _evaluate(tmp_path / "cases.csv", weights, tmp_path / "out")
    assert code == 2 and "has 2 cases named case1, so it is not clear which one is meant" in words


def test_doubts_about_a_case_are_said(dataset: Path, weights: Path, tmp_path: Path):
    path = dataset / "case0" / "case0_t2.nii.gz"
    image = nib.load(path)
    shifted = image.affine.copy()
    shifted[0, 3] += 1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), shifted), path)
    code, words = _evaluate(dataset, weights, tmp_path / "out", "--case", "case0")
    assert code == 0 and "case0: T2 on another grid than the first sequence; will be resampled." in words


def test_a_lack_of_memory_costs_one_case_and_a_cancelled_evaluation_ends(monkeypatch: pytest.MonkeyPatch):
    class Case:
        name = "large"

    class Predictor:
        info = None

    def fail(error: BaseException):
        def measure(*_):
            raise error

        return measure

    monkeypatch.setattr(evaluation, "_measure", fail(MemoryError()))
    told: list[object] = []
    found = evaluate([Case()], Predictor(), EvaluationOptions(), progress=told.append)
    assert found.failed == tuple(told) == (FailedCase("large", "There is not enough memory for it."),)
    monkeypatch.setattr(evaluation, "_measure", fail(CancelledError()))
    with pytest.raises(CancelledError):
        evaluate([Case()], Predictor(), EvaluationOptions())
