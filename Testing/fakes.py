"""A small synthetic patient and a model made of thresholds, for tests of everything above the network.

Nothing here replaces what a test is about: the session, boxes, service and faces that run on these are the real ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sofa_engine.api import ModelInfo
from sofa_engine.case import Case
from sofa_engine.geometry import Geometry
from sofa_engine.predictor import SlicePrediction
from sofa_engine.progress import CancelToken, Progress, ProgressCallback
from sofa_engine.types import MODALITIES, SUB_REGIONS, Modality, SubRegion

#: Voxels (D, H, W) of the synthetic patient, and where its tumour's centre lies.
FAKE_SHAPE = (44, 72, 64)
FAKE_CENTRE = (22, 34, 28)
FAKE_SATELLITE = (22, 56, 42)


def fake_case(
    modalities: tuple[Modality, ...] = MODALITIES,
    *,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    seed: int = 0,
) -> tuple[Case, np.ndarray]:
    """Return a synthetic patient and its true labels, uint8 (D, H, W) with values 0, 1, 2, 4.

    A necrotic ball (radius 5 voxels) in an enhancing rim that fades from 7 to 17 voxels, in oedema up to 16, inside an
    ellipsoidal brain with zeros outside; a second, faint enhancing lesion of radius 4 lies 22 voxels away. The axes
    point left, posterior, superior, as in BraTS.
    """
    grid = np.indices(FAKE_SHAPE).astype(np.float32)
    middle = (np.array(FAKE_SHAPE) - 1) / 2
    brain = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, middle, (21.0, 34.0, 30.0), strict=True)) <= 1
    radius = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, FAKE_CENTRE, strict=True)))
    satellite = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, FAKE_SATELLITE, strict=True))) <= 4

    rim = np.clip((17 - radius) / 10, 0, 1)
    core, oedema = radius <= 5, radius <= 16
    noise = np.random.default_rng(seed).normal(0, 4, (len(MODALITIES), *FAKE_SHAPE)).astype(np.float32)
    bright = {
        Modality.T1: np.where(oedema, 220, 400),
        Modality.T1C: np.where(core, 150, 300 + 600 * np.maximum(rim, 0.75 * satellite)),
        Modality.T2: np.where(oedema, 800, 350),
        Modality.FLAIR: np.where(oedema, 850, 350),
    }
    images = {
        m: np.where(brain, bright[m] + noise[i], 0).astype(np.float32)
        for i, m in enumerate(MODALITIES)
        if m in modalities
    }
    truth = np.zeros(FAKE_SHAPE, np.uint8)
    truth[oedema & brain] = SubRegion.ED.label
    truth[((radius <= 12) | satellite) & brain] = SubRegion.ET.label
    truth[core] = SubRegion.NCR.label
    z, y, x = spacing
    matrix = np.array([[-x, 0, 0, 40.0], [0, -y, 0, 30.0], [0, 0, z, -20.0], [0, 0, 0, 1.0]])
    return Case(images, Geometry.from_matrix(FAKE_SHAPE, matrix), name="fake"), truth


@dataclass(frozen=True)
class Prompted:
    """One question that a `ThresholdPredictor` was asked: slice and box (x0, y0, x1, y1) of its volume."""

    sub_region: SubRegion
    slice_index: int
    box: tuple[float, float, float, float]


def _soft(values: np.ndarray, threshold: float, width: float = 0.02) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip((values - threshold) / width, -30, 30)))


class ThresholdPredictor:
    """A `Predictor` that looks at brightness: deterministic, instant, no torch.

    Enhancing tumour is bright on T1c, oedema bright on FLAIR (or T2), the necrotic core dark on T1c inside bright
    FLAIR; a sub-region whose sequences are missing is never found. Without a prompt the thresholds are strict, inside
    a box they are lenient, so that a larger box finds more. `prompts` records every box that was asked for,
    `encoded` and `segmented` count the expensive calls.
    """

    def __init__(self) -> None:
        self.prompts: list[Prompted] = []
        self.encoded = 0
        self.segmented = 0
        self.released = False
        self._images: dict[Modality, np.ndarray] = {}
        self._modalities: tuple[Modality, ...] = ()

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("thresholds", "0" * 64, "thresholds", "default", "cpu", trained=True)

    def encode(
        self,
        images: np.ndarray,
        modalities: tuple[Modality, ...],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        depth = images.shape[1]
        for done in range(1, depth + 1):
            if cancel is not None:
                cancel.check()
            if progress is not None:
                progress(Progress("Encoding slices", done / depth))
        self._images = {m: images[i] / 255 for i, m in enumerate(modalities)}
        self._modalities = modalities
        self.encoded += 1
        self.released = False

    def segment(self, slices: np.ndarray, *, cancel: CancelToken | None = None) -> SlicePrediction:
        if cancel is not None:
            cancel.check()
        self.segmented += len(slices)
        answer = np.stack([self._evidence(r, slices, prompted=False) for r in SUB_REGIONS])
        return SlicePrediction(answer, self._quality(answer))

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
        answer = self._evidence(sub_region, slices, prompted=True)
        for i, (z, box) in enumerate(zip(slices, boxes, strict=True)):
            if cancel is not None:
                cancel.check()
            x0, y0, x1, y1 = (round(float(v)) for v in box)
            inside = np.zeros(answer.shape[1:], bool)
            inside[y0:y1, x0:x1] = True
            answer[i] *= inside
            self.prompts.append(Prompted(sub_region, int(z), tuple(float(v) for v in box)))
        return SlicePrediction(answer, self._quality(answer))

    def attention(self) -> np.ndarray:
        """Weights that prefer each sub-region's own sequence, on a grid four times coarser."""
        depth, height, width = next(iter(self._images.values())).shape
        favourite = {SubRegion.NCR: Modality.T1C, SubRegion.ED: Modality.FLAIR, SubRegion.ET: Modality.T1C}
        weights = np.array([[3.0 if favourite[r] is m else 1.0 for m in self._modalities] for r in SUB_REGIONS])
        weights /= weights.sum(axis=1, keepdims=True)
        grid = np.ones((depth, -(-height // 4), -(-width // 4)))
        return (weights[:, :, None, None, None] * grid).astype(np.float16)

    def believe(self, probabilities: np.ndarray) -> None:
        """Thresholds believe what they see."""

    def look_ahead(self) -> bool:
        return False

    def release(self) -> None:
        self._images, self.released = {}, True

    def _evidence(self, sub_region: SubRegion, slices: np.ndarray, *, prompted: bool) -> np.ndarray:
        """Probability float32 (n, H, W); the caps of 0.98, 0.9 and 0.8 let ET win over NCR over ED."""
        t1c = self._images.get(Modality.T1C)
        fluid = self._images.get(Modality.FLAIR, self._images.get(Modality.T2))
        shape = (len(slices), *next(iter(self._images.values())).shape[1:])
        nothing = np.zeros(shape, np.float32)
        if sub_region is SubRegion.ED:
            return nothing if fluid is None else (0.8 * _soft(fluid[slices], 0.5)).astype(np.float32)
        if t1c is None:
            return nothing
        if sub_region is SubRegion.ET:
            return (0.98 * _soft(t1c[slices], 0.45 if prompted else 0.92)).astype(np.float32)
        if fluid is None:
            return nothing
        return (0.9 * _soft(-t1c[slices], -0.12) * _soft(fluid[slices], 0.5)).astype(np.float32)

    @staticmethod
    def _quality(answer: np.ndarray) -> np.ndarray:
        """How decided the slice's positive voxels are, 1 for a slice without any."""
        weight = (answer > 0.5).astype(np.float32)
        total = weight.sum(axis=(-2, -1))
        decided = (np.abs(2 * answer - 1) * weight).sum(axis=(-2, -1)) / np.maximum(total, 1)
        return np.where(total > 0, decided, 1).astype(np.float32)
