"""Test-time augmentation: the mean of what a model says of the image and of its left-right mirror."""

from __future__ import annotations

import numpy as np

from sofa_engine.api import ModelInfo
from sofa_engine.predictor import Predictor, SlicePrediction
from sofa_engine.progress import CancelToken, Progress, ProgressCallback
from sofa_engine.types import Modality, SubRegion


class MirroredPredictor:
    """A predictor over two of the same model, the second of which is shown everything mirrored."""

    def __init__(self, straight: Predictor, mirrored: Predictor) -> None:
        """Take two predictors that nobody else uses."""
        self._straight, self._mirrored = straight, mirrored
        self._width = 0

    @property
    def info(self) -> ModelInfo:
        """Which model this is and where it runs."""
        return self._straight.info

    def encode(
        self,
        images: np.ndarray,
        modalities: tuple[Modality, ...],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        """Encode the images and their mirror; see `Predictor.encode`."""

        def half(offset: float) -> ProgressCallback | None:
            if progress is None:
                return None
            return lambda p: progress(Progress(p.stage, offset + p.fraction / 2, p.remaining_s))

        self._straight.encode(images, modalities, spacing, progress=half(0.0), cancel=cancel)
        mirror = np.ascontiguousarray(images[..., ::-1])
        self._mirrored.encode(mirror, modalities, spacing, progress=half(0.5), cancel=cancel)
        self._width = images.shape[-1]

    def segment(self, slices: np.ndarray, *, cancel: CancelToken | None = None) -> SlicePrediction:
        """Decode slices without a box; see `Predictor.segment`."""
        first = self._straight.segment(slices, cancel=cancel)
        return _mean(first, self._mirrored.segment(slices, cancel=cancel))

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
        flipped = np.array(boxes, dtype=np.float32, copy=True)
        flipped[:, [0, 2]] = self._width - flipped[:, [2, 0]]
        first = self._straight.prompt(sub_region, slices, boxes, heights, stated=stated, cancel=cancel)
        other = self._mirrored.prompt(sub_region, slices, flipped, heights, stated=stated, cancel=cancel)
        return _mean(first, other)

    def believe(self, probabilities: np.ndarray) -> None:
        """Take over a belief; see `Predictor.believe`."""
        self._straight.believe(probabilities)
        self._mirrored.believe(np.ascontiguousarray(probabilities[..., ::-1]))

    def look_ahead(self) -> bool:
        """Encode slices that wait; see `Predictor.look_ahead`."""
        more = self._straight.look_ahead()
        return self._mirrored.look_ahead() or more

    def attention(self) -> np.ndarray:
        """Return the modality weights of the image as it is."""
        return self._straight.attention()

    def release(self) -> None:
        """Forget the case."""
        self._straight.release()
        self._mirrored.release()


def _mean(straight: SlicePrediction, mirrored: SlicePrediction) -> SlicePrediction:
    probabilities = (straight.probabilities + mirrored.probabilities[..., ::-1]) / 2
    return SlicePrediction(probabilities, (straight.quality + mirrored.quality) / 2)
