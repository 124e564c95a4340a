"""The case that is timed, samples of its slices, and the box that is dragged on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np

from sofa_engine.case import Case
from sofa_engine.geometry import Geometry
from sofa_engine.opening import open_case
from sofa_engine.synthetic import synthetic_case
from sofa_engine.types import Box

REAL_CASE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "brats2021" / "BraTS2021_00000"
#: Slices and pixels of the box that is dragged.
BOX_SLICES, BOX_PIXELS = 40, 60


@dataclass(frozen=True)
class Patient:
    """A case, the expert's mask (D, H, W) on its grid, and what to call it."""

    case: Case
    truth: np.ndarray
    title: str

    @property
    def brain(self) -> Box:
        """Return the brain's extent."""
        box = Box.of_mask(np.any([image > 0 for image in self.case.images.values()], axis=0))
        assert box is not None
        return box

    def only(self, slices: np.ndarray) -> Patient:
        """Return the patient with these slices alone, as if they were neighbours."""
        images = {modality: image[slices] for modality, image in self.case.images.items()}
        grid = Geometry.from_matrix((len(slices), *self.case.geometry.shape[1:]), self.case.geometry.matrix)
        return Patient(replace(self.case, images=images, geometry=grid), self.truth[slices], self.title)

    def spread(self, count: int) -> Patient:
        """Return `count` slices at even distances over the brain: tumour and size as they are on average."""
        brain = self.brain
        inner = np.linspace(brain.lower[0], brain.upper[0] - 1, count + 2)[1:-1]
        return self.only(np.round(inner).astype(int))

    def middle(self, count: int) -> Patient:
        """Return `count` neighbouring slices around the tumour's middle."""
        start = self._centre()[0] - count // 2
        return self.only(np.arange(start, start + count))

    def box(self) -> Box:
        """Return the box that is dragged, around the tumour's middle."""
        centre = self._centre()
        half = (BOX_SLICES // 2, BOX_PIXELS // 2, BOX_PIXELS // 2)
        around = Box(*(tuple(c + s * h for c, h in zip(centre, half, strict=True)) for s in (-1, 1)))
        inside = around.intersection(self.brain)
        assert inside is not None
        return inside

    def _centre(self) -> tuple[int, ...]:
        tumour = Box.of_mask(self.truth > 0)
        assert tumour is not None
        return tuple((a + b) // 2 for a, b in zip(tumour.lower, tumour.upper, strict=True))


@cache
def patient() -> Patient:
    """Return the real case where it is there, else the synthetic one."""
    if not REAL_CASE.is_dir():
        return Patient(*synthetic_case(), "the synthetic demo case")
    truth = nib.load(REAL_CASE / f"{REAL_CASE.name}_seg.nii.gz")
    return Patient(open_case(REAL_CASE), np.asarray(truth.dataobj).T.astype(np.uint8), "a real BraTS case")
