"""A prepared case as the localiser sees it: cells of 2 mm, all of them in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sofa_engine.model.localiser import to_cells
from sofa_training.prepared import PreparedCase
from sofa_training.regions import sub_region_masks


@dataclass(frozen=True)
class CoarseCase:
    """A prepared case on the localiser's cells, in memory.

    Attributes:
        name: of the case.
        cells: float16 (7, D, H, W): the four sequences in 0..1, then each cell's shares of the sub-regions.
        present: bool (4,), which sequences there are.
        start: cell of the case's full grid, or of the atlas that it lies in, at which the crop begins (z, y, x).
        brain: int (n, 3), cells of the brain.
    """

    name: str
    cells: Tensor
    present: np.ndarray
    start: tuple[int, int, int]
    brain: np.ndarray

    @staticmethod
    def of(case: PreparedCase, cell_mm: float) -> CoarseCase:
        """Average a prepared case over cells of `cell_mm`."""
        images = to_cells(torch.from_numpy(np.array(case.images)), case.spacing, cell_mm) / 255
        shares = to_cells(torch.from_numpy(sub_region_masks(np.asarray(case.truth))), case.spacing, cell_mm)
        z, y, x = (round(n * s / cell_mm) for n, s in zip(case.extent.lower, case.spacing, strict=True))
        cells = torch.cat([images, shares]).half()
        return CoarseCase(case.name, cells, case.present, (z, y, x), images.amax(dim=0).nonzero().numpy())
