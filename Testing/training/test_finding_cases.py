from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sofa_engine.errors import InputError
from sofa_engine.types import MODALITIES, Modality
from sofa_training.cases import LABELS_BRATS2023, find_cases
from sofa_training.reading import open_training_case, read_sequence, read_truth
from sofa_training.subjects import subject_of


def test_brats_2021_folders_are_found_with_all_sequences_and_truth(brats_folder: Path):
    cases = find_cases(brats_folder)
    assert [case.name for case in cases] == [f"BraTS2021_{i:05d}" for i in range(5)]
    assert all(tuple(case.images) == MODALITIES and case.truth is not None for case in cases)
    assert cases[0].images[Modality.T1C].path.name == "BraTS2021_00000_t1ce.nii.gz"


def test_brats_2018_cases_lie_a_folder_deeper_and_keep_scans_of_one_subject_together(patients, tmp_path: Path):
    patients.brats(tmp_path / "HGG", "Brats18_TCIA08_242_1", 1)
    patients.brats(tmp_path / "HGG", "Brats18_TCIA08_242_2", 2)
    patients.brats(tmp_path / "LGG", "Brats18_2013_0_1", 3)
    cases = find_cases(tmp_path)
    assert [case.subject for case in cases] == ["Brats18_2013_0", "Brats18_TCIA08_242", "Brats18_TCIA08_242"]


def test_the_one_misnamed_truth_of_brats_2020_belongs_to_its_folder(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "BraTS20_Training_355", 1, truth=False)
    patients.save(folder / "W39_1998.09.19_Segm.nii", patients.labels(1))
    (case,) = find_cases(tmp_path)
    assert case.truth is not None and case.truth.name == "W39_1998.09.19_Segm.nii" and not case.problems


def test_brats_2024_label_3_is_enhancing_and_label_4_a_cavity(patients, tmp_path: Path):
    names = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}
    folder = patients.brats(tmp_path, "BraTS-GLI-02405-100", 1, names)
    labels = patients.labels(1)
    given = np.where(labels == 4, 3, labels).astype(np.uint8)
    given[0, :2] = 4
    patients.save(folder / "BraTS-GLI-02405-100-seg.nii.gz", given)
    (case,) = find_cases(tmp_path)
    assert case.labels == LABELS_BRATS2023 and case.subject == "BraTS-GLI-02405"
    truth = read_truth(case)
    assert truth.strangers == ()
    np.testing.assert_array_equal(truth.labels, labels)


def _described(root: Path, patients, description: dict, channels: int = 4) -> None:
    labels = patients.labels(3)
    for index, sequence in enumerate(("flair", "t1", "t1ce", "t2")):
        patients.save(root / "imagesTr" / f"BRATS_001_{index:04d}.nii.gz", patients.image(sequence, labels, 3))
    patients.save(root / "labelsTr" / "BRATS_001.nii.gz", np.choose(labels, [0, 2, 1, 0, 3]).astype(np.uint8))
    (root / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "edema": 1, "non-enhancing and necrosis": 2, "enhancing tumor": 3},
        {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
        {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": 3},
    ],
    ids=["plain", "nested regions", "short names, one value without brackets"],
)
def test_nnunet_names_say_which_channel_and_label_is_which(patients, tmp_path: Path, labels: dict):
    channels = {"0": "FLAIR", "1": "T1w", "2": "T1gd", "3": "T2w"}
    _described(tmp_path, patients, {"channel_names": channels, "labels": labels, "file_ending": ".nii.gz"})
    (case,) = find_cases(tmp_path)
    assert case.layout == "nnU-Net" and case.images[Modality.FLAIR].path.name == "BRATS_001_0000.nii.gz"
    np.testing.assert_array_equal(read_truth(case).labels, patients.labels(3))


def test_the_decathlons_4d_files_give_four_sequences(patients, tmp_path: Path):
    labels = patients.labels(4)
    volumes = [patients.image(s, labels, 4).T for s in ("flair", "t1", "t1ce", "t2")]
    (tmp_path / "imagesTr").mkdir()
    image = nib.Nifti1Image(np.stack(volumes, axis=-1), np.diag([-1.0, -1, 1, 1]))
    nib.save(image, tmp_path / "imagesTr/BRATS_001.nii.gz")
    (tmp_path / "imagesTr/._BRATS_001.nii.gz").write_bytes(b"left by macOS")
    patients.save(tmp_path / "labelsTr/BRATS_001.nii.gz", np.choose(labels, [0, 2, 1, 0, 3]).astype(np.uint8))
    description = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    (case,) = find_cases(tmp_path)
    opened, truth = open_training_case(case)
    np.testing.assert_array_equal(truth, labels)
    np.testing.assert_array_equal(opened.images[Modality.T1C], patients.image("t1ce", labels, 4))
    with pytest.raises(InputError, match="channel 9"):
        read_sequence(type(case.images[Modality.T1])(case.images[Modality.T1].path, 9))


def test_a_csv_names_files_anywhere_relative_to_itself(patients, tmp_path: Path):
    patients.brats(tmp_path / "site", "one", 1)
    rows = ["name,subject,t1,t1c,t2,flair,truth"]
    rows.append("first,p1," + ",".join(f"site/one/one_{s}.nii.gz" for s in ("t1", "t1ce", "t2", "flair", "seg")))
    rows.append("second,p1,site/one/one_t1.nii.gz,,,,")
    (tmp_path / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    first, second = find_cases(tmp_path / "table.csv")
    assert tuple(first.images) == MODALITIES and first.subject == second.subject == "p1"
    assert second.truth is None and tuple(second.images) == (Modality.T1,)


def test_a_csv_with_a_mistyped_column_is_refused_by_name(tmp_path: Path):
    (tmp_path / "table.csv").write_text("name,truth,t1cc\na,b,c\n", encoding="utf-8")
    with pytest.raises(InputError, match="t1cc"):
        find_cases(tmp_path / "table.csv")


def test_a_csv_out_of_a_spreadsheet_with_semicolons_and_empty_last_lines_is_read(tmp_path: Path):
    text = "name; truth ;t1;t1c;t2;flair\r\nfirst;a;b;c;d;e\r\n;;;;;\r\n"
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (case,) = find_cases(tmp_path / "table.csv")
    assert case.truth == tmp_path / "a" and tuple(case.images) == MODALITIES


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name,truth\n,x\n", "line 2: 'an empty field' cannot be the name of a case"),
        (b"name,truth\n../up,x\n", "cannot be the name of a case"),
        (b"name,truth\na,x,y\n", "line 2, has more fields than the heading has columns"),
        (b"name,truth,labels\na,x,2021\n", 'line 2: the labels of a must be "2020" or "2023", not "2021"'),
        ("name,truth\nä,x\n".encode("latin-1"), "save it as 'CSV UTF-8'"),
        (b"", "it has none"),
    ],
)
def test_a_line_of_a_csv_that_cannot_be_understood_is_named(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError) as error:
        find_cases(tmp_path / "table.csv")
    assert words in str(error.value)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_selection_made_of_links_is_found_even_if_one_leads_in_a_circle(patients, tmp_path: Path):
    patients.brats(tmp_path / "all", "BraTS2021_00001", 1)
    patients.brats(tmp_path / "all", "BraTS2021_00002", 2)
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    (chosen / "BraTS2021_00002").symlink_to(tmp_path / "all" / "BraTS2021_00002")
    (chosen / "again").symlink_to(chosen)
    assert [case.name for case in find_cases(chosen)] == ["BraTS2021_00002"]


def test_what_macos_and_a_case_that_is_being_added_leave_beside_the_files_is_no_case(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "BraTS2021_00001", 1)
    (folder / "._BraTS2021_00001_t1.nii.gz").write_bytes(b"left by macOS")
    patients.brats(tmp_path / ".part-x", "BraTS2021_00002", 2)
    (case,) = find_cases(tmp_path)
    assert case.name == "BraTS2021_00001" and not case.problems


def test_files_of_two_patients_in_one_folder_are_noticed(patients, tmp_path: Path):
    patients.brats(tmp_path, "BraTS2021_00001", 1)
    labels = patients.labels(2)
    (tmp_path / "BraTS2021_00001" / "BraTS2021_00001_flair.nii.gz").unlink()
    patients.save(tmp_path / "BraTS2021_00001" / "BraTS2021_00002_flair.nii.gz", patients.image("flair", labels, 2))
    assert all("several patients are mixed" in case.problems[0] for case in find_cases(tmp_path))


def test_many_complete_patients_in_one_flat_folder_are_not_a_mix_up(patients, tmp_path: Path):
    for number in (1, 2):
        folder = patients.brats(tmp_path, f"BraTS2021_0000{number}", number)
        for path in folder.iterdir():
            path.rename(tmp_path / path.name)
    assert len(find_cases(tmp_path)) == 2 and not any(case.problems for case in find_cases(tmp_path))


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_no_dataset_is_said_in_one_sentence(tmp_path: Path, place: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"There is no dataset|No case was found"):
        find_cases(tmp_path / place)


def test_a_dataset_json_with_foreign_channels_is_refused(patients, tmp_path: Path):
    _described(tmp_path, patients, {"channel_names": {"0": "CT"}, "labels": {"background": 0, "edema": 1}})
    with pytest.raises(InputError, match="CT"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"background": 0, "whole tumor": [1, 2, 3], "enhancing tumor": [3]}, "none is called core (TC)"),
        ({"background": 0, "vessel": 1}, "the label vessel is none of"),
    ],
)
def test_a_dataset_json_with_foreign_labels_names_the_label(patients, tmp_path: Path, labels: dict, words: str):
    channels = {"0": "FLAIR", "1": "T1w", "2": "T1gd", "3": "T2w"}
    _described(tmp_path, patients, {"channel_names": channels, "labels": labels})
    with pytest.raises(InputError) as error:
        find_cases(tmp_path)
    assert words in str(error.value) and "dataset.json" in str(error.value)


@pytest.mark.parametrize(
    ("case", "subject"),
    [
        ("Brats18_TCIA08_242_1", "Brats18_TCIA08_242"),
        ("BraTS-GLI-02405-100", "BraTS-GLI-02405"),
        ("UPENN-GBM-00001_21", "UPENN-GBM-00001"),
        ("sub-01_ses-02", "sub-01"),
        ("sub-01_ses-postop_run-1", "sub-01"),
        ("P01-ses-2", "P01"),
        ("P01_20190304", "P01"),
        ("P01_2019-03-04", "P01"),
        ("P01_2019.03.04_101500", "P01"),
        ("P01_04.03.2019", "P01"),
        ("P01_visit2", "P01"),
        ("PatientID_0003_Timepoint_1", "PatientID_0003"),
        ("Patient-001_week-044-1", "Patient-001"),
        ("UCSF-PDGM-0315_FU001d", "UCSF-PDGM-0315"),
        ("P01_postop_20190304", "P01"),
        ("P01_baseline", "P01"),
    ],
)
def test_scans_of_one_patient_are_known_by_what_follows_the_name(case: str, subject: str):
    assert subject_of(case) == subject


@pytest.mark.parametrize(
    "names",
    [
        ("BraTS20_Training_001", "BraTS20_Training_002"),
        ("BraTS2021_00001", "BraTS2021_00002"),
        ("P01", "P02"),
        ("case_001", "case_002"),
        ("case1", "case2"),
        ("glioma_case1", "glioma_case2"),
        ("case_20190304", "case_20190305"),
        ("siteA_01", "siteA_02"),
        ("UCSF-PDGM-0004", "UCSF-PDGM-0005"),
        ("P_1998", "P_1999"),
        ("sub-01", "sub-02"),
        ("ses-01", "ses-02"),
    ],
)
def test_different_patients_are_not_taken_for_one(names: tuple[str, ...]):
    assert [subject_of(name, names) for name in names] == list(names)


def test_a_numbered_case_is_a_scan_of_the_patient_whose_name_it_continues(patients, tmp_path: Path):
    for number, name in enumerate(("P01", "P01_case2", "P01_case2_case2", "P02_case2", "P03")):
        patients.brats(tmp_path, name, number)
    assert [case.subject for case in find_cases(tmp_path)] == ["P01", "P01", "P01", "P02_case2", "P03"]
    lines = ["name,subject,truth", "P01,,x", "P01_case2,,x", "P02,,x", "P02_case2,Q,x"]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    assert [case.subject for case in find_cases(tmp_path / "t.csv")] == ["P01", "P01", "P02", "Q"]
