"""The `sofa` command: what a user types, and what she gets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_tools import files_in, process, refused

from sofa_cli import main, segment
from sofa_engine.box_file import read_box_file
from sofa_engine.opening import open_case
from sofa_engine.types import SUB_REGIONS, Box, Modality
from studies import LPS, head, write_volume

NCR, ED, ET = SUB_REGIONS


# One case


def test_a_case_folder_becomes_a_label_map_on_the_references_own_grid(sofa, write_case, tmp_path):
    matrix = LPS @ np.diag([1.03, 0.97, 1.5, 1.0])
    case, out = write_case(matrix=matrix), tmp_path / "out.nii.gz"
    result = sofa("segment", case, "-o", out)
    assert result.exit_code == 0, result.output
    image, reference = nib.load(out), nib.load(case / "P1_t1ce.nii.gz")
    assert np.array_equal(image.affine, reference.affine)
    assert image.shape == reference.shape
    assert image.get_data_dtype() == np.uint8
    assert set(np.unique(image.dataobj)) <= {0, 1, 2, 4}
    assert str(out) in result.stdout
    assert "random weights" in result.stderr


def test_single_files_do_as_well_as_a_folder(sofa, write_case, tmp_path):
    case = write_case()
    by_folder, by_file = tmp_path / "folder.nii.gz", tmp_path / "file.nii.gz"
    assert sofa("segment", case, "-o", by_folder).exit_code == 0
    names = {"t1": "t1", "t1c": "t1ce", "t2": "t2", "flair": "flair"}
    options = [word for key, name in names.items() for word in (f"--{key}", case / f"P1_{name}.nii.gz")]
    assert sofa("segment", *options, "-o", by_file).exit_code == 0
    assert np.array_equal(nib.load(by_folder).dataobj, nib.load(by_file).dataobj)


def test_one_sequence_alone_runs_and_says_what_that_costs(sofa, write_case, tmp_path):
    result = sofa("segment", write_case([Modality.FLAIR]), "-o", tmp_path / "out.nrrd")
    assert result.exit_code == 0, result.output
    assert "Without T1c," in result.stderr
    assert (tmp_path / "out.nrrd").is_file()


def test_the_labels_of_brats_2023_are_one_two_and_three(sofa, write_case, tmp_path):
    case = write_case()
    old, new = tmp_path / "2020.nii.gz", tmp_path / "2023.nii.gz"
    assert sofa("segment", case, "-o", old).exit_code == 0
    assert sofa("segment", case, "-o", new, "--labels", "2023").exit_code == 0
    old_labels, new_labels = np.asarray(nib.load(old).dataobj), np.asarray(nib.load(new).dataobj)
    assert (old_labels == 4).any()
    assert np.array_equal(old_labels == 4, new_labels == 3)


def test_probabilities_report_and_boxes_are_written_where_asked(sofa, write_case, tmp_path):
    case, out = write_case(), tmp_path / "results"
    out.mkdir()
    options = ("--probabilities", "--report", out / "report.html", "--save-boxes", out / "boxes.json")
    assert sofa("segment", case, "-o", out / "labels.nii.gz", *options).exit_code == 0
    expected = {"labels.nii.gz", "labels_ncr.nii.gz", "labels_ed.nii.gz", "labels_et.nii.gz"}
    assert files_in(out) == expected | {"report.html", "boxes.json"}
    probability = np.asarray(nib.load(out / "labels_et.nii.gz").dataobj)
    assert 0 <= probability.min() <= probability.max() <= 1
    assert "data:image/png" in (out / "report.html").read_text(encoding="utf-8")
    assert set(read_box_file(out / "boxes.json").boxes) == set(SUB_REGIONS)


def test_json_is_one_line_of_facts_and_nothing_else_on_stdout(sofa, write_case, tmp_path):
    result = sofa("segment", write_case(), "-o", tmp_path / "out.nii.gz", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    labels = np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj)
    assert facts["volumes_ml"]["WT"] == pytest.approx((labels > 0).sum() / 1000, abs=1e-3)
    assert facts["outputs"]["labels"] == str(tmp_path / "out.nii.gz")
    assert facts["model"]["trained"] is False
    assert len(facts["model"]["sha256"]) == 64


def test_boxes_in_millimetres_confine_their_sub_region(sofa, write_case, tmp_path):
    case, out, boxes = write_case(), tmp_path / "out.nii.gz", tmp_path / "boxes.json"
    geometry = open_case(case).geometry
    box = Box((6, 20, 14), (11, 32, 28))
    corners = geometry.box_corners_ras(box)
    drawn = {"min": corners.min(axis=0).tolist(), "max": corners.max(axis=0).tolist()}
    boxes.write_text(json.dumps({"boxes": {"et": [drawn], "ncr": []}}), encoding="utf-8")
    assert sofa("segment", case, "-o", out, "--boxes", boxes).exit_code == 0
    labels = np.asarray(nib.load(out).dataobj).T
    assert (labels == ET.label).any()
    outside = np.ones(labels.shape, bool)
    outside[box.slices] = False
    assert not (labels[outside] == ET.label).any()
    assert not (labels == NCR.label).any()


def test_the_reference_can_be_chosen(sofa, tmp_path):
    folder = tmp_path / "patient"
    write_volume(folder / "t1c.nii.gz", head())
    write_volume(folder / "flair.nii.gz", head((32, 48, 40)), LPS @ np.diag([1, 1, 0.5, 1]))
    assert sofa("segment", folder, "-o", tmp_path / "out.nii.gz", "--reference", "flair").exit_code == 0
    assert nib.load(tmp_path / "out.nii.gz").shape == (40, 48, 32)


def test_an_existing_result_is_replaced(sofa, write_case, tmp_path):
    out = tmp_path / "out.nii.gz"
    out.write_bytes(b"old")
    assert sofa("segment", write_case(), "-o", out).exit_code == 0
    assert nib.load(out).shape == (40, 48, 16)


# Several cases


def test_a_cohort_goes_on_after_a_bad_case_and_ends_with_a_table_and_a_code(sofa, write_case, tmp_path):
    for name in ("a", "c"):
        write_case(folder=f"cohort/{name}")
    (tmp_path / "cohort" / "b").mkdir()
    (tmp_path / "cohort" / "b" / "flair.nii.gz").write_bytes(b"not an image")
    out = tmp_path / "out"
    result = sofa("segment", tmp_path / "cohort", "--out-dir", out, "--report", out)
    assert result.exit_code == 1
    assert files_in(out) == {"a.nii.gz", "a.html", "c.nii.gz", "c.html"}
    assert "1 of 3 cases failed" in result.stderr
    assert "flair.nii.gz" in result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith(("│ a ", "│ b ", "│ c "))]
    assert len(rows) >= 3


def test_a_cohort_goes_on_after_a_fault_of_sofa_itself_and_logs_where(sofa, write_case, tmp_path, monkeypatch, caplog):
    cases = [write_case(folder=name) for name in ("left", "middle", "right")]
    read = segment.open_case

    def faulty(source, **options):
        if source == cases[0]:
            raise ZeroDivisionError("division by zero")
        if source == cases[1]:
            raise MemoryError
        return read(source, **options)

    monkeypatch.setattr(segment, "open_case", faulty)
    result = sofa("segment", *cases, "--out-dir", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert files_in(tmp_path / "out") == {"right.nii.gz"}
    assert "left: SOFA failed unexpectedly (ZeroDivisionError: division by zero)" in result.stderr
    assert "middle: There is not enough memory for this case" in result.stderr
    assert "2 of 3 cases failed" in result.stderr
    assert "in faulty" in caplog.text, "the traceback is kept"


def test_several_folders_are_a_case_each_and_all_well_is_code_zero(sofa, write_case, tmp_path):
    cases = [write_case(folder=name) for name in ("left", "right")]
    result = sofa("segment", *cases, "--out-dir", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["case"] for line in result.stdout.splitlines()] == ["left", "right"]
    assert files_in(tmp_path / "out") == {"left.nii.gz", "right.nii.gz"}


def test_two_cases_of_one_name_are_refused_before_anything_is_done(sofa, write_case, tmp_path):
    cases = [write_case(folder=f"{site}/patient") for site in ("north", "south")]
    refused(sofa("segment", *cases, "--out-dir", tmp_path / "out"), "Two cases are called patient")
    assert not (tmp_path / "out").exists()


# Inspecting, weights, the rest


def test_inspect_says_what_it_found_and_writes_nothing(sofa, write_case, tmp_path):
    case = write_case([Modality.T1, Modality.T1C])
    before = files_in(tmp_path)
    result = sofa("inspect", case)
    assert result.exit_code == 0, result.output
    for words in (
        "T1: P1_t1.nii.gz",
        "T1c: P1_t1ce.nii.gz",
        "FLAIR: not found",
        "16 slices of 48 x 40",
        "Without FLAIR",
    ):
        assert words in result.stdout
    assert files_in(tmp_path) == before


def test_inspect_names_the_grid_that_the_model_would_see(sofa, tmp_path):
    write_volume(tmp_path / "flair.nii.gz", head(), LPS @ np.diag([2, 2, 3, 1]))
    facts = json.loads(sofa("inspect", tmp_path, "--json").stdout)
    assert facts["grid"] == "16 slices of 48 x 40 voxels, 3 x 2 x 2 mm"
    assert facts["working_grid"] == "16 slices of 96 x 80 voxels, 3 x 1 x 1 mm"


def test_weights_are_listed_and_unknown_ones_are_refused(sofa):
    assert sofa("weights", "list").exit_code == 0
    refused(sofa("weights", "get", "unheard-of"), "unheard-of")
    refused(sofa("weights", "add", "missing.pth"), "missing.pth")


def test_help_names_every_command_without_importing_torch():
    script = "import sys; from sofa_cli.main import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
    script += "assert 'torch' not in sys.modules and 'SimpleITK' not in sys.modules"
    here = Path(main.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(here), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    for name in main.COMMANDS:
        assert f" {name} " in done.stdout


def test_a_command_whose_extra_is_missing_says_what_to_install(sofa, monkeypatch):
    lazy = main.Lazy("package_that_is_not_there.module:app", "For this test.", "train")
    monkeypatch.setitem(main.COMMANDS, "novel", lazy)
    refused(sofa("novel"), "pip install 'sofa-brain-tumor[train]'", "package_that_is_not_there")


def test_the_version_is_printed(sofa):
    assert sofa("--version").stdout.startswith("sofa ")


def test_an_unknown_command_is_a_usage_error(sofa):
    result = sofa("segmet", "x")
    assert result.exit_code == 2
    assert "segmet" in result.stderr


# Processes of their own


def test_the_exit_code_and_the_sentence_reach_the_shell(tmp_path, checkpoint):
    done = process("segment", tmp_path / "missing", "-o", tmp_path / "o.nii.gz", "--weights", checkpoint)
    stdout, stderr = done.communicate(timeout=300)
    assert done.returncode == 2
    assert stdout == ""
    assert stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.skipif(sys.platform != "linux", reason="needs named pipes of a chosen size")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_middle_of_writing_leaves_no_half_file(write_case, tmp_path, checkpoint, sent):
    import fcntl

    case, out = write_case(shape=(32, 72, 64)), tmp_path / "results"
    out.mkdir()
    sofa = process("segment", case, "-o", out / "labels.nii.gz", "--weights", checkpoint, "--device", "cpu")
    # The part is a small pipe that nobody empties: the process is certain to be in the middle of writing it.
    part = out / f".part-{sofa.pid}-labels.nii.gz"
    os.mkfifo(part)
    reading = os.open(part, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    while not _arrived(reading) and sofa.poll() is None:
        time.sleep(0.01)
    sofa.send_signal(sent)
    while sofa.poll() is None:
        _arrived(reading)
        time.sleep(0.01)
    os.close(reading)
    _, stderr = sofa.communicate()
    assert sofa.returncode == 130, stderr
    assert "Interrupted" in stderr
    assert list(out.iterdir()) == []


def _arrived(pipe: int) -> bytes:
    try:
        return os.read(pipe, 512)
    except BlockingIOError:
        return b""
