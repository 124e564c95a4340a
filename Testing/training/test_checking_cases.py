from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from sofa_training.cases import find_cases
from sofa_training.checks import Severity, check_cases
from sofa_training.reading import read_truth


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


@pytest.mark.parametrize(
    ("given", "more", "said"),
    [
        ("t1ce.nii.gz", "a_t1c.nii.gz", "a_t1c.nii.gz and a_t1ce.nii.gz are given as T1c; remove all but one."),
        ("t2.nii.gz", "a-t2.nii.gz", "a-t2.nii.gz and a_t2.nii.gz are given as T2; remove all but one."),
        ("seg.nii.gz", "a-seg.nii.gz", "a-seg.nii.gz and a_seg.nii.gz are given as truth; remove all but one."),
    ],
)
def test_two_files_for_one_sequence_are_named(patients, tmp_path: Path, given: str, more: str, said: str):
    folder = patients.brats(tmp_path, "a", 1)
    shutil.copyfile(folder / f"a_{given}", folder / more)
    assert _problems(tmp_path) == {"a": [f"error: {said}"]}


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


def test_one_scan_with_two_truths_is_noticed_however_its_files_are_written(patients, tmp_path: Path):
    patients.brats(tmp_path, "P01", 1)
    corrected = patients.labels(1)
    corrected[corrected == 1] = 4
    again = patients.brats(tmp_path, "P01_case2", 1)
    patients.save(again / "P01_case2_seg.nii.gz", corrected)
    for path in again.glob("*_t*.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj).astype(np.float64), image.affine), path)
    said = "error: It has the same images as P01, voxel by voxel: the same scan twice. Remove the one whose truth"
    (sentence,) = _problems(tmp_path)["P01_case2"]
    assert sentence.startswith(said) and "P01" not in _problems(tmp_path)
    for path in again.glob("*_t1ce.nii.gz"):
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", ".nrrd"))
        path.unlink()
    assert _problems(tmp_path)["P01_case2"][0].startswith(said)


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


def _table(path: Path, lines: dict[str, dict[str, str]]) -> Path:
    columns = ("t1", "t1c", "t2", "flair", "truth", "labels")
    rows = [",".join(("name", *columns))]
    rows += [",".join((name, *(files.get(column, "") for column in columns))) for name, files in lines.items()]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def _files(name: str) -> dict[str, str]:
    suffixes = {"t1": "t1", "t1c": "t1ce", "t2": "t2", "flair": "flair", "truth": "seg"}
    return {column: f"{name}/{name}_{suffix}.nii.gz" for column, suffix in suffixes.items()}


def test_a_table_that_gives_one_file_twice_or_to_two_patients_is_noticed(patients, tmp_path: Path):
    for number, name in enumerate("ab"):
        patients.brats(tmp_path, name, number)
    first, second = _files("a"), _files("b")
    twice = {**first, "t2": first["flair"]}
    assert _problems(_table(tmp_path / "t.csv", {"a": twice})) == {
        "a": ["error: a_flair.nii.gz is given as T2 and as FLAIR."]
    }
    mixed = {"a": first, "b": {**second, "t1": first["t1"]}}
    assert _problems(_table(tmp_path / "t.csv", mixed)) == {
        "a": ["error: a_t1.nii.gz belongs to b too: two patients are mixed up."],
        "b": ["error: a_t1.nii.gz belongs to a too: two patients are mixed up."],
    }


def test_a_4d_file_where_one_sequence_is_expected_is_said(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "a", 1)
    volume = nib.load(folder / "a_t1.nii.gz")
    stacked = np.stack([np.asarray(volume.dataobj)] * 3, axis=-1)
    nib.save(nib.Nifti1Image(stacked, volume.affine), folder / "a_t1.nii.gz")
    (sentence,) = _problems(tmp_path)["a"]
    assert "a_t1.nii.gz holds 3 volumes; one sequence per file is expected" in sentence


def test_labels_of_the_other_scheme_are_recognised_and_the_way_out_is_said(patients, tmp_path: Path):
    folder = patients.brats(tmp_path / "old", "a", 1)
    labels = patients.labels(1)
    patients.save(folder / "a_seg.nii.gz", np.where(labels == 4, 3, labels).astype(np.uint8))
    assert "list the cases in a CSV whose column labels says" in _problems(tmp_path / "old")["a"][0]
    table = _table(folder.parent / "t.csv", {"a": {**_files("a"), "labels": "2023"}})
    assert _problems(table) == {}

    names = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}
    patients.brats(tmp_path / "new", "BraTS-GLI-00001-000", 1, names)  # with 4, and no 3
    (sentence,) = _problems(tmp_path / "new")["BraTS-GLI-00001-000"]
    assert sentence.startswith("error: Label 4 is read as a resection cavity")
    assert 'list the cases in a CSV whose column labels says "2020"' in sentence
    files = {column: name.replace("_", "-") for column, name in _files("BraTS-GLI-00001-000").items()}
    for old, new in names.items():
        files = {column: name.replace(f"-{old}.", f"-{new}.") for column, name in files.items()}
    meant = {"BraTS-GLI-00001-000": {**files, "labels": "2023"}}
    (sentence,) = _problems(_table(tmp_path / "new" / "t.csv", meant))["BraTS-GLI-00001-000"]
    assert sentence.startswith("warning: Label 4")
    assert _problems(_table(tmp_path / "new" / "t.csv", {"a": {**files, "labels": "2020"}})) == {}


def test_a_cavity_without_enhancing_tumour_is_usual_in_the_cases_after_surgery_of_brats_2024(patients, tmp_path: Path):
    patients.brats(tmp_path, "BraTS-GLI-02405-101", 1, {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"})
    (sentence,) = _problems(tmp_path)["BraTS-GLI-02405-101"]
    assert sentence.startswith("warning: Label 4")


def test_one_name_of_bids_among_the_files_leaves_the_labels_what_they_are(patients, tmp_path: Path):
    patients.brats(tmp_path, "P01", 1, {"t1": "T1w", "t1ce": "T1ce", "t2": "T2w", "flair": "FLAIR"})
    assert _problems(tmp_path) == {}
    (case,) = find_cases(tmp_path)
    np.testing.assert_array_equal(read_truth(case).labels, patients.labels(1))


def test_two_scans_of_one_patient_are_no_mix_up(patients, tmp_path: Path):
    for scan in (1, 2):
        patients.brats(tmp_path, f"Brats18_TCIA08_242_{scan}", scan)
    assert _problems(tmp_path) == {}
