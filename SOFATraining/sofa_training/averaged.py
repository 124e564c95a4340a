"""The paper's naive baseline: sequences concatenated as channels of weights that were trained on one image."""

from __future__ import annotations

import numpy as np

from sofa_engine.api import ModelInfo
from sofa_engine.predictor import Predictor, SlicePrediction
from sofa_engine.progress import CancelToken, ProgressCallback
from sofa_engine.types import Modality, SubRegion


class AveragedSequences:
    """Shows a predictor the mean of all sequences as if it were one.

    Widening the first, linear layer to more channels and sharing its weights among them evenly is the same thing.
    """

    def __init__(self, inner: Predictor) -> None:
        """Take a predictor that nobody else uses."""
        self._inner = inner

    @property
    def info(self) -> ModelInfo:
        """Which model this is and where it runs."""
        return self._inner.info

    def encode(
        self,
        images: np.ndarray,
        modalities: tuple[Modality, ...],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        """Encode the mean image; see `Predictor.encode`."""
        mean = images.mean(axis=0, keepdims=True, dtype=np.float32)
        self._inner.encode(mean, modalities[:1], spacing, progress=progress, cancel=cancel)

    def segment(self, slices: np.ndarray, *, cancel: CancelToken | None = None) -> SlicePrediction:
        """Decode slices without a box; see `Predictor.segment`."""
        return self._inner.segment(slices, cancel=cancel)

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
        """Decode one sub-region with a box per slice; see `Predictor.prompt`."""
        return self._inner.prompt(sub_region, slices, boxes, heights, stated=stated, cancel=cancel)

    def believe(self, probabilities: np.ndarray) -> None:
        """Take over a belief; see `Predictor.believe`."""
        self._inner.believe(probabilities)

    def look_ahead(self) -> bool:
        """Encode slices that wait; see `Predictor.look_ahead`."""
        return self._inner.look_ahead()

    def attention(self) -> np.ndarray:
        """Return the modality weights of the one image, which are 1."""
        return self._inner.attention()

    def release(self) -> None:
        """Forget the case."""
        self._inner.release()
