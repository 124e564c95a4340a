"""Whether the model knows when it is wrong: calibration of its probabilities, ranking by its predicted IoU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from sofa_engine.cropping import brain_box
from sofa_engine.normalise import normalise_case
from sofa_engine.predictor import Predictor, SlicePrediction
from sofa_engine.progress import CancelToken
from sofa_engine.session import SegmentationSession
from sofa_engine.types import SUB_REGIONS
from sofa_training.working import WorkingCase

_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Of one case, per sub-region in the order of `SUB_REGIONS`.

    Attributes:
        case: its name.
        calibration_error: expected calibration error over the brain's voxels where probability or truth says
            anything (probability above 0.01 or truth), in 15 bins; NaN where there is none.
        rank: Spearman correlation, over slices where first pass or truth has the sub-region, between the IoU that the
            model predicts and the true one; NaN with fewer than 3 slices or without variation.
        bins: (3, 3, 15): per sub-region the voxels in each bin, the sum of their probabilities, and how many are truth.
    """

    case: str
    calibration_error: tuple[float, ...]
    rank: tuple[float, ...]
    bins: np.ndarray


class FirstAnswers:
    """A predictor that remembers what it said of slices without a box, so that asking again costs nothing."""

    def __init__(self, predictor: Predictor) -> None:
        """Take a predictor that nobody else uses."""
        self._predictor = predictor
        self._answers: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __getattr__(self, name: str) -> Any:
        """Return whatever else the predictor has."""
        return getattr(self._predictor, name)

    def encode(self, *arguments: Any, **more: Any) -> None:
        """Encode another case; see `Predictor.encode`."""
        self._answers.clear()
        self._predictor.encode(*arguments, **more)

    def segment(self, slices: np.ndarray, *, cancel: CancelToken | None = None) -> SlicePrediction:
        """Decode slices without a box, those that are not remembered; see `Predictor.segment`."""
        unknown = np.array([index for index in slices if int(index) not in self._answers], dtype=np.int64)
        if unknown.size:
            answer = self._predictor.segment(unknown, cancel=cancel)
            for place, index in enumerate(unknown):
                self._answers[int(index)] = answer.probabilities[:, place], answer.quality[:, place]
        known = [self._answers[int(index)] for index in slices]
        return SlicePrediction(*(np.stack(part, axis=1) for part in zip(*known, strict=True)))

    def release(self) -> None:
        """Forget the case."""
        self._answers.clear()
        self._predictor.release()


def calibration_bins(probability: np.ndarray, truth: np.ndarray, bins: int = _BINS) -> np.ndarray:
    """Return, for bins of equal width, the number of values, the sum of their probabilities, and how many are true.

    Args:
        probability: (n,), 0 to 1.
        truth: bool (n,).
        bins: how many.

    Returns:
        float64 (3, bins).
    """
    place = np.minimum((probability * bins).astype(int), bins - 1)
    weights = (None, probability, truth.astype(np.float64))
    return np.stack([np.bincount(place, weights=w, minlength=bins).astype(np.float64) for w in weights])


def expected_calibration_error(bins: np.ndarray) -> float:
    """Return the mean gap between stated probability and observed frequency, weighted by bin size; NaN for nothing.

    Args:
        bins: as `calibration_bins` returns them.
    """
    count, stated, observed = bins
    return float(np.abs(stated - observed).sum() / count.sum()) if count.any() else float("nan")


def measure_reliability(
    name: str, session: SegmentationSession, predictor: Predictor, working: WorkingCase
) -> Reliability:
    """Measure one case after the session's first pass.

    Args:
        name: of the case.
        session: after its first pass.
        predictor: the session's; a `FirstAnswers` is asked for nothing that it has answered already.
        working: the case with its truth.
    """
    crop = brain_box(normalise_case(working.case)[1])
    truth = working.truth[crop.slices]
    final = session.probabilities()[(slice(None), *crop.slices)].astype(np.float32)
    bins, rank = [], []
    hits = np.zeros((len(SUB_REGIONS), crop.shape[0]))
    unions = np.zeros_like(hits)
    quality = np.zeros_like(hits)
    step = session.options.batch_slices
    for at in range(0, crop.shape[0], step):
        part = np.arange(at, min(at + step, crop.shape[0]))
        answer = predictor.segment(part)
        for sub_region in SUB_REGIONS:
            found = answer.probabilities[sub_region.index] > session.options.tau
            there = truth[part] == sub_region.label
            hits[sub_region.index, part] = (found & there).sum(axis=(1, 2))
            unions[sub_region.index, part] = (found | there).sum(axis=(1, 2))
        quality[:, part] = answer.quality
    for sub_region in SUB_REGIONS:
        there = truth == sub_region.label
        probability = final[sub_region.index]
        counted = there | (probability > 0.01)
        bins.append(calibration_bins(probability[counted], there[counted]))
        some = unions[sub_region.index] > 0
        rank.append(_spearman(quality[sub_region.index][some], (hits / np.maximum(unions, 1))[sub_region.index][some]))
    return Reliability(name, tuple(map(expected_calibration_error, bins)), tuple(rank), np.stack(bins))


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    if first.size < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)
