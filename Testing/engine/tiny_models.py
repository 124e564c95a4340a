"""Networks small enough to build in every test; random weights, whose answers mean nothing."""

from __future__ import annotations

import torch

from sofa_engine.model.config import EncoderConfig, ModelConfig
from sofa_engine.model.network import SofaModel

TINY_ENCODER = EncoderConfig(
    embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 2), window_sizes=(4, 4, 4, 4), stem_stride=4
)


def tiny_config(**changes: object) -> ModelConfig:
    """LiteMedSAM's topology with a handful of channels."""
    options: dict[str, object] = {
        "arrangement": "tiny",
        "encoder": TINY_ENCODER,
        "channels": 32,
        "decoder_mlp": 32,
        "decoder_heads": 4,
    }
    return ModelConfig.model_validate(options | changes)


def tiny_model(seed: int = 0, **changes: object) -> SofaModel:
    """A tiny network in evaluation mode with reproducible random weights."""
    torch.manual_seed(seed)
    return SofaModel(tiny_config(**changes)).eval()
