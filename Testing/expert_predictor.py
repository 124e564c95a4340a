"""A predictor that looks up an expert's mask, for tests of what surrounds the model on real images."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sofa_engine.api import ModelInfo
from sofa_engine.case import Case
from sofa_engine.cropping import brain_box
from sofa_engine.normalise import normalise_case
from sofa_engine.predictor import SlicePrediction
from sofa_engine.progress import CancelToken, ProgressCallback
from sofa_engine.types import SUB_REGIONS, Modality, SubRegion

_YES, _NO = np.float32(0.9), np.float32(0.05)


class ExpertPredictor:
    """A `Predictor` whose first pass misses the tumour's outer millimetres, and that finds all of it inside a box.

    So boxes of the first pass are too small, as they are when a model hesitates, and dragging one outward reveals what
    the expert drew there. No number that comes out of it says anything about a model.
    """

    def __init__(self, case: Case, truth: np.ndarray, missing_px: int = 3) -> None:
        """Take the case that will be encoded and the expert's mask on its grid, uint8 (D, H, W)."""
        _, brain = normalise_case(case)
        here = truth[brain_box(brain).slices]
        tumour = ndimage.binary_erosion(here > 0, iterations=missing_px)
        self._prompted = np.stack([np.where(here == r.label, _YES, _NO) for r in SUB_REGIONS])
        self._first = np.where(tumour, self._prompted, _NO)
        self._modalities: tuple[Modality, ...] = ()

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("expert mask", "0" * 64, "none", "default", "cpu", trained=True)

    def encode(
        self,
        images: np.ndarray,
        modalities: tuple[Modality, ...],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        assert images.shape[1:] == self._first.shape[1:]
        self._modalities = modalities

    def segment(self, slices: np.ndarray, *, cancel: CancelToken | None = None) -> SlicePrediction:
        return SlicePrediction(self._first[:, slices], np.ones((len(SUB_REGIONS), len(slices)), np.float32))

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
        answer = np.full((len(slices), *self._first.shape[2:]), _NO)
        for i, (z, box) in enumerate(zip(slices, boxes, strict=True)):
            if cancel is not None:
                cancel.check()
            x0, y0, x1, y1 = (round(float(v)) for v in box)
            answer[i, y0:y1, x0:x1] = self._prompted[sub_region.index, z, y0:y1, x0:x1]
        return SlicePrediction(answer, np.ones(len(slices), np.float32))

    def attention(self) -> np.ndarray:
        depth = self._first.shape[1]
        weights = {Modality.T1: 0.1, Modality.T1C: 0.5, Modality.T2: 0.15, Modality.FLAIR: 0.25}
        row = np.array([weights[m] for m in self._modalities], np.float16)
        return np.broadcast_to(row[None, :, None, None, None], (3, len(row), depth, 1, 1)).astype(np.float16)

    def believe(self, probabilities: np.ndarray) -> None:
        """An expert's mind is made up."""

    def look_ahead(self) -> bool:
        return False

    def release(self) -> None:
        pass
