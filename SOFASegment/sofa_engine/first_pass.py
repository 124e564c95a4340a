"""Algorithm 1 on a whole crop: segment without a prompt, box what was found, segment again with the boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sofa_engine.anatomy import settle
from sofa_engine.options import SessionOptions
from sofa_engine.predictor import Predictor
from sofa_engine.progress import CancelToken
from sofa_engine.prompts import clean_mask, slice_boxes
from sofa_engine.stages import Stages
from sofa_engine.types import SUB_REGIONS

FIND, REFINE = "Finding the tumour", "Refining with its boxes"


@dataclass(frozen=True)
class FirstPass:
    """Answer of both passes: float16 probabilities (3, D, H, W) and float32 predicted IoU (3, D), over the crop."""

    probabilities: np.ndarray
    quality: np.ndarray


def run_first_pass(
    predictor: Predictor,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    options: SessionOptions,
    *,
    stages: Stages,
    cancel: CancelToken | None = None,
) -> FirstPass:
    """Segment the crop that `predictor` has encoded (Algorithm 1, eq. 4-6).

    A sub-region is prompted only in the slices where its cleaned first-pass mask has voxels; elsewhere it is absent,
    and its probability is kept below `options.tau` there as a measure of doubt.

    Args:
        predictor: after `encode`.
        shape: the crop's (D, H, W).
        spacing: mm between voxels (z, y, x).
        options: thresholds and batches.
        stages: told about the stages `FIND` and `REFINE`.
        cancel: looked at between batches.

    Raises:
        CancelledError: the token was cancelled.
    """
    depth = shape[0]
    probabilities = np.zeros((len(SUB_REGIONS), *shape), dtype=np.float16)
    quality = np.zeros((len(SUB_REGIONS), depth), dtype=np.float32)
    for batch in _batches(np.arange(depth), options.batch_slices):
        _check(cancel)
        answer = predictor.segment(batch, cancel=cancel)
        probabilities[:, batch] = np.nan_to_num(answer.probabilities, nan=0.0)
        quality[:, batch] = np.nan_to_num(answer.quality, nan=0.0)
        stages.tell(FIND, (batch[-1] + 1) / depth)

    tau = np.float16(options.tau)
    present = np.zeros((len(SUB_REGIONS), depth), dtype=bool)
    for done, sub_region in enumerate(SUB_REGIONS):
        mine = probabilities[sub_region.index]
        found = clean_mask(mine > tau, spacing, options.clean_mm3)
        slices, boxes = slice_boxes(found, options.grow_px)
        present[sub_region.index, slices] = True
        absent = ~present[sub_region.index]
        mine[absent] = np.minimum(mine[absent], tau)
        for at in _batches(np.arange(len(slices)), options.batch_slices):
            _check(cancel)
            answer = predictor.prompt(sub_region, slices[at], boxes[at], stated=False, cancel=cancel)
            mine[slices[at]] = np.nan_to_num(answer.probabilities, nan=0.0)
            quality[sub_region.index, slices[at]] = np.nan_to_num(answer.quality, nan=0.0)
            stages.tell(REFINE, (done + (at[-1] + 1) / len(slices)) / len(SUB_REGIONS))
    if options.anatomy:
        settle(probabilities, present, spacing, options.tau)
        predictor.believe(probabilities)
    stages.tell(REFINE, 1.0)
    return FirstPass(probabilities, quality)


def _batches(items: np.ndarray, size: int) -> list[np.ndarray]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _check(cancel: CancelToken | None) -> None:
    if cancel is not None:
        cancel.check()
