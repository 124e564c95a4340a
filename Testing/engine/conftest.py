"""What the engine's tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_model
from typer.testing import CliRunner

from fakes import ThresholdPredictor, fake_case
from sofa_cli import main
from sofa_engine.model.checkpoint import save_checkpoint
from sofa_engine.session import SegmentationSession
from sofa_engine.types import MODALITIES, Modality
from studies import BRATS_NAMES, LPS, head, write_volume


@pytest.fixture
def write_case(tmp_path: Path) -> Callable[..., Path]:
    """Write a small study of BraTS-like NIfTI files and return its folder."""

    def write(
        modalities: Iterable[Modality] = MODALITIES,
        *,
        folder: str = "patient",
        matrix: np.ndarray = LPS,
        shape: tuple[int, int, int] = (16, 48, 40),
        suffix: str = ".nii.gz",
    ) -> Path:
        for number, modality in enumerate(modalities):
            write_volume(tmp_path / folder / f"P1_{BRATS_NAMES[modality]}{suffix}", head(shape, seed=number), matrix)
        return tmp_path / folder

    return write


@pytest.fixture
def predictor() -> ThresholdPredictor:
    return ThresholdPredictor()


@pytest.fixture
def session(predictor) -> SegmentationSession:
    session = SegmentationSession(fake_case()[0], predictor)
    session.first_pass()
    return session


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
