"""Patients of a few thousand voxels, an ellipsoid of a brain with nested balls of a tumour: for smoke runs and tests.

They exercise every step in seconds and say nothing about accuracy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from sofa_engine.geometry import Geometry
from sofa_engine.itk_images import to_itk
from sofa_engine.types import SubRegion

SHAPE = (14, 56, 48)
#: BraTS's orientation: the axes of a volume point superior, posterior, left.
IJK_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: BraTS's file suffixes with the brightness of brain, oedema, necrosis and enhancing tumour.
TISSUE: dict[str, tuple[float, float, float, float]] = {
    "t1": (400, 320, 200, 300),
    "t1ce": (380, 300, 150, 800),
    "t2": (300, 600, 700, 500),
    "flair": (280, 700, 350, 600),
}
_RADII = ((SubRegion.ED, 11.0), (SubRegion.ET, 7.5), (SubRegion.NCR, 4.5))


def phantom_labels(seed: int) -> np.ndarray:
    """Return the truth of one patient, uint8 (D, H, W)."""
    rng = np.random.default_rng(seed)
    centre = np.array([7, 26, 22]) + rng.integers(-3, 4, 3)
    offsets = [g - c for g, c in zip(np.indices(SHAPE), centre, strict=True)]
    # Twice as flat as wide, so that the tumour fits the few slices.
    distance = np.sqrt((2 * offsets[0]) ** 2 + offsets[1] ** 2 + offsets[2] ** 2)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for sub_region, radius in _RADII:
        labels[distance < radius] = sub_region.label
    return labels


def phantom_image(suffix: str, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the intensities of one sequence, float32 (D, H, W), zero outside the brain."""
    rng = np.random.default_rng([seed, *suffix.encode()])
    brain, ed, ncr, et = TISSUE[suffix]
    values = np.full(SHAPE, brain, dtype=np.float64)
    for sub_region, value in ((SubRegion.ED, ed), (SubRegion.NCR, ncr), (SubRegion.ET, et)):
        values[labels == sub_region.label] = value
    values += rng.normal(0, 15, SHAPE)
    away = sum(((g - (n - 1) / 2) / (n / 2 - 1)) ** 2 for g, n in zip(np.indices(SHAPE), SHAPE, strict=True))
    return np.where((away < 1) | (labels > 0), np.maximum(values, 1), 0).astype(np.float32)


def save_volume(path: Path, array: np.ndarray, ijk_to_ras: np.ndarray = IJK_TO_RAS) -> Path:
    """Write an array (D, H, W) as an image file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(to_itk(array, Geometry.from_matrix(array.shape, ijk_to_ras)), str(path))
    return path


def write_phantom(root: Path, name: str, seed: int) -> Path:
    """Write one patient in the layout of BraTS 2021 and return its folder."""
    labels = phantom_labels(seed)
    for suffix in TISSUE:
        save_volume(root / name / f"{name}_{suffix}.nii.gz", phantom_image(suffix, labels, seed))
    save_volume(root / name / f"{name}_seg.nii.gz", labels)
    return root / name
