"""A very small network with random weights: everything runs as in earnest, and the answers mean nothing.

For self tests on a user's computer, which must neither download nor take long.
"""

from __future__ import annotations

import torch

from sofa_engine.api import ModelInfo
from sofa_engine.case import Case
from sofa_engine.model.config import EncoderConfig, ModelConfig
from sofa_engine.model.network import SofaModel
from sofa_engine.runtime import choose_device
from sofa_engine.session import SegmentationSession
from sofa_engine.torch_predictor import TorchPredictor

_SEED = 0


def tiny_model() -> SofaModel:
    """Return the network, the same one every time."""
    config = ModelConfig(
        arrangement="tiny",
        encoder=EncoderConfig(
            embed_dims=(16, 16, 32, 32),
            depths=(1, 1, 1, 1),
            num_heads=(1, 1, 2, 2),
            window_sizes=(4, 4, 4, 4),
            stem_stride=4,
        ),
        channels=64,
        decoder_mlp=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return SofaModel(config)


def open_tiny_session(case: Case, *, weights: str | None = None, device: str = "cpu") -> SegmentationSession:
    """Open a case with the tiny network.

    Args:
        case: what to segment.
        weights: not used; factories of sessions are given it.
        device: where to compute.
    """
    del weights
    target = choose_device(device)
    info = ModelInfo("tiny, random weights", "0" * 64, "tiny", "default", str(target), trained=False)
    return SegmentationSession(case, TorchPredictor(tiny_model().eval().to(target), info, device=target))
