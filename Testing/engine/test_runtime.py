"""Where and how the network runs, on machines that are not at hand."""

from __future__ import annotations

import pytest
import torch

from sofa_engine import runtime
from sofa_engine.runtime import choose_precision


def test_without_onednn_a_processor_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        """Operators of a PyTorch that was built without oneDNN, as for macOS."""

        def __getattr__(self, name: str) -> object:
            raise AttributeError(f"'_OpNamespace' 'mkldnn' object has no attribute '{name}'")

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", Absent())
    runtime._bfloat16_pays.cache_clear()
    try:
        assert choose_precision(torch.device("cpu")) is torch.float32
    finally:
        runtime._bfloat16_pays.cache_clear()
