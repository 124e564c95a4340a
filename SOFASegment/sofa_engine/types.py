"""The words that every layer shares: modalities, sub-regions, boxes, patches. No torch, no SimpleITK.

Arrays are (D, H, W): slice, row, column of the reference volume, that is (k, j, i) of its IJK index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Modality(StrEnum):
    """The four MRI sequences, in the order of the paper (section 3.1)."""

    T1 = "t1"
    T1C = "t1c"
    T2 = "t2"
    FLAIR = "flair"

    @property
    def title(self) -> str:  # type: ignore[override]
        """Name for people."""
        return {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "FLAIR"}[self.value]


MODALITIES: tuple[Modality, ...] = tuple(Modality)


class SubRegion(StrEnum):
    """The three sub-regions of the tumour, in the order of the model's outputs."""

    NCR = "ncr"
    ED = "ed"
    ET = "et"

    @property
    def title(self) -> str:  # type: ignore[override]
        """Name for people."""
        return {"ncr": "Necrotic core", "ed": "Oedema", "et": "Enhancing tumour"}[self.value]

    @property
    def label(self) -> int:
        """Value in label maps inside SOFA, which is BraTS 2020's: NCR 1, ED 2, ET 4."""
        return {"ncr": 1, "ed": 2, "et": 4}[self.value]

    @property
    def index(self) -> int:  # type: ignore[override]
        """Channel of this sub-region in arrays of shape (3, D, H, W)."""
        return SUB_REGIONS.index(self)


SUB_REGIONS: tuple[SubRegion, ...] = tuple(SubRegion)

#: Unions that BraTS reports: whole tumour, tumour core, enhancing tumour (labels of `SubRegion.label`).
COMPOSITES: dict[str, tuple[SubRegion, ...]] = {
    "WT": (SubRegion.NCR, SubRegion.ED, SubRegion.ET),
    "TC": (SubRegion.NCR, SubRegion.ET),
    "ET": (SubRegion.ET,),
}


class LabelScheme(StrEnum):
    """Values in exported label maps. Always named, never guessed (BraTS 2024 uses 4 for a cavity)."""

    BRATS2020 = "2020"
    BRATS2023 = "2023"

    def value_of(self, sub_region: SubRegion) -> int:
        """Label value of `sub_region` under this scheme."""
        if self is LabelScheme.BRATS2023 and sub_region is SubRegion.ET:
            return 3
        return sub_region.label


@dataclass(frozen=True)
class Box:
    """An axis-aligned box of voxels, half-open: `lower` (z, y, x) is inside, `upper` is just outside.

    A box is never empty: construct through `Box.of_mask` or check `Box.valid` for what a user drew.
    """

    lower: tuple[int, int, int]
    upper: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Refuse boxes without a voxel.

        Raises:
            ValueError: an upper bound does not exceed its lower bound.
        """
        if not all(b > a for a, b in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"A box must hold at least one voxel on every axis, not {self.lower} to {self.upper}.")

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of the box's voxels in a (D, H, W) array."""
        return tuple(slice(a, b) for a, b in zip(self.lower, self.upper, strict=True))  # type: ignore[return-value]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent in voxels, (D, H, W)."""
        return tuple(b - a for a, b in zip(self.lower, self.upper, strict=True))  # type: ignore[return-value]

    def union(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        return Box(
            tuple(map(min, self.lower, other.lower)),  # type: ignore[arg-type]
            tuple(map(max, self.upper, other.upper)),  # type: ignore[arg-type]
        )

    def intersection(self, other: Box) -> Box | None:
        """Return the common box, or None where the two are apart."""
        lower = tuple(map(max, self.lower, other.lower))
        upper = tuple(map(min, self.upper, other.upper))
        if any(b <= a for a, b in zip(lower, upper, strict=True)):
            return None
        return Box(lower, upper)  # type: ignore[arg-type]

    def grown(self, voxels: tuple[int, int, int], shape: tuple[int, int, int]) -> Box:
        """Return the box grown by `voxels` (z, y, x) on both sides, clipped to a volume of `shape`."""
        lower = tuple(max(0, a - g) for a, g in zip(self.lower, voxels, strict=True))
        upper = tuple(min(n, b + g) for b, g, n in zip(self.upper, voxels, shape, strict=True))
        return Box(lower, upper)  # type: ignore[arg-type]

    @staticmethod
    def of_mask(mask: np.ndarray) -> Box | None:
        """Return the tight box of the non-zero voxels of a (D, H, W) array (eq. 4), or None if there are none."""
        bounds = []
        for axis in range(3):
            hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
            if hit.size == 0:
                return None
            bounds.append((int(hit[0]), int(hit[-1]) + 1))
        return Box(tuple(a for a, _ in bounds), tuple(b for _, b in bounds))  # type: ignore[arg-type]

    @staticmethod
    def enclosing(boxes: Iterable[Box]) -> Box | None:
        """Return the smallest box that holds all of `boxes`, or None for none."""
        result: Box | None = None
        for box in boxes:
            result = box if result is None else result.union(box)
        return result


@dataclass(frozen=True)
class Patch:
    """New labels for one extent of the label map.

    Attributes:
        extent: where `labels` goes.
        labels: uint8, shape `extent.shape`, values of `SubRegion.label` and 0.
        generation: number of the request that this answers; the newest wins.
    """

    extent: Box
    labels: np.ndarray
    generation: int = 0


@dataclass(frozen=True)
class SliceConfidence:
    """How sure the model is of one slice: 1 is certain, 0 is a coin toss."""

    slice_index: int
    confidence: float
    sub_region: SubRegion
