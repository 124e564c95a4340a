"""Where and how the network runs, on machines that are not at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sofa_engine import loading, runtime
from sofa_engine.errors import OutOfMemoryError
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


@pytest.mark.parametrize(
    ("card", "capability", "precision"),
    [
        ("GTX 1080", (6, 1), torch.float32),
        ("T4", (7, 5), torch.float32),
        ("A100", (8, 0), torch.bfloat16),
        ("RTX 4090", (8, 9), torch.bfloat16),
        ("H100", (9, 0), torch.bfloat16),
    ],
)
def test_a_gpu_computes_in_bfloat16_only_where_it_does_not_emulate_it(
    monkeypatch: pytest.MonkeyPatch, card: str, capability: tuple[int, int], precision: torch.dtype
) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)  # what PyTorch says of them all
    assert choose_precision(torch.device("cuda", 1)) is precision, card
    assert asked == [torch.device("cuda", 1)], "the card that is used, not the first one"


def test_a_gpu_that_others_have_filled_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(loading, "TorchPredictor", full)
    with pytest.raises(OutOfMemoryError, match="close other programs that use it"):
        loading.load_predictor(checkpoint, "cpu")
