"""Weights that anyone can make again, for which the official LiteMedSAM code's answers are kept in data/."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"


def official_state_dict() -> dict[str, torch.Tensor]:
    """A state_dict with the official checkpoint's keys, shapes and dtypes, drawn from each key's name."""
    keys = json.loads((DATA / "litemedsam_keys.json").read_text(encoding="utf-8"))
    entries = keys.items() if isinstance(keys, dict) else ((k["key"], k) for k in keys)
    state = {}
    for key, entry in entries:
        shape = entry["shape"] if isinstance(entry, dict) else entry[0]
        dtype = entry["dtype"] if isinstance(entry, dict) else entry[1]
        if "attention_bias_idxs" in key:
            continue
        value = _draw(key, tuple(shape))
        state[key] = torch.from_numpy(np.asarray(value)).to(getattr(torch, str(dtype).removeprefix("torch.")))
    return state


def _draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
    r = np.random.RandomState(zlib.crc32(key.encode()))
    if "num_batches_tracked" in key:
        return np.zeros(shape)
    if "running_var" in key:
        return r.rand(*shape) * 0.5 + 0.75
    if "running_mean" in key:
        return r.randn(*shape) * 0.1
    if "attention_biases" in key:
        return r.randn(*shape) * 0.5
    if len(shape) == 1 and key.endswith("weight"):
        return 1 + 0.1 * r.randn(*shape)
    if len(shape) <= 1:
        return r.randn(*shape) * 0.1
    return r.randn(*shape) / math.sqrt(math.prod(shape[1:]))
