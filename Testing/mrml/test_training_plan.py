"""Who trains and who validates in round after round of training, correcting and adding cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sofa_engine.errors import SofaError
from sofa_training.cases import LABELS_BRATS2023, find_cases
from sofa_training.folds import read_folds
from SOFATrainingLib.cases import CaseRow
from SOFATrainingLib.plan import forget, outdated, preparedRows, splitCases
from training_tools import prepareDataset, writeDataset


def rowsOf(*patients: str) -> list[CaseRow]:
    return [CaseRow(name, name.partition("_")[0]) for name in patients]


def test_no_round_validates_on_a_case_that_an_earlier_one_has_trained_on(tmp_path: Path):
    seen: set[str] = set()
    for count in range(1, 30):
        rows = rowsOf(*(f"P{number:02d}" for number in range(count)))
        fold = splitCases(rows, tmp_path)
        seen |= set(fold.train)
        assert not seen & set(fold.validation), f"round with {count} cases"
        assert sorted(fold.train + fold.validation) == [row.case for row in rows]
        assert len(fold.validation) == (0 if count == 1 else pytest.approx(count / 5, abs=1))
        assert read_folds(tmp_path / "folds.json")[0].validation == fold.validation


def test_a_case_that_cannot_be_used_in_one_round_is_on_its_side_in_the_next(tmp_path: Path):
    rows = rowsOf(*(f"P{number:02d}" for number in range(11)))
    first = splitCases(rows, tmp_path)
    for absent in rows:
        splitCases([row for row in rows if row is not absent], tmp_path)
        assert splitCases(rows, tmp_path) == first


def test_a_later_scan_of_a_patient_is_on_the_side_of_the_first(tmp_path: Path):
    fold = splitCases(rowsOf("P01", "P02", "P03"), tmp_path)
    later = splitCases(rowsOf("P01", "P01_ses-2", "P02", "P02_ses-2", "P03", "P03_ses-2"), tmp_path)
    assert later.validation == (*fold.validation, f"{fold.validation[0]}_ses-2")


def test_a_split_that_cannot_be_used_is_said_with_the_way_out(tmp_path: Path):
    fold = splitCases(rowsOf("P01", "P02", "P03"), tmp_path)
    with pytest.raises(SofaError, match=r"kept for validation. Add cases, or delete .*folds.json"):
        splitCases(rowsOf(*fold.validation), tmp_path)
    with pytest.raises(SofaError, match=r"^P has cases for training and cases for validation in .*folds.json"):
        splitCases([CaseRow(name, "P") for name in ("P01", "P02", "P03")], tmp_path)


def test_a_case_that_was_prepared_from_something_else_is_prepared_again(tmp_path: Path):
    prepared = prepareDataset(writeDataset(tmp_path / "cases"), tmp_path / "prepared")
    cases = find_cases(tmp_path / "cases")
    rows = [CaseRow(case.name, case.subject, origin=case.origin) for case in cases]
    assert outdated(rows, prepared) == []
    others = replace(cases[1], labels=LABELS_BRATS2023)
    rows[1] = CaseRow(others.name, others.subject, origin=others.origin)
    assert outdated(rows, prepared) == [prepared / "Patient_1.npz"]
    (prepared / "Patient_0.npz").write_bytes(b"damaged")
    forget(outdated(rows, prepared))
    assert preparedRows(rows, prepared) == ()
