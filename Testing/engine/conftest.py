"""What the engine's tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

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
