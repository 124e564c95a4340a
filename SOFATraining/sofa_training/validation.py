"""Dice of whole prepared volumes between epochs: the session's own first and second pass, nothing of the truth used."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sofa_engine.api import ModelInfo
from sofa_engine.combine import combine
from sofa_engine.first_pass import FIND, REFINE, run_first_pass
from sofa_engine.model.network import SofaModel
from sofa_engine.options import SessionOptions
from sofa_engine.stages import Stages
from sofa_engine.torch_predictor import TorchPredictor
from sofa_engine.types import MODALITIES
from sofa_training.metrics import overlap
from sofa_training.prepared import PreparedCase
from sofa_training.regions import REGIONS, region_mask

PREVIEW = "preview.npz"
_PRECISION = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class CaseDice:
    """Dice of one validation case per region of `REGIONS`; NaN where the truth lacks the region."""

    case: str
    dice: tuple[float, ...]


@dataclass(frozen=True)
class Preview:
    """One slice of a validation case to look at: grey values, truth and found labels, each uint8 (H, W)."""

    case: str
    index: int
    image: np.ndarray
    truth: np.ndarray
    found: np.ndarray

    def write(self, folder: Path) -> None:
        """Write it for whoever watches the run, beside its name and then renamed."""
        part = folder / (PREVIEW + ".part")
        with part.open("wb") as file:
            np.savez(file, **vars(self))
        part.replace(folder / PREVIEW)


def predictor_of(model: SofaModel, device: torch.device, precision: str) -> TorchPredictor:
    """Return a predictor over a copy of a model that is being trained."""
    frozen = SofaModel(copy.deepcopy(model.config))
    frozen.load_state_dict(model.state_dict())
    info = ModelInfo("in training", "", model.config.arrangement, model.config.mode.value, str(device), trained=True)
    return TorchPredictor(frozen, info, device=device, precision=_PRECISION[precision])


def validate(
    predictor: TorchPredictor,
    cases: Sequence[PreparedCase],
    modalities: Sequence[str],
    stop: Callable[[], bool] = lambda: False,
) -> tuple[list[CaseDice], Preview | None]:
    """Segment prepared cases without any prompt of the truth.

    Args:
        predictor: of the model.
        cases: those of the validation side; every voxel of the brain counts, and all of the truth is in the crop.
        modalities: values of the sequences that the run trains on.
        stop: asked before each case; where it says so, the rest is left out.

    Returns:
        Dice per case that was segmented, and the first case's slice with most tumour.
    """
    rows: list[CaseDice] = []
    preview: Preview | None = None
    options = SessionOptions.of_mode(predictor.info.mode)
    for case in cases:
        if stop():
            break
        given = [m for i, m in enumerate(MODALITIES) if case.present[i] and m.value in modalities]
        images = np.stack([case.images[MODALITIES.index(m)] for m in given]).astype(np.float32)
        predictor.encode(images, tuple(given), case.spacing)
        stages = Stages(None, {FIND: 1.0, REFINE: 1.0})
        found = run_first_pass(predictor, case.truth.shape, case.spacing, options, stages=stages)  # type: ignore[arg-type]
        labels = combine(found.probabilities, options.tau)
        truth = np.asarray(case.truth)
        rows.append(CaseDice(case.name, tuple(_dice(labels, truth, region) for region in REGIONS)))
        if preview is None:
            index = int(np.count_nonzero(truth, axis=(1, 2)).argmax())
            preview = Preview(case.name, index, images[-1, index].astype(np.uint8), truth[index], labels[index])
    predictor.release()
    return rows, preview


def mean_dice(rows: Sequence[CaseDice]) -> dict[str, float]:
    """Return the mean Dice per region over the cases whose truth has it; regions that no case has are left out."""
    table = np.array([row.dice for row in rows], dtype=np.float64).reshape(-1, len(REGIONS))
    return {
        region: float(np.nanmean(column))
        for region, column in zip(REGIONS, table.T, strict=True)
        if np.isfinite(column).any()
    }


def _dice(labels: np.ndarray, truth: np.ndarray, region: str) -> float:
    there = region_mask(truth, region)
    return overlap(region_mask(labels, region), there)[0] if there.any() else float("nan")
