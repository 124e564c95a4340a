"""Sessions that the engine process opens in tests: the real `SegmentationSession` on a model made of thresholds."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from fakes import ThresholdPredictor
from sofa_engine.case import Case
from sofa_engine.session import SegmentationSession
from sofa_engine.types import SubRegion


class SlowPredictor(ThresholdPredictor):
    """Takes as long as a small GPU: a pause for each encoded slice and each batch of prompts."""

    encode_s = 0.03
    prompt_s = 0.05

    def encode(self, images, modalities, spacing=(1.0, 1.0, 1.0), *, progress=None, cancel=None):
        def paused(step):
            time.sleep(self.encode_s)
            progress(step)

        super().encode(images, modalities, progress=paused, cancel=cancel)

    def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None):
        time.sleep(self.prompt_s)
        return super().prompt(sub_region, slices, boxes, cancel=cancel)


class SuicidalPredictor(ThresholdPredictor):
    """Kills its own process, as the kernel does when memory is short, once a box spans all of axis 2."""

    def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None):
        width = next(iter(self._images.values())).shape[2]
        if np.any(boxes[:, 2] - boxes[:, 0] >= width):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prompt(sub_region, slices, boxes, cancel=cancel)


class BrokenPredictor(ThresholdPredictor):
    """Has a bug that shows in necrotic core."""

    def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None):
        if sub_region is SubRegion.NCR and len(boxes) == 1:
            raise RuntimeError("secret detail of the inside")
        return super().prompt(sub_region, slices, boxes, cancel=cancel)


def open_quick(case: Case, *, weights: Path | None, device: str) -> SegmentationSession:
    return SegmentationSession(case, ThresholdPredictor())


def open_slow(case: Case, *, weights: Path | None, device: str) -> SegmentationSession:
    return SegmentationSession(case, SlowPredictor())


def open_suicidal(case: Case, *, weights: Path | None, device: str) -> SegmentationSession:
    return SegmentationSession(case, SuicidalPredictor())


def open_broken(case: Case, *, weights: Path | None, device: str) -> SegmentationSession:
    return SegmentationSession(case, BrokenPredictor())
