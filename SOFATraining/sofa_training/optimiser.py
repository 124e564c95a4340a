"""Which weights move, how fast, and when."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sofa_training.config import OptimiserConfig

#: Parts that LiteMedSAM does not have.
_NEW = ("attention.", "first_tokens", "image_encoder.conditioning", "mask_decoder.detail", "box_prior")
#: Weights with two axes that are tables of tokens or offsets and no linear maps: not decayed.
_TABLES = ("attention_biases", "tokens", "token.", "embed.", "embeddings", "conditioning", "attention.embedding")


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Return the optimiser of the trainable weights, in groups by decay and newness.

    Each group keeps its factor on the learning rate under "factor".
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and not any(table in name for table in _TABLES)
            groups.setdefault((decays, name.startswith(_NEW)), []).append(parameter)
    parts = [
        {
            "params": parameters,
            "weight_decay": config.decay if decays and config.name == "adamw" else 0.0,
            "factor": config.new_layers if new else 1.0,
        }
        for (decays, new), parameters in sorted(groups.items())
    ]
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(parts, lr=config.rate)


def learning_rate(step: int, total: int, config: OptimiserConfig) -> float:
    """Return the rate of an optimiser step, 0 to `total` - 1: linear warm-up, then cosine decay.

    A function of the step alone, so that a resumed run needs no scheduler's state.
    """
    warm = min(1.0, (step + 1) / (config.warmup + 1))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total))))
    return config.rate * warm * (config.final + (1 - config.final) * cosine)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the base rate, times each group's factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def build_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """Return a moving average of all weights and buffers, or None where `decay` is 0."""
    if decay == 0:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
