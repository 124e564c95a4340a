from __future__ import annotations

import json

import numpy as np
import pytest

from sofa_engine.discovery import UnmatchedError, discover, volumes_in
from sofa_engine.errors import InputError
from sofa_engine.naming import case_words_of, is_label_name, modality_of
from sofa_engine.opening import open_case
from sofa_engine.types import MODALITIES, Modality
from studies import LPS, head, write_dicom, write_volume


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("BraTS2021_00000_t1", Modality.T1),
        ("BraTS2021_00000_t1ce", Modality.T1C),
        ("BraTS-GLI-00001-000-t1n", Modality.T1),
        ("BraTS-GLI-00001-000-t1c", Modality.T1C),
        ("BraTS-GLI-00001-000-t2w", Modality.T2),
        ("BraTS-GLI-00001-000-t2f", Modality.FLAIR),
        ("sub-01_T1w", Modality.T1),
        ("sub-01_ce-gadolinium_T1w", Modality.T1C),
        ("UCSF_T1Gd", Modality.T1C),
        ("case_T1_Post", Modality.T1C),
        ("mueller_t1km", Modality.T1C),
        ("TCGA_hdbet_native_fla", Modality.FLAIR),
        ("patient_T2_FLAIR", Modality.FLAIR),
        ("AX T1 SE POST GD", Modality.T1C),
        ("T1 pre contrast", Modality.T1),
        ("T1 w/o contrast", Modality.T1),
        ("T1 post-op follow-up", Modality.T1),
        ("t2_tse_tra", Modality.T2),
        ("Ax T1 FLAIR", Modality.T1),
        ("SAG T1 FLAIR", Modality.T1),
        ("T1w_FLAIR", Modality.T1),
        ("Ax T1 FLAIR +C", Modality.T1C),
        ("AX T2 FLAIR FS", Modality.FLAIR),
        ("flair_to_t1", Modality.FLAIR),
        ("AX FLAIR +C", Modality.FLAIR),
        ("AX T1 FSE +C", Modality.T1C),
        ("AX T1 FS +C", Modality.T1C),
        ("Sag T1 SE C+", Modality.T1C),
        ("AX T1 MPRAGE +C", Modality.T1C),
        ("T1 + C", Modality.T1C),
        ("T1+C", Modality.T1C),
        ("T1_C", Modality.T1C),
        ("T1C+", Modality.T1C),
        ("AX T1 FSE C-", Modality.T1),
        ("AX T1 -C", Modality.T1),
        ("AX T1 FS COR", Modality.T1),
        ("PRE-OP AX T1 GAD", Modality.T1C),
        ("pre-op_T1_MPRAGE_gad", Modality.T1C),
        ("preoperative T1 gad", Modality.T1C),
        ("PRE-OP AX T1", Modality.T1),
        ("AX T1 GAD w/o FS", Modality.T1C),
        ("T1 pre gad", Modality.T1),
        ("T1 without contrast", Modality.T1),
        ("T1 without IV contrast", Modality.T1),
        ("AX T1 W/O", Modality.T1),
        ("T1 no gad", Modality.T1),
        ("T1 non-enhanced", Modality.T1),
        ("t1_tse_tra ohne KM", Modality.T1),
        ("T1 MPRAGE vor KM", Modality.T1),
        ("T1 nativ", Modality.T1),
        ("T1 MPRAGE nach KM", Modality.T1C),
        ("t2_tirm_tra_dark-fluid", Modality.FLAIR),
        ("t2_tirm_tra_dark-fluid_4mm", Modality.FLAIR),
        ("t2_space_dark-fluid_sag_p2_iso", Modality.FLAIR),
        ("t2_spc_da-fl_sag_p2_iso", Modality.FLAIR),
        ("tirm_dark fluid_cor", Modality.FLAIR),
        ("t1_tirm_tra_dark-fluid", Modality.T1),
        ("t1_tirm_tra_dark-fluid_KM", Modality.T1C),
        ("t2_tirm_tra", Modality.T2),
        ("T1 SUB", None),
        ("AX T1 POST SUB", None),
        ("SUB T1 POST-PRE", None),
        ("T1 subtraction", None),
        ("t1ce_subtracted", None),
        ("sub-01_T1w", Modality.T1),
        ("sub_P01_T1w", Modality.T1),
        ("sub-P7_ses-1_ce-gad_T1w", Modality.T1C),
        ("study_sub_03_t1", Modality.T1),
        ("Ax T2* GRE", None),
        ("T1 map", None),
        ("ADC", None),
        ("t10", None),
        ("output", None),
        ("t1_brainmask", None),
        ("t2_seg", None),
    ],
)
def test_a_name_is_read_as_a_radiologist_would(name, modality):
    assert modality_of(name) is modality


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BraTS-GLI-00001-000-t2f", ("brats", "gli", "00001", "000")),
        ("3: AX T1 POST GAD", ()),
        ("sub-03_ce-gadolinium_T1w", ("subject", "03")),
        ("t1_c", ()),
        ("Doe T2 FLAIR 3D", ("doe",)),
    ],
)
def test_what_a_name_says_beside_its_sequence_is_whose_it_is(name, words):
    assert case_words_of(name) == words


def test_label_files_are_recognised_by_name():
    assert all(is_label_name(name) for name in ("P1_seg", "P1_t1_mask", "labels", "t1_dseg", "BrainMask"))
    assert not is_label_name("P1_t1ce")


def test_a_folder_says_what_it_matched_and_what_it_left_out(write_case):
    folder = write_case()
    write_volume(folder / "P1_seg.nii.gz", head())
    found = discover(folder)
    assert {m: path.name for m, path in found.sources.items()} == {
        Modality.T1: "P1_t1.nii.gz",
        Modality.T1C: "P1_t1ce.nii.gz",
        Modality.T2: "P1_t2.nii.gz",
        Modality.FLAIR: "P1_flair.nii.gz",
    }
    assert "T1c: P1_t1ce.nii.gz" in found.notes
    assert "left out: P1_seg.nii.gz" in found.notes


def test_upper_case_names_and_mixed_formats_are_found(tmp_path):
    for name in ("CASE_T1.NII.GZ", "CASE_T1CE.nrrd", "CASE_T2.mha", "CASE_FLAIR.mhd"):
        if name.endswith("NII.GZ"):
            write_volume(tmp_path / name.lower(), head()).rename(tmp_path / name)
        else:
            write_volume(tmp_path / name, head())
    case = open_case(tmp_path)
    assert case.modalities == MODALITIES
    assert all(np.array_equal(image, head()) for image in case.images.values())


def test_a_missing_sequence_is_said(write_case):
    assert "T2: not found" in discover(write_case([Modality.T1, Modality.T1C, Modality.FLAIR])).notes


def test_two_files_for_one_sequence_are_refused_naming_both(write_case):
    folder = write_case()
    write_volume(folder / "P1_t1gd.nii.gz", head())
    with pytest.raises(InputError, match=r"could be T1c: P1_t1ce\.nii\.gz and P1_t1gd\.nii\.gz"):
        discover(folder)


def test_nnunet_channels_follow_the_documented_order(tmp_path):
    for channel in range(4):
        write_volume(tmp_path / f"glioma_{channel:04d}.nii.gz", head())
    assert [path.name[-11:-7] for path in discover(tmp_path).sources.values()] == ["0000", "0001", "0002", "0003"]
    assert tuple(discover(tmp_path).sources) == MODALITIES


@pytest.mark.parametrize("place", ["images", "."])
def test_nnunet_channels_follow_dataset_json_where_there_is_one(tmp_path, place):
    for channel in range(4):
        write_volume(tmp_path / "images" / f"glioma_{channel:04d}.nii.gz", head())
    names = {"channel_names": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}}
    (tmp_path / place / "dataset.json").write_text(json.dumps(names), encoding="utf-8")
    found = discover(tmp_path / "images").sources
    assert {m: path.name[-11:-7] for m, path in found.items()} == {
        Modality.T1: "0001",
        Modality.T1C: "0002",
        Modality.T2: "0003",
        Modality.FLAIR: "0000",
    }


def test_a_broken_dataset_json_is_named(tmp_path):
    write_volume(tmp_path / "glioma_0000.nii.gz", head())
    (tmp_path / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"dataset\.json is not a dataset\.json as nnU-Net has it"):
        discover(tmp_path)


def test_sequences_one_folder_down_are_found(write_case, tmp_path):
    write_case([Modality.T1], folder="study/a")
    write_case([Modality.FLAIR], folder="study/b")
    assert tuple(discover(tmp_path / "study").sources) == (Modality.T1, Modality.FLAIR)


DESCRIPTIONS = {Modality.T1: "AX T1", Modality.T1C: "AX T1 +C POST", Modality.T2: "AX T2", Modality.FLAIR: "T2 FLAIR"}


@pytest.mark.parametrize("mixed", [False, True], ids=["a folder each", "all in one folder"])
def test_dicom_series_are_found_by_their_description(tmp_path, mixed):
    for number, description in enumerate(DESCRIPTIONS.values()):
        folder = tmp_path / "study" / ("all" if mixed else f"series{number}")
        write_dicom(
            folder, head(seed=number), description=description, uid=f"1.2.826.0.1.3680043.8.498.{1000 + number}"
        )
    write_dicom(tmp_path / "study" / "ct", head(), description="T1 CT", uid="1.2.826.0.1.77", modality="CT")
    found = discover(tmp_path / "study")
    assert tuple(found.sources) == MODALITIES
    where = "all" if mixed else "series1"
    assert f'T1c: DICOM series "AX T1 +C POST" (16 files in {where})' in found.notes
    case = open_case(tmp_path / "study")
    for number, modality in enumerate(MODALITIES):
        np.testing.assert_array_equal(case.images[modality], head(seed=number))


def test_two_dicom_series_for_one_sequence_are_refused_naming_both(tmp_path):
    write_dicom(tmp_path, head(), description="AX T1", uid="1.2.3.1001")
    write_dicom(tmp_path, head(), description="SAG T1", uid="1.2.3.1002")
    with pytest.raises(InputError, match=r'could be T1: .*"AX T1".* and .*"SAG T1"'):
        discover(tmp_path)


def test_an_empty_folder_is_said_to_be_empty(tmp_path):
    with pytest.raises(InputError, match="holds no volumes; give a folder"):
        discover(tmp_path)


def test_a_folder_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        discover(tmp_path / "nowhere")


def test_names_that_say_nothing_are_listed(tmp_path):
    write_volume(tmp_path / "scan.nii.gz", head())
    with pytest.raises(InputError, match=r"says in its name which sequence it is \(found scan\.nii\.gz\)"):
        discover(tmp_path)


def test_a_4d_file_with_all_four_sequences_is_refused(tmp_path):
    write_volume(tmp_path / "BRATS_001.nii.gz", np.stack([head()] * 4), LPS)
    with pytest.raises(InputError, match=r"BRATS_001\.nii\.gz is a 4D file; split it into one file for each"):
        discover(tmp_path)


def test_real_cases_are_matched(brats_case, real_data):
    assert tuple(discover(brats_case).sources) == MODALITIES
    native = discover(real_data / "other" / "native_TCGA-DU-7294")
    assert "FLAIR: TCGA-DU-7294_hdbet_native_fla.nii.gz" in native.notes
    assert tuple(native.sources) == MODALITIES


def test_where_names_say_nothing_every_volume_is_offered_but_no_labels(tmp_path):
    for name in ("b.nii.gz", "a.nii.gz", "truth_seg.nii.gz"):
        write_volume(tmp_path / name, head())
    with pytest.raises(UnmatchedError):
        discover(tmp_path)
    assert [path.name for path in volumes_in(tmp_path)] == ["a.nii.gz", "b.nii.gz"]
    with pytest.raises(InputError, match="is not a folder"):
        volumes_in(tmp_path / "missing")
