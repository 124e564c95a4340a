from __future__ import annotations

from pathlib import Path

import pytest

from sofa_engine.errors import InputError
from sofa_training.folds import divided_subjects, extend_folds, make_folds, read_folds, write_folds


def test_brats_2020s_369_subjects_give_the_papers_296_and_73_as_fold_0():
    folds = make_folds([(f"BraTS20_Training_{i:03d}", f"BraTS20_Training_{i:03d}") for i in range(1, 370)])
    assert [(len(f.train), len(f.validation)) for f in folds] == [(296, 73)] + [(295, 74)] * 4
    assert sorted(case for f in folds for case in f.validation) == sorted(folds[0].train + folds[0].validation)


def test_scans_of_one_subject_are_never_on_both_sides():
    subjects = [(f"{subject}-{scan}", subject) for subject in "abcdefg" for scan in range(3)]
    for fold in make_folds(subjects, 3):
        assert not {case[0] for case in fold.train} & {case[0] for case in fold.validation}


def test_the_same_seed_gives_the_same_folds_whatever_the_order_of_the_cases():
    subjects = [(str(i), str(i)) for i in range(20)]
    assert make_folds(subjects, seed=3) == make_folds(subjects[::-1], seed=3) != make_folds(subjects, seed=4)


def test_folds_survive_their_file(tmp_path: Path):
    folds = make_folds([(str(i), str(i)) for i in range(12)])
    write_folds(folds, tmp_path / "folds.json")
    assert read_folds(tmp_path / "folds.json") == folds


@pytest.mark.parametrize("text", ["", "{}", '{"validation": [["a"], ["a", "b"]]}'])
def test_a_file_that_is_no_list_of_folds_is_refused(tmp_path: Path, text: str):
    (tmp_path / "folds.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        read_folds(tmp_path / "folds.json")


def test_too_few_subjects_are_said():
    with pytest.raises(InputError, match="5 folds need at least 5 subjects, and there are 2"):
        make_folds([("a", "a"), ("b", "b")])


def test_cases_that_are_added_later_never_move_an_old_case_to_the_other_side():
    before = make_folds([(f"case{i}", f"case{i}") for i in range(11)])
    grown = [(f"case{i}", f"case{i}") for i in range(1, 14)] + [("case2-later", "case2")]
    after = extend_folds(before, grown)
    for old, new in zip(before, after, strict=True):
        assert set(old.validation) - {"case0"} <= set(new.validation)
        assert {"case2", "case2-later"} <= set(new.validation) or not {"case2", "case2-later"} & set(new.validation)
        assert sorted(new.train + new.validation) == sorted(case for case, _ in grown)
    assert sorted(len(f.validation) for f in after) in ([2, 3, 3, 3, 3], [2, 2, 3, 3, 4])
    assert extend_folds(after, grown) == after


def test_a_case_that_was_absent_for_a_while_comes_back_to_its_side(tmp_path: Path):
    everyone = [(f"case{i}", f"case{i}") for i in range(11)]
    before = make_folds(everyone)
    gone = before[0].validation[0]
    folds = extend_folds(before, [pair for pair in everyone if pair[0] != gone])
    assert not any(gone in fold.train + fold.validation for fold in folds)
    write_folds(folds, tmp_path / "folds.json")
    assert extend_folds(read_folds(tmp_path / "folds.json"), everyone) == before


def test_a_new_scan_of_a_patient_whose_only_case_is_absent_goes_where_that_case_was():
    everyone = [(f"case{i}", f"patient{i}") for i in range(11)]
    before = make_folds(everyone)
    for number, fold in enumerate(before):
        case, subject = fold.members[0]
        grown = [pair for pair in everyone if pair[0] != case] + [("later", subject)]
        after = extend_folds(extend_folds(before, [pair for pair in everyone if pair[0] != case]), grown)
        assert "later" in after[number].validation
        assert divided_subjects(extend_folds(after, [*grown, (case, subject)])) == ()


def test_folds_of_an_earlier_version_are_read_and_tell_whom_they_divide(tmp_path: Path):
    path = tmp_path / "folds.json"
    path.write_text('{"validation": [["a", "b"], ["c"]]}', encoding="utf-8")
    folds = extend_folds(read_folds(path), [("a", "A"), ("b", "B"), ("c", "A")])
    assert [fold.validation for fold in folds] == [("a", "b"), ("c",)]
    assert divided_subjects(folds) == ("A",)


def test_who_is_alone_in_a_dataset_trains_and_the_next_one_validates():
    folds = extend_folds(make_folds([(f"P{n}", f"P{n}") for n in range(5)]), [("Q1", "Q1")])
    assert "Q1" not in folds[0].validation
    assert "Q2" in extend_folds(folds, [("Q1", "Q1"), ("Q2", "Q2")])[0].validation
