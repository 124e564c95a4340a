"""One label per voxel from three one-vs-all probabilities (tau = 0.5), and what a refinement may change of it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from sofa_engine.types import SUB_REGIONS, SubRegion

#: Who wins between equal probabilities: enhancing tumour, then necrotic core, then oedema.
PRIORITY: tuple[SubRegion, ...] = (SubRegion.ET, SubRegion.NCR, SubRegion.ED)

_LABELS = np.array([0, *(r.label for r in PRIORITY)], dtype=np.uint8)


def combine(
    probabilities: np.ndarray,
    tau: float = 0.5,
    *,
    excluded: Collection[SubRegion] = (),
    stated: np.ndarray | None = None,
) -> np.ndarray:
    """Return the most probable sub-region above `tau` at each voxel.

    Oedema that is asked for in a box knows nothing of the core's boxes inside it, so a part of the core that a person
    boxed comes before oedema wherever it is present.

    Args:
        probabilities: float (3, ...), order of `SUB_REGIONS`; what is not a number counts as 0.
        tau: a sub-region is present where its probability exceeds this, in the probabilities' own precision.
        excluded: sub-regions that may not be chosen.
        stated: bool (3, ...), where a person has drawn a box for each sub-region; None is nowhere.

    Returns:
        uint8 (...), values of `SubRegion.label` and 0.
    """
    best = np.full(probabilities.shape[1:], probabilities.dtype.type(tau))
    winner = np.zeros(best.shape, dtype=np.uint8)
    for place, sub_region in enumerate(PRIORITY, start=1):
        if sub_region not in excluded:
            candidate = probabilities[sub_region.index]
            better = candidate > best  # False for NaN
            if sub_region is SubRegion.ED and stated is not None:
                for earlier, part in enumerate(PRIORITY[: place - 1], start=1):
                    better &= ~((winner == earlier) & stated[part.index])
            winner[better] = place
            best[better] = candidate[better]
    return _LABELS[winner]


def recombine(
    labels: np.ndarray,
    probabilities: np.ndarray,
    sub_region: SubRegion,
    *,
    tau: float = 0.5,
    locked: Collection[SubRegion] = (),
    stated: np.ndarray | None = None,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Return the labels after one sub-region's probabilities changed.

    Only voxels that the sub-region wins or loses change; borders between the others stay as they were. A voxel that it
    loses goes to the most probable of the others. Locked sub-regions neither lose nor gain a voxel.

    Args:
        labels: uint8 (...), before.
        probabilities: float (3, ...), after.
        sub_region: the one that was refined.
        tau: as in `combine`.
        locked: sub-regions whose voxels are settled.
        stated: as in `combine`.
        kept: bool (...), voxels that keep their label whatever the model says, such as those painted by hand.

    Returns:
        uint8 (...), a new array.
    """
    answer = combine(probabilities, tau, excluded=[r for r in locked if r is not sub_region], stated=stated)
    mine = np.uint8(sub_region.label)
    changes = (answer == mine) != (labels == mine)
    for other in SUB_REGIONS:
        if other in locked and other is not sub_region:
            changes &= labels != other.label
    if kept is not None:
        changes &= ~kept
    return np.where(changes, answer, labels)
