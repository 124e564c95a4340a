"""The `sofa` command: what a user types, what she gets, and what she is told when it cannot work."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny_models import tiny_model
from typer.testing import CliRunner

from sofa_cli import main
from sofa_engine.box_file import read_box_file
from sofa_engine.model.checkpoint import save_checkpoint
from sofa_engine.opening import open_case
from sofa_engine.types import SUB_REGIONS, Box, Modality
from studies import LPS, head, write_volume

NCR, ED, ET = SUB_REGIONS


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(tiny_model(), path, name="tiny", trained=False)
    return path


@pytest.fixture(scope="session", autouse=True)
def wide_terminal() -> Iterator[None]:
    """Keep tables from being cut to the test runner's width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "300")
        yield


@pytest.fixture
def sofa(checkpoint) -> Callable[..., object]:
    """Run `sofa` in this process; `segment` with the tiny checkpoint on the CPU unless told otherwise."""

    def call(*words: object):
        if words[0] == "segment" and "--weights" not in words:
            words = (*words, "--weights", checkpoint, "--device", "cpu")
        return CliRunner().invoke(main.app, [str(word) for word in words], prog_name="sofa")

    return call


def process(*words: object) -> subprocess.Popen:
    """Start `sofa` as a process of its own."""
    # A child inherits an ignored Ctrl-C, which is what a shell gives to tests that run in its background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    here = Path(main.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-m", "sofa_cli", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def refused(result, *sentence: str) -> str:
    """Check that a run ended with exit code 2 and one sentence on stderr, and return the sentence."""
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for words in sentence:
        assert words in errors[0]
    assert errors[0].endswith(".")
    return errors[0]


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


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


# What cannot work


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
    volume = head()
    volume[3, 3, 3] = np.nan
    write_volume(folder / "flair.nii.gz", volume)
    return folder


def infinite(folder: Path) -> Path:
    volume = head() + 0.5
    volume[3, 3, 3] = np.inf
    write_volume(folder / "flair.nii.gz", volume)
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
        (not_a_number, "NaN"),
        (infinite, "infin"),
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
