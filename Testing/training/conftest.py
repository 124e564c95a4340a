"""Small patients on disk, and a network that trains in a second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sofa_training.cases import find_cases
from sofa_training.config import TrainingConfig, build_config
from sofa_training.folds import make_folds, write_folds
from sofa_training.phantoms import IJK_TO_RAS, phantom_image, phantom_labels, save_volume, write_phantom
from sofa_training.prepare import prepare_cases


class SmallPatients:
    """Writes phantoms, whole or spoilt."""

    def labels(self, seed: int) -> np.ndarray:
        """Truth (D, H, W) of one patient."""
        return phantom_labels(seed)

    def image(self, sequence: str, labels: np.ndarray, seed: int) -> np.ndarray:
        """Intensities (D, H, W) of one sequence, zero outside the brain."""
        return phantom_image(sequence, labels, seed)

    def save(self, path: Path, array: np.ndarray, ijk_to_ras: np.ndarray = IJK_TO_RAS) -> Path:
        """Write (D, H, W) as NIfTI."""
        return save_volume(path, array, ijk_to_ras)

    def brats(self, root: Path, name: str, seed: int, names: dict[str, str] | None = None, truth: bool = True) -> Path:
        """Write one patient in BraTS's layout; `names` renames the sequences' files as from 2023 on."""
        folder = write_phantom(root, name, seed)
        for path in list(folder.iterdir()) if names else ():
            suffix = path.name.removeprefix(f"{name}_").removesuffix(".nii.gz")
            path.rename(folder / f"{name}-{names.get(suffix, suffix)}.nii.gz")
        if not truth:
            (folder / f"{name}_seg.nii.gz").unlink()
        return folder


@pytest.fixture(scope="session")
def patients() -> SmallPatients:
    """Someone who writes small patients."""
    return SmallPatients()


@pytest.fixture(scope="session")
def brats_folder(patients: SmallPatients, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small patients in BraTS 2021's layout."""
    root = tmp_path_factory.mktemp("dataset")
    for number in range(5):
        patients.brats(root, f"BraTS2021_{number:05d}", number)
    return root


@pytest.fixture(scope="session")
def prepared(brats_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five, prepared, with five folds beside them."""
    out = tmp_path_factory.mktemp("prepared")
    cases = find_cases(brats_folder)
    prepare_cases(cases, out)
    write_folds(make_folds([(case.name, case.subject) for case in cases]), out / "folds.json")
    return out


TINY_MODEL = {
    "arrangement": "tiny",
    "channels": 32,
    "decoder_mlp": 32,
    "decoder_heads": 2,
    "encoder": {
        "embed_dims": [8, 16, 16, 16],
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 1, 1],
        "window_sizes": [4, 4, 4, 4],
        "stem_stride": 4,
    },
}


@pytest.fixture
def tiny(prepared: Path):
    """Make the configuration of a run that takes seconds; keywords override by dotted key, "__" for the dot."""

    def configure(**overrides: object) -> TrainingConfig:
        values = {
            "data": {"prepared": str(prepared), "crops": [[48, 48]], "slices_per_case": 2},
            "model": {**TINY_MODEL, "encoder": dict(TINY_MODEL["encoder"])},
            "optimiser": {"rate": 1e-3},
            "run": {"epochs": 2, "batch": 4, "workers": 0, "device": "cpu", "batch_norm": "frozen"},
        }
        return build_config(values, {k.replace("__", "."): v for k, v in overrides.items()}, "the test")

    return configure


@pytest.fixture
def python():
    """Start a Python program in a process of its own that sees the same packages."""

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", **environment}
        return subprocess.Popen(
            [sys.executable, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )

    return start
