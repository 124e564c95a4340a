"""How many corrected boxes until it is good enough: a clinician simulated with boxes of the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sofa_engine.prompts import lesion_boxes
from sofa_engine.session import SegmentationSession
from sofa_engine.types import SUB_REGIONS, Box, SubRegion
from sofa_training.metrics import overlap
from sofa_training.protocols import person_box


@dataclass(frozen=True)
class EditCurve:
    """Dice after 0, 1, 2, ... corrected boxes.

    Attributes:
        case: its name.
        dice: mean over the sub-regions that the truth has, after each edit; the last value holds from there on.
    """

    case: str
    dice: tuple[float, ...]

    def edits_to(self, target: float) -> int | None:
        """Return how many edits reach the target, or None if none does."""
        return next((count for count, dice in enumerate(self.dice) if dice >= target), None)


def correct_until(session: SegmentationSession, truth: np.ndarray, name: str, most: int) -> EditCurve:
    """Correct the sub-region with most wrong voxels, again and again.

    A first correction gives the sub-region its 3D box (or removes its boxes where the truth has none); a later one
    replaces that by a box per lesion. Every correction is one edit.

    Args:
        session: after its first pass; its state changes.
        truth: uint8 (D, H, W).
        name: of the case, which seeds the boxes' jitter.
        most: edits at most.
    """
    given: dict[SubRegion, int] = dict.fromkeys(SUB_REGIONS, 0)
    curve = [_mean_dice(session.labels(), truth)]
    for _ in range(most):
        labels = session.labels()
        wrong = {
            r: int(np.count_nonzero((labels == r.label) != (truth == r.label))) for r in SUB_REGIONS if given[r] < 2
        }
        if not wrong or max(wrong.values()) == 0:
            break
        worst = max(wrong, key=lambda r: wrong[r])
        mask = truth == worst.label
        boxes = _boxes_for(mask, f"{name} {worst.value.upper()}", given[worst], session)
        for _ in session.refine(worst, boxes):
            pass
        given[worst] += 1
        curve.append(_mean_dice(session.labels(), truth))
    return EditCurve(name, tuple(curve))


def _boxes_for(mask: np.ndarray, key: str, given: int, session: SegmentationSession) -> list[Box]:
    if given:
        options = session.options
        lesions = lesion_boxes(
            mask, session.geometry.spacing, apart_mm=options.lesion_apart_mm, min_mm3=options.lesion_mm3
        )
        grown = [box.grown((0, 1, 1), mask.shape) for box in lesions]  # type: ignore[arg-type]
        if grown:
            return grown
    box = person_box(mask, key)
    return [box] if box is not None else []


def _mean_dice(labels: np.ndarray, truth: np.ndarray) -> float:
    present = [r for r in SUB_REGIONS if (truth == r.label).any()]
    return float(np.mean([overlap(labels == r.label, truth == r.label)[0] for r in present])) if present else 1.0
