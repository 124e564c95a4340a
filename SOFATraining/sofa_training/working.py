"""A training or evaluation case on the grid that the engine works on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from sofa_engine.case import Case
from sofa_engine.errors import InputError
from sofa_engine.types import SUB_REGIONS, Modality
from sofa_engine.working_grid import WorkingGrid, labels_to_reference, to_working
from sofa_training.cases import TrainingCase
from sofa_training.reading import open_training_case


@dataclass(frozen=True)
class WorkingCase:
    """One case with its truth, on the patient's grid and on the engine's.

    Attributes:
        case: sequences on the working grid.
        truth: uint8 (D, H, W) on the working grid.
        reference_truth: uint8 on the patient's own grid, which results are measured on.
        grid: from one to the other.
    """

    case: Case
    truth: np.ndarray
    reference_truth: np.ndarray
    grid: WorkingGrid

    def with_sequences(self, sequences: Collection[Modality]) -> WorkingCase:
        """Return the case with these sequences only.

        Raises:
            InputError: it has none of them.
        """
        images = {m: image for m, image in self.case.images.items() if m in sequences}
        if not images:
            raise InputError(f"{self.case.name} has none of the sequences that the model is to be given.")
        return replace(self, case=replace(self.case, images=images))

    def to_reference(self, labels: np.ndarray) -> np.ndarray:
        """Return labels of the working grid on the patient's own."""
        return labels_to_reference(labels, self.grid)


def open_working_case(files: TrainingCase) -> WorkingCase:
    """Read a case and carry it over to the working grid, as inference does.

    Raises:
        InputError: as `open_training_case`.
    """
    case, truth = open_training_case(files)
    grid = WorkingGrid.of(case.geometry)
    return WorkingCase(to_working(case), _labels_to_working(truth, grid), truth, grid)


def _labels_to_working(truth: np.ndarray, grid: WorkingGrid) -> np.ndarray:
    if not grid.resampled:
        return np.ascontiguousarray(grid.to_working(truth))
    shares = np.stack([grid.to_working((truth == r.label).astype(np.float32)) for r in SUB_REGIONS])
    values = np.array([r.label for r in SUB_REGIONS], dtype=np.uint8)
    return np.where(shares.sum(axis=0) >= 0.5, values[shares.argmax(axis=0)], 0).astype(np.uint8)
