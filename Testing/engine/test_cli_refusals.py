"""The `sofa` command: what a user is told when it cannot work."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from cli_tools import files_in, refused

from sofa_engine.types import SUB_REGIONS, Modality
from studies import LPS, head, write_volume

NCR, ED, ET = SUB_REGIONS


def nothing(folder: Path) -> Path:
    return folder / "missing"


def truncated(folder: Path) -> Path:
    path = write_volume(folder / "flair.nii.gz", head())
    path.write_bytes(path.read_bytes()[:-2000])
    return folder


def corrupt(folder: Path) -> Path:
    path = write_volume(folder / "flair.nii.gz", head())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return folder


def four_dimensional(folder: Path) -> Path:
    folder.mkdir()
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8, 3), np.int16), LPS), folder / "flair.nii.gz")
    return folder


def colour(folder: Path) -> Path:
    folder.mkdir()
    rgb = np.zeros((8, 8, 8), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nib.save(nib.Nifti1Image(rgb, LPS), folder / "flair.nii.gz")
    return folder


def zeros(folder: Path) -> Path:
    write_volume(folder / "flair.nii.gz", np.zeros((16, 48, 40)))
    return folder


def not_a_number(folder: Path) -> Path:
    write_volume(folder / "flair.nii.gz", np.full((16, 48, 40), np.nan, dtype=np.float32))
    return folder


def one_slice(folder: Path) -> Path:
    write_volume(folder / "flair.nii.gz", head()[8:9])
    return folder


def affine_without_numbers(folder: Path) -> Path:
    folder.mkdir()
    image = nib.Nifti1Image(head().T.astype(np.int16), LPS)
    image.header["srow_x"][0] = np.nan
    # nibabel refuses to write such an image itself
    content = bytearray(image.to_bytes())
    content[280:284] = np.float32(np.nan).tobytes()
    (folder / "flair.nii.gz").write_bytes(gzip.compress(bytes(content)))
    return folder


def two_patients(folder: Path) -> Path:
    write_volume(folder / "t1c.nii.gz", head())
    far = LPS.copy()
    far[:3, 3] += 900
    write_volume(folder / "flair.nii.gz", head(), far)
    return folder


def two_of_one(folder: Path) -> Path:
    write_volume(folder / "a_flair.nii.gz", head())
    write_volume(folder / "b_flair.nii.gz", head(seed=1))
    return folder


def labels_as_volume(folder: Path) -> Path:
    write_volume(folder / "flair.nii.gz", np.where(head() > 500, 2, 0))
    return folder


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (nothing, "missing"),
        (truncated, "damaged, cut short"),
        (corrupt, "damaged"),
        (four_dimensional, "4D"),
        (colour, "colour"),
        (zeros, "zero"),
        (not_a_number, "zero everywhere"),
        (one_slice, "slice"),
        (affine_without_numbers, "flair.nii.gz"),
        (two_patients, "do not overlap"),
        (two_of_one, "a_flair.nii.gz and b_flair.nii.gz"),
        (labels_as_volume, "label"),
    ],
)
def test_a_bad_input_is_one_sentence_and_leaves_nothing(sofa, tmp_path, make, sentence):
    folder, out = tmp_path / "patient", tmp_path / "results"
    out.mkdir()
    case = make(folder)
    refused(sofa("segment", case, "-o", out / "labels.nii.gz", "--report", out / "r.html"), sentence)
    assert files_in(out) == set()
    refused(sofa("inspect", case), sentence)


def test_a_pickle_that_would_run_code_does_not(sofa, write_case, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))

    weights = tmp_path / "evil.pth"
    weights.write_bytes(pickle.dumps({"model": Evil()}))
    archive = tmp_path / "evil_zip.pth"
    torch.save({"model": Evil()}, archive)
    for path in (weights, archive):
        refused(sofa("segment", write_case(), "-o", tmp_path / "out.nii.gz", "--weights", path), path.name)
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "out.nii.gz").exists()


def test_a_checkpoint_of_another_model_is_one_sentence(sofa, write_case, tmp_path):
    weights = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(3)}, weights)
    refused(sofa("segment", write_case(), "-o", tmp_path / "out.nii.gz", "--weights", weights), "resnet.pth")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("CASE",), "Say where the result goes"),
        (("-o", "OUT"), "Give a case folder"),
        (("CASE", "CASE", "-o", "OUT"), "--out-dir"),
        (("CASE", "--t1", "CASE", "-o", "OUT"), "not both"),
        (("CASE", "-o", "OUT", "--out-dir", "DIR"), "leave out -o"),
        (("CASE", "-o", "OUT.txt"), ".nii.gz"),
        (("CASE", "-o", "missing/OUT.nii.gz"), "does not exist"),
        (("CASE", "-o", "DIR"), "DIR"),
        (("CASE", "-o", "OUT.nii.gz", "--report", "missing/r.html"), "does not exist"),
        (("CASE", "-o", "OUT.nii.gz", "--weights", "missing.pth"), "no checkpoint file missing.pth"),
        (("CASE", "-o", "OUT.nii.gz", "--weights", "unheard-of"), "unheard-of"),
        (("CASE", "-o", "OUT.nii.gz", "--boxes", "missing.json"), "missing.json"),
        (("CASE", "-o", "OUT.nii.gz", "--reference", "t2"), "reference T2"),
        (("CASE", "-o", "CASE/P1_flair.nii.gz"), "own volumes"),
        (("missing", "--out-dir", "DIR"), "missing is not a folder"),
        (("--out-dir", "DIR"), "--out-dir needs case folders"),
    ],
)
def test_a_command_line_that_cannot_work_says_why(sofa, write_case, tmp_path, monkeypatch, words, sentence):
    case = write_case([Modality.FLAIR], folder="CASE")
    (tmp_path / "DIR").mkdir()
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path)
    refused(sofa("segment", *words), sentence)
    assert files_in(tmp_path) == before
    assert nib.load(case / "P1_flair.nii.gz").shape == (40, 48, 16)


def test_a_device_that_is_not_there_is_one_sentence(sofa, write_case, checkpoint, tmp_path):
    options = ("--weights", checkpoint, "--device", "cuda:99")
    refused(sofa("segment", write_case(), "-o", tmp_path / "out.nii.gz", *options), "cuda:99")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_folder_without_permission_is_one_sentence(sofa, write_case, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused(sofa("segment", write_case(), "-o", locked / "out.nii.gz"), "no permission")
