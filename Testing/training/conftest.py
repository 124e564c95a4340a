"""Small patients on disk, and a network that trains in a second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sofa_training.cases import find_cases
from sofa_training.config import TrainingConfig, build_config
from sofa_training.folds import make_folds, write_folds
from sofa_training.prepare import prepare_cases

#: BraTS's own orientation: axes point left, posterior, superior.
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (14, 56, 48)


class SmallPatients:
    """Writes patients of a few thousand voxels: an ellipsoid of a brain with nested balls of a tumour."""

    sequences = ("t1", "t1ce", "t2", "flair")
    #: Brightness of brain, oedema, necrosis and enhancing tumour in each sequence.
    tissue = {"t1": (400, 320, 200, 300), "t1ce": (380, 300, 150, 800), "t2": (300, 600, 700, 500), "flair": (280, 700, 350, 600)}

    def labels(self, seed: int) -> np.ndarray:
        """Truth (D, H, W) of one patient."""
        rng = np.random.default_rng(seed)
        centre = np.array([7, 26, 22]) + rng.integers(-3, 4, 3)
        grid = np.indices(SHAPE)
        distance = np.sqrt(sum(((g - c) / s) ** 2 for g, c, s in zip(grid, centre, (0.5, 1, 1), strict=True)))
        labels = np.zeros(SHAPE, np.uint8)
        labels[distance < 11] = 2
        labels[distance < 7.5] = 4
        labels[distance < 4.5] = 1
        return labels

    def image(self, sequence: str, labels: np.ndarray, seed: int) -> np.ndarray:
        """Intensities (D, H, W) of one sequence, zero outside the brain."""
        rng = np.random.default_rng([seed, *sequence.encode()])
        brain, ed, ncr, et = self.tissue[sequence]
        grid = np.indices(SHAPE)
        inside = sum(((g - (n - 1) / 2) / (n / 2 - 1)) ** 2 for g, n in zip(grid, SHAPE, strict=True)) < 1
        values = np.where(labels == 2, ed, np.where(labels == 1, ncr, np.where(labels == 4, et, brain))).astype(float)
        values += rng.normal(0, 15, SHAPE)
        return np.where(inside | (labels > 0), np.maximum(values, 1), 0).astype(np.float32)

    def save(self, path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        """Write (D, H, W) as NIfTI."""
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array.T, affine), path)
        return path

    def brats(self, root: Path, name: str, seed: int, names: dict[str, str] | None = None, truth: bool = True) -> Path:
        """Write one patient in BraTS's layout; `names` renames the sequences' files."""
        labels = self.labels(seed)
        for sequence in self.sequences:
            suffix = (names or {}).get(sequence, sequence)
            separator = "-" if names else "_"
            self.save(root / name / f"{name}{separator}{suffix}.nii.gz", self.image(sequence, labels, seed))
        if truth:
            separator = "-" if names else "_"
            self.save(root / name / f"{name}{separator}seg.nii.gz", labels)
        return root / name


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
    """Make the configuration of a run that takes seconds; keyword arguments override by dotted key, "__" for the dot."""

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
            [sys.executable, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start
