"""What makes the engine fast does not change its answers, shown on real slices with the checkpoint that ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sofa_engine import torch_predictor
from sofa_engine.cropping import brain_box
from sofa_engine.loading import load_predictor
from sofa_engine.normalise import normalise_case
from sofa_engine.opening import open_case
from sofa_engine.torch_predictor import TorchPredictor
from sofa_engine.types import MODALITIES, SubRegion

pytestmark = pytest.mark.slow
#: Slices of BraTS2021_00000 through the middle of its tumour; more than a batch on the CPU.
SLICES = slice(72, 78)
#: What bfloat16 may cost a mask.
HALF_PRECISION_DICE = 0.99


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Dice of two probability maps at one half; 1 where both are empty."""
    a, b = a > 0.5, b > 0.5
    return 2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 1.0


@pytest.fixture(scope="module")
def brain(brats_case: Path) -> tuple[np.ndarray, np.ndarray]:
    """The slices cut to the brain, and on their whole frame, float32 (4, D, H, W)."""
    images, mask = normalise_case(open_case(brats_case))
    _, rows, columns = brain_box(mask).slices
    whole = np.ascontiguousarray(images[:, SLICES])
    return np.ascontiguousarray(whole[:, :, rows, columns]), whole


def answers(predictor: TorchPredictor, images: np.ndarray) -> list[np.ndarray]:
    """Return what a user sees: first pass, then one box per slice for each sub-region, (6, D, H, W)."""
    predictor.encode(images, MODALITIES)
    slices = np.arange(images.shape[1])
    first = predictor.segment(slices).probabilities
    height, width = images.shape[2:]
    box = np.array([0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height], np.float32)
    boxes = np.tile(box, (len(slices), 1))
    return [*first, *(predictor.prompt(r, slices, boxes).probabilities for r in SubRegion)]


@pytest.fixture(scope="module")
def plain(brain: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """Answers without any of it: norms apart, contiguous memory, PyTorch's attention, single slices, float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_predictor, "prepare_for_inference", lambda model: model.eval())
        predictor = load_predictor(device="cpu", precision=torch.float32)
    predictor._batch, predictor._keep_dtype = 1, torch.float32
    found = answers(predictor, brain[0])
    assert all((answer > 0.5).sum() > 50 for answer in found)  # slices with something to find in them
    return found


def test_folding_layout_batches_and_kept_halves_change_nothing(
    brain: tuple[np.ndarray, np.ndarray], plain: list[np.ndarray]
) -> None:
    for fast, slow in zip(answers(load_predictor(device="cpu", precision=torch.float32), brain[0]), plain, strict=True):
        assert dice(fast, slow) > 0.998
        assert np.abs(fast - slow).max() < 0.05
        assert np.abs(fast - slow).mean() < 1e-4


def test_half_precision_keeps_the_segmentation(brain: tuple[np.ndarray, np.ndarray], plain: list[np.ndarray]) -> None:
    for fast, slow in zip(
        answers(load_predictor(device="cpu", precision=torch.bfloat16), brain[0]), plain, strict=True
    ):
        assert dice(fast, slow) >= HALF_PRECISION_DICE
