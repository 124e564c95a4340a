"""Tumours that no patient had, on the localiser's cells: another patient's added, or one's own without enhancement."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sofa_engine.types import MODALITIES, SUB_REGIONS, Modality, SubRegion
from sofa_training.coarse_case import CoarseCase
from sofa_training.transplant import moved

#: Cells by which a transplanted tumour may move along each axis.
_ROAM = 4
#: Share of a cell from which it is taken for tumour that is transplanted.
_TUMOUR = 0.3


def transplanted_cells(cells: Tensor, case: CoarseCase, donor: CoarseCase, rng: np.random.Generator) -> Tensor:
    """Add the donor's tumour at about its own place in the atlas, on either side, to a case.

    Args:
        cells: float32 (7, D, H, W) of the case.
        case: whose they are.
        donor: whose tumour to take.
        rng: generator.

    Returns:
        A new array; the one given where the donor is the case or lacks a sequence that the case has.
    """
    if donor.name == case.name or bool((case.present & ~donor.present).any()):
        return cells
    given = donor.cells.numpy()
    if rng.random() < 0.5:
        given = given[..., ::-1]
    move = np.subtract(donor.start, case.start)
    if rng.random() < 0.5:
        move = move + rng.integers(-_ROAM, _ROAM + 1, 3)
    there = torch.from_numpy(moved(given, tuple(int(n) for n in move), tuple(cells.shape[1:])).astype(np.float32))
    images, shares = cells.split([len(MODALITIES), len(SUB_REGIONS)])
    new_images, new_shares = there.split([len(MODALITIES), len(SUB_REGIONS)])
    brain = (images.amax(dim=0) > 0) & (new_images.amax(dim=0) > 0)
    tumour = (new_shares.sum(dim=0) > _TUMOUR) & brain
    weight = F.max_pool3d(tumour.float()[None], 3, 1, 1)
    for _ in range(2):
        weight = F.avg_pool3d(weight, 3, 1, 1)
    weight = (1.5 * weight[0]).clamp(max=1) * brain
    return torch.cat([torch.lerp(images, new_images, weight), torch.where(tumour, new_shares, shares)])


def unenhanced_cells(cells: Tensor, present: np.ndarray) -> Tensor:
    """Make the tumour one whose core does not enhance: T1c there is as bright as T1 after the brain's own gain.

    Few gliomas of a collection are so, and a network that meets but one of them takes dark cores for oedema.

    Args:
        cells: float32 (7, D, H, W) of a case.
        present: bool (4,), sequences that it has.

    Returns:
        A new array; the one given without T1 or T1c.
    """
    t1, t1c = MODALITIES.index(Modality.T1), MODALITIES.index(Modality.T1C)
    if not (present[t1] and present[t1c]):
        return cells
    changed = cells.clone()
    shares = changed[len(MODALITIES) :]
    enhancing = shares[SubRegion.ET.index]
    healthy = (shares.sum(dim=0) == 0) & (cells[t1] > 0)
    gain = cells[t1c][healthy].mean() / cells[t1][healthy].mean().clamp(min=1e-3)
    weight = F.avg_pool3d(F.max_pool3d(enhancing[None], 3, 1, 1), 3, 1, 1)[0]
    changed[t1c] = torch.lerp(cells[t1c], cells[t1c].minimum(cells[t1] * gain), weight)
    shares[SubRegion.NCR.index] += enhancing
    enhancing.zero_()
    return changed
