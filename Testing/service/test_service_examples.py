"""The examples of the documentation run as they are printed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fakes import ThresholdPredictor
from sofa_engine.session import SegmentationSession
from sofa_engine.types import Box, LabelScheme, SubRegion

_EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, _EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path, case):
    for modality, array in case.images.items():
        nib.save(nib.Nifti1Image(array.T, case.geometry.matrix), tmp_path / f"fake_{modality.value}.nii.gz")
    return tmp_path


def test_the_python_example(shared_engine, folder, monkeypatch, capsys):
    monkeypatch.setenv("SOFA_TOKEN", shared_engine.token)
    out = folder / "result" / "out.nii.gz"
    out.parent.mkdir()
    example("remote_session").main(shared_engine.url, folder, out)
    assert np.asarray(nib.load(out).dataobj).any()
    assert "where the time went" in capsys.readouterr().out


def test_the_curl_example(shared_engine, folder, case):
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    packed, out = folder / "case.sofa", folder / "labels.nii.gz"
    example("remote_upload").main(folder, packed)
    run = subprocess.run(
        [_EXAMPLES / "remote_curl.sh", packed, out],
        env={**os.environ, "SOFA_URL": shared_engine.url, "SOFA_TOKEN": shared_engine.token},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    expected = SegmentationSession(case, ThresholdPredictor())
    expected.first_pass()
    list(expected.refine(SubRegion.ET, [Box((10, 20, 15), (35, 50, 45))]))
    labels = np.asarray(nib.load(out).dataobj).T
    assert set(np.unique(labels)) <= {0, 1, 2, 3}
    np.testing.assert_array_equal(labels, expected.labels(LabelScheme.BRATS2023))
