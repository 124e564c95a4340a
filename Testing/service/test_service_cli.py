"""The command line on the engine process: `sofa serve`, `sofa segment --engine`, `sofa segment --ray`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import sofa_service
from fakes import ThresholdPredictor, fake_case
from sofa_engine.session import SegmentationSession

_PACKAGES = Path(sofa_service.__file__).parents[1]


def sofa(*arguments, **environment):
    """Run the command as a user does."""
    path = os.pathsep.join([str(_PACKAGES), os.environ["PYTHONPATH"]])
    return subprocess.Popen(
        [sys.executable, "-c", "from sofa_cli.main import run; run()", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def finished(process, code=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err + out
    return out, err


@pytest.fixture
def home(tmp_path):
    return {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def cohort(tmp_path, case):
    for number in range(3):
        folder = tmp_path / "cohort" / f"case{number}"
        folder.mkdir(parents=True)
        for modality, array in fake_case(seed=number)[0].images.items():
            nib.save(nib.Nifti1Image(array.T, case.geometry.matrix), folder / f"{modality.value}.nii.gz")
    return tmp_path / "cohort"


def expected(number):
    session = SegmentationSession(fake_case(seed=number)[0], ThresholdPredictor())
    session.first_pass()
    return session.labels()


def voxels(path):
    return np.asarray(nib.load(path).dataobj).T


def test_segment_on_an_engine_writes_what_the_engine_found(shared_engine, cohort, tmp_path):
    out = tmp_path / "out.nii.gz"
    command = ("segment", cohort / "case0", "-o", out, "--engine", shared_engine.url, "--json")
    finished(sofa(*command, SOFA_TOKEN=shared_engine.token))
    np.testing.assert_array_equal(voxels(out), expected(0))


def test_segment_on_an_engine_says_what_is_wrong(shared_engine, cohort, tmp_path):
    out = tmp_path / "out.nii.gz"
    command = ("segment", cohort / "case0", "-o", out, "--engine", shared_engine.url)
    _, err = finished(sofa(*command, SOFA_TOKEN="wrong"), code=2)
    assert err.strip().endswith("token is missing or wrong: give the one that `sofa serve` printed.")
    _, err = finished(sofa(*command, "--device", "cpu"), code=2)
    assert "has its own weights and device" in err
    assert not out.exists()


def test_serve_prints_its_token_shows_its_status_and_goes_quietly(home):
    server = sofa("serve", "--port", "0", "--device", "cpu", **home)
    try:
        address = server.stdout.readline()
        token = server.stdout.readline().split()[-1]
        assert address.startswith("SOFA engine at http://127.0.0.1:") and len(token) > 30
        out, _ = finished(sofa("serve", "--status", **home))
        assert address.split()[3] in out and "requests at work" in out
        assert token not in out
        files = list(Path(home["HOME"]).rglob("engine-*.json"))
        assert [p.stat().st_mode & 0o777 for p in files] == [0o600]
    finally:
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=30)
    assert "Traceback" not in err
    assert "No engine of yours" in finished(sofa("serve", "--status", **home))[0]


def test_serving_the_network_in_the_clear_is_refused_on_the_command_line(home):
    _, err = finished(sofa("serve", "--host", "0.0.0.0", **home), code=2)
    assert "would show patients' images to the network" in err


@pytest.mark.slow
def test_a_cohort_on_a_local_cluster_is_resumed_where_it_stopped(cohort, tmp_path):
    pytest.importorskip("ray", reason="Ray is an optional extra (pip install 'sofa-brain-tumor[cluster]')")
    out = tmp_path / "out"
    out.mkdir()
    done = out / "case1.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), done)
    before = done.stat().st_mtime_ns
    driver = (
        "from sofa_cli import cohort, segment\n"
        "from sofa_cli.cases import cohort_jobs\n"
        "from sofa_engine.types import LabelScheme\n"
        "import functools, pathlib, sys, sofa_service.cluster as c\n"
        "c.Cluster = functools.partial(c.Cluster, factory='service_fakes:open_quick')\n"
        "folder, out = map(pathlib.Path, sys.argv[1:])\n"
        "choices = segment.Choices(LabelScheme.BRATS2020, None, None, False, False, None, False)\n"
        "sys.exit(cohort.segment_on_ray(cohort_jobs([folder], out, None), choices, 'local', None, 'cpu'))\n"
    )
    path = os.pathsep.join([str(_PACKAGES), os.environ["PYTHONPATH"]])
    run = subprocess.run(
        [sys.executable, "-c", driver, cohort, out],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "1 of 3 cases have their result already" in run.stderr
    for number in (0, 2):
        np.testing.assert_array_equal(voxels(out / f"case{number}.nii.gz"), expected(number))
    assert done.stat().st_mtime_ns == before
