from __future__ import annotations

import os
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sofa_engine.errors import InputError, OutputError, SofaError
from sofa_training.cases import LABELS_BRATS2023, find_cases
from sofa_training.prepare import prepare_case, prepare_cases
from sofa_training.prepared import read_folder, read_prepared, write_prepared


def test_a_prepared_case_is_cropped_normalised_and_keeps_its_whole_truth(brats_folder: Path, patients):
    case, notes = prepare_case(find_cases(brats_folder)[0])
    assert notes == () and case.present.all()
    assert case.images.dtype == np.uint8 and case.images.shape == (4, *case.extent.shape)
    assert case.images.max() == 255 and case.images.any(axis=0)[case.truth > 0].all()
    truth = np.zeros(case.geometry.shape, np.uint8)
    truth[case.extent.slices] = case.truth
    np.testing.assert_array_equal(truth, patients.labels(0))
    assert case.provenance["sources"]["t1c"].endswith("BraTS2021_00000_t1ce.nii.gz")


def test_what_is_written_is_read_back_mapped_or_not(brats_folder: Path, tmp_path: Path):
    case, _ = prepare_case(find_cases(brats_folder)[1])
    write_prepared(case, tmp_path / f"{case.name}.npz")
    for mapped in (True, False):
        again = read_prepared(tmp_path / f"{case.name}.npz", mapped=mapped)
        np.testing.assert_array_equal(again.images, case.images)
        np.testing.assert_array_equal(again.truth, case.truth)
        assert (again.extent, again.geometry, again.spacing, again.subject) == (
            *(case.extent, case.geometry, case.spacing, case.subject),
        )
    assert not list(tmp_path.rglob("*.part"))


def test_preparing_again_keeps_what_is_there_and_repairs_what_is_damaged(brats_folder: Path, tmp_path: Path):
    cases = find_cases(brats_folder)[:2]
    first = prepare_cases(cases, tmp_path)
    assert [outcome.reused for outcome in first] == [False, False]
    damaged = tmp_path / f"{cases[0].name}.npz"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    second = prepare_cases(cases, tmp_path)
    assert [outcome.reused for outcome in second] == [False, True]
    assert len(read_folder(tmp_path)) == 2


def test_mapped_arrays_follow_a_case_that_was_prepared_anew(brats_folder: Path, tmp_path: Path):
    case, _ = prepare_case(find_cases(brats_folder)[0])
    path = tmp_path / "case.npz"
    write_prepared(case, path)
    before = np.array(read_prepared(path).images)
    write_prepared(replace(case, images=255 - case.images), path)
    np.testing.assert_array_equal(read_prepared(path).images, 255 - before)


def test_a_mask_that_was_corrected_since_makes_a_new_case(patients, tmp_path: Path):
    folder = patients.brats(tmp_path / "data", "a", 1)
    (first,) = prepare_cases(find_cases(tmp_path / "data"), tmp_path / "out")
    corrected = patients.labels(1)
    corrected[corrected == 1] = 4
    truth = patients.save(folder / "a_seg.nii.gz", corrected)
    later = first.path.stat().st_mtime + 5
    os.utime(truth, (later, later))
    (second,) = prepare_cases(find_cases(tmp_path / "data"), tmp_path / "out")
    assert not second.reused
    assert set(np.unique(read_prepared(second.path).truth)) == {0, 2, 4}


def _prepare(cases, out: Path) -> tuple[bool, np.ndarray]:
    (outcome,) = prepare_cases(cases, out)
    return outcome.reused, np.array(read_prepared(outcome.path, mapped=False).truth)


def test_files_labels_or_a_patient_that_are_others_make_a_new_case_whatever_their_time(patients, tmp_path: Path):
    patients.brats(tmp_path / "data", "a", 1)
    cases = find_cases(tmp_path / "data")
    out = tmp_path / "out"
    assert not _prepare(cases, out)[0]
    assert _prepare(find_cases(tmp_path / "data"), out)[0]

    cavity = [replace(case, labels=LABELS_BRATS2023) for case in cases]
    reused, truth = _prepare(cavity, out)
    assert not reused and set(np.unique(truth)) == {0, 1, 2}
    assert _prepare(cavity, out)[0] and not _prepare(cases, out)[0]

    another = patients.brats(tmp_path / "another", "a", 2)
    for path in another.iterdir():
        os.utime(path, (1e9, 1e9))  # older than what is prepared
    reused, truth = _prepare(find_cases(tmp_path / "another"), out)
    assert not reused and not np.array_equal(truth, prepare_case(cases[0])[0].truth)
    assert not _prepare([replace(cases[0], subject="another patient")], out)[0]


def test_a_case_of_an_earlier_version_opens_and_is_prepared_again(patients, tmp_path: Path):
    patients.brats(tmp_path / "data", "a", 1)
    case, _ = prepare_case(find_cases(tmp_path / "data")[0])
    write_prepared(replace(case, origin=""), tmp_path / "out" / "a.npz")
    assert len(read_folder(tmp_path / "out")) == 1
    assert [_prepare(find_cases(tmp_path / "data"), tmp_path / "out")[0] for _ in range(2)] == [False, True]


def test_what_cannot_be_prepared_as_it_is_now_is_not_left_as_it_was(patients, tmp_path: Path):
    folder = patients.brats(tmp_path / "data", "a", 1)
    prepare_cases(find_cases(tmp_path / "data"), tmp_path / "out")
    (folder / "a_flair.nii.gz").write_bytes(b"damaged")
    (outcome,) = prepare_cases(find_cases(tmp_path / "data"), tmp_path / "out")
    assert outcome.path is None and not (tmp_path / "out" / "a.npz").exists()


def test_a_process_that_is_killed_for_lack_of_memory_ends_in_a_sentence(
    brats_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Killed:
        def __init__(self, **_: object) -> None: ...
        def __enter__(self) -> Killed:
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, *_: object) -> Future:
            future: Future = Future()
            future.set_exception(BrokenProcessPool("terminated abruptly"))
            return future

    monkeypatch.setattr("sofa_training.prepare.ProcessPoolExecutor", Killed)
    with pytest.raises(SofaError, match="fewer --workers, and it goes on"):
        prepare_cases(find_cases(brats_folder), tmp_path, workers=2)


def test_two_processes_prepare_the_same_as_one(brats_folder: Path, tmp_path: Path):
    cases = find_cases(brats_folder)[:2]
    prepare_cases(cases, tmp_path / "one")
    prepare_cases(cases, tmp_path / "two", workers=2)
    for one, two in zip(read_folder(tmp_path / "one"), read_folder(tmp_path / "two"), strict=True):
        np.testing.assert_array_equal(one.images, two.images)


def test_one_case_that_fails_does_not_stop_the_others(brats_folder: Path, tmp_path: Path):
    good, bad = find_cases(brats_folder)[:2]
    outcomes = prepare_cases([good, replace(bad, truth=tmp_path / "gone.nii.gz")], tmp_path / "out")
    assert [outcome.path is not None for outcome in outcomes] == [True, False]
    assert "gone.nii.gz is missing" in outcomes[1].notes[0]


def test_a_folder_that_cannot_be_made_is_said(brats_folder: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be created"):
        prepare_cases(find_cases(brats_folder), tmp_path / "file" / "out")


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path):
    with pytest.raises(InputError, match="sofa prepare"):
        read_folder(tmp_path)


def test_a_listed_case_that_is_not_prepared_is_named(prepared: Path):
    with pytest.raises(InputError, match="Nobody"):
        read_folder(prepared, ("BraTS2021_00000", "Nobody"))


def test_a_case_in_another_orientation_is_prepared_as_if_it_were_axial(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "a", 2)
    for path in folder.iterdir():
        sequence = path.name.removeprefix("a_").removesuffix(".nii.gz")
        labels = patients.labels(2)
        array = labels if sequence == "seg" else patients.image(sequence, labels, 2)
        # The same head, stored from the top downwards.
        upside_down = np.diag([-1.0, -1.0, -1.0, 1.0])
        upside_down[2, 3] = array.shape[0] - 1
        patients.save(path, array[::-1], upside_down)
    turned, _ = prepare_case(find_cases(tmp_path)[0])
    np.testing.assert_array_equal(turned.truth[turned.truth > 0], patients.labels(2)[patients.labels(2) > 0])
