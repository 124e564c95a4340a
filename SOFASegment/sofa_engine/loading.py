"""From a checkpoint and a case to a session that is ready for its first pass."""

from __future__ import annotations

from pathlib import Path

import torch

from sofa_engine.api import ModelInfo
from sofa_engine.case import Case
from sofa_engine.memory import told_when_short
from sofa_engine.model.checkpoint import load_checkpoint
from sofa_engine.options import SessionOptions
from sofa_engine.runtime import choose_device
from sofa_engine.session import SegmentationSession
from sofa_engine.torch_predictor import TorchPredictor
from sofa_engine.weights import default_checkpoint


@told_when_short
def load_predictor(
    weights: Path | None = None,
    device: str = "auto",
    *,
    precision: torch.dtype | None = None,
    feature_bytes: int | None = None,
) -> TorchPredictor:
    """Load a model for one session.

    Args:
        weights: checkpoint; the one that ships with SOFA where None.
        device: "auto", "cuda", "cuda:1", "mps" or "cpu".
        precision: what to compute in; chosen by measurement where None.
        feature_bytes: memory for a case's features, beyond it they go to a temporary file; chosen by the device's
            memory where None.

    Raises:
        WeightsError: the checkpoint cannot be used.
        InputError: the device is not there.
        OutOfMemoryError: its memory does not hold the model.
    """
    target = choose_device(device)
    model, info = load_checkpoint(weights if weights is not None else default_checkpoint())
    config = model.config
    described = ModelInfo(
        name=info.name,
        sha256=info.sha256,
        arrangement=config.arrangement,
        mode=config.mode.value,
        device=str(target),
        trained=info.trained,
    )
    return TorchPredictor(model, described, device=target, precision=precision, feature_bytes=feature_bytes)


def open_session(
    case: Case,
    *,
    weights: Path | None = None,
    device: str = "auto",
    options: SessionOptions | None = None,
    feature_bytes: int | None = None,
) -> SegmentationSession:
    """Open a case with a freshly loaded model; see `load_predictor` for the arguments and errors."""
    return SegmentationSession(case, load_predictor(weights, device, feature_bytes=feature_bytes), options)
