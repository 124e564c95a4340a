from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sofa_training.cases import find_cases
from sofa_training.checks import Severity, check_cases


def _problems(root: Path) -> dict[str, list[str]]:
    problems: dict[str, list[str]] = {}
    for problem in check_cases(find_cases(root)):
        problems.setdefault(problem.case, []).append(f"{problem.severity.value}: {problem.sentence}")
    return problems


def test_good_cases_have_no_problem(brats_folder: Path):
    assert check_cases(find_cases(brats_folder)) == ()


def test_a_case_without_truth_is_said(patients, tmp_path: Path):
    patients.brats(tmp_path, "a", 1, truth=False)
    assert _problems(tmp_path) == {"a": ["error: There is no truth."]}


def test_a_missing_sequence_is_named(patients, tmp_path: Path):
    (patients.brats(tmp_path, "a", 1) / "a_t2.nii.gz").unlink()
    assert _problems(tmp_path) == {"a": ["error: T2 missing."]}


def test_a_truth_on_another_grid_is_said_with_both_shapes(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "a", 1)
    patients.save(folder / "a_seg.nii.gz", patients.labels(1)[:, ::2])
    (sentence,) = _problems(tmp_path)["a"]
    assert "another grid (14x28x48)" in sentence and "(14x56x48)" in sentence


def test_a_shifted_truth_of_the_same_shape_is_on_another_grid_too(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "a", 1)
    shifted = np.diag([-1.0, -1.0, 1.0, 1.0])
    shifted[0, 3] = 4
    patients.save(folder / "a_seg.nii.gz", patients.labels(1), shifted)
    assert "another grid" in _problems(tmp_path)["a"][0]


def test_unknown_label_values_are_listed(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "a", 1)
    labels = patients.labels(1)
    labels[labels == 4] = 7
    patients.save(folder / "a_seg.nii.gz", labels)
    assert "values 7; this dataset's labels are 0, 1, 2, 4" in _problems(tmp_path)["a"][0]


def test_an_empty_truth_is_said(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "a", 1)
    patients.save(folder / "a_seg.nii.gz", np.zeros((14, 56, 48), np.uint8))
    assert _problems(tmp_path) == {"a": ["error: The truth is empty."]}


def test_a_damaged_truth_is_said(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "a", 1)
    whole = (folder / "a_seg.nii.gz").read_bytes()
    (folder / "a_seg.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in _problems(tmp_path)["a"][0]


def test_the_same_case_under_two_names_is_noticed(patients, tmp_path: Path):
    patients.brats(tmp_path, "a", 1)
    patients.brats(tmp_path, "b", 1)
    assert _problems(tmp_path) == {"b": ["error: It has the same truth as a, voxel by voxel: the same case twice."]}


def test_one_name_for_two_cases_is_noticed(patients, tmp_path: Path):
    patients.brats(tmp_path / "x", "a", 1)
    patients.brats(tmp_path / "y", "a", 2)
    assert _problems(tmp_path)["a"] == ["error: 2 cases have this name; names must be unique."] * 2


def test_a_sequence_on_another_grid_is_a_warning_since_it_is_resampled(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "a", 1)
    patients.save(folder / "a_t2.nii.gz", patients.image("t2", patients.labels(1), 1)[::2], np.diag([-1.0, -1, 2, 1]))
    (problem,) = check_cases(find_cases(tmp_path))
    assert problem.severity is Severity.WARNING and "T2" in problem.sentence


@pytest.mark.parametrize("sequence", ["t1", "flair"])
def test_a_missing_file_of_a_table_is_named(patients, tmp_path: Path, sequence: str):
    patients.brats(tmp_path, "a", 1)
    files = {s: f"a/a_{n}.nii.gz" for s, n in {"t1": "t1", "t1c": "t1ce", "t2": "t2", "flair": "flair"}.items()}
    files[sequence] = "nowhere.nii.gz"
    (tmp_path / "t.csv").write_text(
        f"name,truth,{','.join(files)}\na,a/a_seg.nii.gz,{','.join(files.values())}\n", encoding="utf-8"
    )
    (problem, *_) = check_cases(find_cases(tmp_path / "t.csv"))
    assert "nowhere.nii.gz does not exist" in problem.sentence
