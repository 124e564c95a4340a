"""Checkpoints: ours in safetensors with the arrangement inside, and the ones that others publish."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from sofa_engine.errors import OutputError, WeightsError
from sofa_engine.model import stock
from sofa_engine.model.config import ModelConfig
from sofa_engine.model.network import SofaModel
from sofa_engine.weights import sha256_of

#: Key of our block in a safetensors file's metadata.
METADATA_KEY = "sofa"
FORMAT = 1
#: Parameters that stock checkpoints lack; they start as the identity.
_OWN = ("attention.", "first_tokens")


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself.

    Attributes:
        name: what people call it.
        sha256: of the file.
        trained: False for random weights.
        notes: free facts for reports (data, epochs, metrics), as JSON values.
    """

    name: str
    sha256: str
    trained: bool
    notes: dict[str, object]


def save_checkpoint(
    model: SofaModel,
    path: Path,
    *,
    name: str,
    trained: bool = True,
    notes: dict[str, object] | None = None,
    half: bool = False,
) -> None:
    """Write a model as safetensors, first beside its name and then renamed.

    Args:
        model: what to write.
        path: file to make, ending in .safetensors.
        name: what people will call it.
        trained: False for random weights, whose answers mean nothing.
        notes: free facts for reports, JSON values.
        half: store floating-point tensors as float16.

    Raises:
        OutputError: the file cannot be written.
    """
    block = {"format": FORMAT, "name": name, "trained": trained, "config": model.config.model_dump(mode="json")}
    block["notes"] = notes or {}
    write_tensors(model, path, {METADATA_KEY: json.dumps(block)}, half=half)


def write_tensors(network: nn.Module, path: Path, metadata: dict[str, str], *, half: bool = False) -> None:
    """Write a network's weights as safetensors, first beside the file's name and then renamed.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {
        key: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in network.state_dict().items()
    }
    part = path.with_name(path.name + ".part")
    try:
        safetensors.torch.save_file(tensors, part, metadata=metadata)
        part.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"The weights {path} could not be written ({error}); choose another folder or free some space."
        ) from error


def load_checkpoint(path: Path, *, device: str | torch.device = "cpu") -> tuple[SofaModel, CheckpointInfo]:
    """Load a model in evaluation mode, in float32.

    Accepts our safetensors; `lite_medsam.pth` as published (a bare state_dict) and its training checkpoints
    ({"model": state_dict, ...}); MobileSAM's weights. Nothing in a file is executed.

    Raises:
        WeightsError: the file is missing, damaged, unsafe, or another model's.
    """
    if not path.is_file():
        raise WeightsError(
            f"There is no checkpoint at {path}: check the path, or list what is available with `sofa weights list`."
        )
    block: dict[str, object] | None
    if path.suffix == ".safetensors":
        state, config, block = _read_own(path)
    else:
        state, config, block = _read_stock(path)
    model = SofaModel(config)
    expected = model.state_dict()
    missing = [key for key in expected if key not in state and not (block is None and key.startswith(_OWN))]
    surplus = [key for key in state if key not in expected]
    wrong = [key for key in state if key in expected and state[key].shape != expected[key].shape]
    if missing or surplus or wrong:
        example = (wrong or missing or surplus)[0]
        raise WeightsError(
            f"{path.name} is another model's checkpoint: {len(missing)} tensors are missing, {len(surplus)} unknown "
            f"and {len(wrong)} of another shape (for example {example}); choose a SOFA or LiteMedSAM checkpoint."
        )
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, strict=False)
    if block is None:
        with torch.no_grad():
            model.attention.weight.zero_()  # untrained attention: every sequence counts the same
        model.reset_first_tokens()
        block = {"name": path.stem, "trained": True, "notes": {"source": "stock weights"}}
    model.eval().to(device)
    info = CheckpointInfo(str(block["name"]), sha256_of(path), bool(block["trained"]), dict(block["notes"]))  # type: ignore[call-overload]
    return model, info


def _read_own(path: Path) -> tuple[dict[str, Tensor], ModelConfig, dict[str, object]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path.name} is damaged or no safetensors file ({error}); download it again.") from error
    if METADATA_KEY not in metadata:
        raise WeightsError(
            f"{path.name} is a safetensors file of another program (it has no SOFA description); "
            "choose a SOFA checkpoint."
        )
    try:
        block = json.loads(metadata[METADATA_KEY])
        if block["format"] != FORMAT:
            raise WeightsError(
                f"{path.name} was written by another version of SOFA (format {block['format']}, this one reads "
                f"{FORMAT}); "
                "update SOFA."
            )
        return state, ModelConfig.model_validate(block["config"]), block
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise WeightsError(
            f"The description inside {path.name} cannot be read ({first}); download it again."
        ) from error


def _read_stock(path: Path) -> tuple[dict[str, Tensor], ModelConfig, None]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path.name} holds more than tensors and could run code, so it was not opened; "
            "choose a checkpoint that is a plain state_dict, or safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, BadZipFile, ValueError, KeyError, UnicodeDecodeError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path.name} is damaged or no PyTorch checkpoint ({first}); download it again.") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path.name} is no state_dict of tensors; choose a SOFA or LiteMedSAM checkpoint.")
    if not stock.looks_like_stock(content):
        raise WeightsError(
            f"{path.name} is another model's checkpoint (its tensors are not named like LiteMedSAM's); "
            "choose a SOFA or LiteMedSAM checkpoint."
        )
    state = stock.rename(content)
    try:
        return state, stock.config_of(state), None
    except KeyError as error:
        raise WeightsError(
            f"{path.name} lacks the encoder's first layer; it is no whole LiteMedSAM checkpoint."
        ) from error
