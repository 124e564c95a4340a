"""What the session asks of a model, slice by slice. The session itself needs no torch.

`sofa_engine.torch_predictor.TorchPredictor` is the real one; tests use small predictors made of thresholds.
All arrays cover the cropped volume (D, H, W) that `encode` was given; slice indices count from its first slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sofa_engine.api import ModelInfo
from sofa_engine.progress import CancelToken, ProgressCallback
from sofa_engine.types import Modality, SubRegion


@dataclass(frozen=True)
class SlicePrediction:
    """Answer for n slices and one or all sub-regions.

    Attributes:
        probabilities: float32, (3, n, H, W) without a prompt or (n, H, W) for one prompted sub-region.
        quality: float32, (3, n) or (n,): the IoU head's estimate of each mask's IoU with the truth, 0 to 1.
    """

    probabilities: np.ndarray
    quality: np.ndarray


class Predictor(Protocol):
    """A model that holds the embeddings of one case."""

    @property
    def info(self) -> ModelInfo:
        """Which model this is and where it runs."""

    def encode(
        self,
        images: np.ndarray,
        modalities: tuple[Modality, ...],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        """Compute and keep the fused features of every slice (eq. 1-3).

        Args:
            images: float32 (M, D, H, W), normalised to [0, 255], zero outside the brain.
            modalities: the M sequences of `images`, in their order.
            spacing: mm between voxels (z, y, x).
            progress: told after every batch.
            cancel: looked at between batches; on cancelling, what was kept before is still there.
        """

    def segment(self, slices: np.ndarray, *, cancel: CancelToken | None = None) -> SlicePrediction:
        """Decode slices (n,) without a box, for all sub-regions (first pass)."""

    def prompt(
        self,
        sub_region: SubRegion,
        slices: np.ndarray,
        boxes: np.ndarray,
        heights: np.ndarray | None = None,
        *,
        stated: bool = True,
        cancel: CancelToken | None = None,
    ) -> SlicePrediction:
        """Decode one sub-region in slices (n,) with a box each (eq. 5-6).

        Args:
            sub_region: which fused features to decode.
            slices: int64 (n,), slice of each box; a slice may occur several times.
            boxes: float32 (n, 4), x0, y0, x1, y1 in pixels of the crop, half-open (x1 - x0 is the width).
            heights: float (n,), where each slice lies in the 3D box that its rectangle was cut from: -1 at the lowest
                face, 0 in the middle, 1 at the highest; None for boxes that were drawn in their slices.
            stated: whether a person drew the boxes; False for those of the first pass (eq. 4).
            cancel: looked at between batches.
        """

    def believe(self, probabilities: np.ndarray) -> None:
        """Take what a first pass came to as what the model believes before a person shows it a box.

        Args:
            probabilities: float (3, D, H, W).
        """

    def look_ahead(self) -> bool:
        """Encode some of the slices that wait for a box; return whether there are more. Answers stay the same."""

    def attention(self) -> np.ndarray:
        """Return the modality weights alpha (eq. 2), float16 (3, M, D, h, w), on a grid as fine as H, W or coarser."""

    def release(self) -> None:
        """Forget the case and free its memory; the model stays loaded."""
