"""One patient's study on one grid, as the engine works on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sofa_engine.geometry import Geometry
from sofa_engine.types import MODALITIES, Modality


@dataclass(frozen=True)
class Case:
    """Co-registered sequences of one patient.

    Attributes:
        images: float32 (D, H, W) per modality, raw intensities on `geometry`; one to four of them.
        geometry: the reference volume's grid.
        name: what the case is called in reports.
        sources: where each modality was read from, for reports.
        warnings: sentences about what was unusual when reading.
    """

    images: Mapping[Modality, np.ndarray]
    geometry: Geometry
    name: str = "case"
    sources: Mapping[Modality, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Return the modalities that are present, in the paper's order."""
        return tuple(m for m in MODALITIES if m in self.images)
