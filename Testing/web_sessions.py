"""Sessions that the engine process opens in these tests: the real session on models that need no training."""

from __future__ import annotations

import time
from pathlib import Path

import SimpleITK as sitk

from expert_predictor import ExpertPredictor
from fakes import ThresholdPredictor
from sofa_engine.case import Case
from sofa_engine.itk_images import to_itk
from sofa_engine.session import SegmentationSession

#: Long enough for a user to press Cancel, to reload, or for somebody to kill the engine.
_SLICE_S = 0.25


class UnhurriedPredictor(ThresholdPredictor):
    """Takes its time to encode, as a large case does."""

    def encode(self, images, modalities, spacing=(1.0, 1.0, 1.0), *, progress=None, cancel=None):
        def paused(step):
            time.sleep(_SLICE_S)
            progress(step)

        super().encode(images, modalities, progress=paused, cancel=cancel)


def open_quick(case: Case, *, weights: Path | None, device: str) -> SegmentationSession:
    return SegmentationSession(case, ThresholdPredictor())


def open_unhurried(case: Case, *, weights: Path | None, device: str) -> SegmentationSession:
    return SegmentationSession(case, UnhurriedPredictor())


def open_expert(case: Case, *, weights: Path | None, device: str) -> SegmentationSession:
    """Look the answers up in an expert's mask, whose file is given as the weights."""
    truth = sitk.Resample(sitk.ReadImage(str(weights)), _grid(case), sitk.Transform(), sitk.sitkNearestNeighbor)
    return SegmentationSession(case, ExpertPredictor(case, sitk.GetArrayFromImage(truth).astype("uint8")))


def _grid(case: Case) -> sitk.Image:
    return to_itk(next(iter(case.images.values())), case.geometry)
