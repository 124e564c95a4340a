"""The whole way for one case, from volumes as they came to labels on their own grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sofa_engine.api import Session
from sofa_engine.box_file import BoxFile
from sofa_engine.case import Case
from sofa_engine.options import SessionOptions
from sofa_engine.predictor import Predictor
from sofa_engine.progress import CancelToken, Progress, ProgressCallback
from sofa_engine.session import SegmentationSession
from sofa_engine.types import SUB_REGIONS
from sofa_engine.working_grid import WorkingGrid, labels_to_reference, probabilities_to_reference, to_working

#: Opens a case where no predictor is at hand: on an engine process, here or elsewhere.
SessionOpener = Callable[[Case], Session]

#: Share of the progress that the first pass is where boxes follow.
_FIRST_PASS = 0.9


@dataclass(frozen=True)
class Outcome:
    """A case that has been segmented.

    Attributes:
        case: the volumes as they came.
        working: the case on the grid that the model saw.
        session: still open, on the working grid; whoever got the outcome closes it.
        grid: the way between both grids.
        timings_s: seconds of each stage.
    """

    case: Case
    working: Case
    session: Session
    grid: WorkingGrid
    timings_s: Mapping[str, float]

    def labels(self) -> np.ndarray:
        """Return the label map on the case's own grid, uint8 (D, H, W), values of `SubRegion.label` and 0."""
        return labels_to_reference(self.session.labels(), self.grid)

    def probabilities(self) -> np.ndarray:
        """Return the probabilities on the case's own grid, float16 (3, D, H, W)."""
        return probabilities_to_reference(self.session.probabilities(), self.grid)


def segment_case(
    case: Case,
    predictor: Predictor | SessionOpener,
    *,
    boxes: BoxFile | None = None,
    options: SessionOptions | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Outcome:
    """Segment a case without a user: working grid, first pass, and refinement inside boxes where they are given.

    Args:
        case: the volumes as they came.
        predictor: a model that no other session uses at the same time, or what opens a session elsewhere.
        boxes: replace the first pass's boxes of the sub-regions that they mention.
        options: choices for a predictor; those of the model's mode where None.
        progress: told from 0 to 1.
        cancel: looked at between batches.

    Raises:
        InputError: the images or boxes cannot be used.
        CancelledError: the token was cancelled.
    """
    timings: dict[str, float] = {}
    start = time.perf_counter()
    working = to_working(case)
    timings["working grid"] = time.perf_counter() - start
    prompted = {} if boxes is None else boxes.on(working.geometry)

    def scaled(low: float, high: float) -> ProgressCallback | None:
        if progress is None:
            return None
        return lambda step: progress(Progress(step.stage, low + (high - low) * step.fraction, step.remaining_s))

    session = predictor(working) if callable(predictor) else SegmentationSession(working, predictor, options)
    try:
        start = time.perf_counter()
        session.first_pass(progress=scaled(0, _FIRST_PASS if prompted else 1), cancel=cancel)
        timings["first pass"] = time.perf_counter() - start
        start = time.perf_counter()
        for done, sub_region in enumerate(r for r in SUB_REGIONS if r in prompted):
            share = (1 - _FIRST_PASS) / len(prompted)
            told = scaled(_FIRST_PASS + done * share, _FIRST_PASS + (done + 1) * share)
            for _ in session.refine(sub_region, prompted[sub_region], progress=told, cancel=cancel):
                pass
        if prompted:
            timings["refinement"] = time.perf_counter() - start
    except BaseException:
        session.close()
        raise
    return Outcome(case, working, session, WorkingGrid.of(case.geometry), timings)
