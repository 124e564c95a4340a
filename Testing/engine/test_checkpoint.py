"""Checkpoints: ours, the published ones, and everything else."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from reference_weights import official_state_dict
from tiny_models import tiny_model

from sofa_engine.errors import OutputError, WeightsError
from sofa_engine.model.checkpoint import load_checkpoint, save_checkpoint
from sofa_engine.weights import sha256_of


def test_our_checkpoint_comes_back_with_its_arrangement_and_weights(tmp_path: Path) -> None:
    model = tiny_model(modality_conditioning="stages", detail=3)
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(model, path, name="Tiny", trained=False, notes={"cases": 3})
    loaded, info = load_checkpoint(path)
    assert (info.name, info.trained, info.notes, info.sha256) == ("Tiny", False, {"cases": 3}, sha256_of(path))
    assert loaded.config == model.config
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value)


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path: Path) -> None:
    model = tiny_model()
    save_checkpoint(model, tmp_path / "full.safetensors", name="full")
    save_checkpoint(model, tmp_path / "half.safetensors", name="half", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "full.safetensors").stat().st_size
    loaded, _ = load_checkpoint(tmp_path / "half.safetensors")
    assert all(p.dtype == torch.float32 for p in loaded.parameters())


def test_a_training_checkpoint_of_litemedsam_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "medsam_lite_best.pth"
    torch.save({"model": official_state_dict(), "epoch": 3, "loss": 0.1}, path)
    model, info = load_checkpoint(path)
    assert model.config.arrangement == "litemedsam"
    assert model.config.normalisation == "slice"
    assert info.name == "medsam_lite_best"


def test_stock_weights_start_with_equal_attention_to_all_sequences(tmp_path: Path) -> None:
    torch.save(official_state_dict(), tmp_path / "lite_medsam.pth")
    model, _ = load_checkpoint(tmp_path / "lite_medsam.pth")
    features = torch.randn(1, 4, 256, 2, 2)
    _, alpha = model.attention(features, torch.ones(1, 4, dtype=torch.bool))
    assert torch.allclose(alpha, torch.tensor(0.25))


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save({"model": _Evil(marker)}, path)
    with pytest.raises(WeightsError, match=r"evil\.pth holds more than tensors and could run code"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(_Evil(marker)))
    with pytest.raises(WeightsError):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"encoder.weight": torch.zeros(3)}, "another model's checkpoint"),
        ({"image_encoder.layers.0.blocks.0.x": torch.zeros(3)}, "no whole LiteMedSAM checkpoint"),
        ([1, 2, 3], "no state_dict of tensors"),
    ],
)
def test_another_models_checkpoint_is_named_as_such(tmp_path: Path, content: object, sentence: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=sentence):
        load_checkpoint(tmp_path / "other.pth")


def test_a_litemedsam_checkpoint_with_a_tensor_missing_or_misshapen_is_refused(tmp_path: Path) -> None:
    state = official_state_dict()
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(WeightsError, match="1 tensors are missing"):
        load_checkpoint(tmp_path / "short.pth")
    state = official_state_dict()
    state["mask_decoder.iou_token.weight"] = torch.zeros(1, 128)
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(WeightsError, match=r"1 of another shape \(for example mask_decoder\.iou_token\.weight\)"):
        load_checkpoint(tmp_path / "wide.pth")


def test_truncated_and_foreign_files_are_said_to_be_damaged(tmp_path: Path) -> None:
    save_checkpoint(tiny_model(), tmp_path / "whole.safetensors", name="x")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:5000])
    (tmp_path / "text.pth").write_text("hello", encoding="utf-8")
    (tmp_path / "empty.safetensors").touch()
    for name in ("cut.safetensors", "text.pth", "empty.safetensors"):
        with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
            load_checkpoint(tmp_path / name)


def test_safetensors_of_another_program_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="of another program"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_a_missing_checkpoint_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no checkpoint at"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_an_unwritable_place_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="could not be written"):
        save_checkpoint(tiny_model(), tmp_path / "absent" / "x.safetensors", name="x")
    assert list(tmp_path.iterdir()) == []
