"""A localiser and its answers for prepared cases, on disk.

Answers are one `NAME.npy` per case, float16 logits (3, D', H', W'); the network is a safetensors file that `sofa train`
builds into a checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch

from sofa_engine.errors import InputError, OutputError, WeightsError
from sofa_engine.model.config import LocaliserConfig
from sofa_engine.model.localiser import Localiser
from sofa_training.prepared import PreparedCase

#: Key of our block in the file's metadata.
METADATA_KEY = "sofa-localiser"


def write_localiser(localiser: Localiser, path: Path, notes: dict[str, object]) -> None:
    """Write the network with its arrangement and notes (JSON values), beside its name and then renamed.

    Raises:
        OutputError: the file cannot be written.
    """
    block = {"config": localiser.config.model_dump(mode="json"), "notes": notes}
    tensors = {key: value.detach().cpu().contiguous() for key, value in localiser.state_dict().items()}
    part = path.with_name(path.name + ".part")
    try:
        safetensors.torch.save_file(tensors, part, metadata={METADATA_KEY: json.dumps(block)})
        part.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"The localiser {path} could not be written ({error}); free some space.") from error


def read_localiser(path: Path, expected: LocaliserConfig | None = None) -> Localiser:
    """Read a network, in evaluation mode.

    Raises:
        WeightsError: the file is missing, damaged, no localiser, or not of the expected arrangement.
    """
    if not path.is_file():
        raise WeightsError(f"There is no localiser at {path}; train one with `sofa localiser train`.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            block = json.loads((file.metadata() or {})[METADATA_KEY])
            state = {key: file.get_tensor(key) for key in file.keys()}
        config = LocaliserConfig.model_validate(block["config"])
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path.name} is damaged or no localiser; choose a file of `sofa localiser train`."
        ) from error
    if expected is not None and config != expected:
        raise WeightsError(f"The localiser {path.name} is of another arrangement than [model.localiser]; match them.")
    localiser = Localiser(config)
    localiser.load_state_dict(state)
    return localiser.eval()


def locate_prepared(localiser: Localiser, case: PreparedCase) -> np.ndarray:
    """Return the localiser's logits for a prepared case, float16 (3, D', H', W') on its cells."""
    images = torch.from_numpy(np.array(case.images)).float() / 255
    return localiser.locate(images, case.spacing).half().numpy()


def write_located(folder: Path, name: str, logits: np.ndarray) -> Path:
    """Write the answer for one case, beside its name and then renamed; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.npy"
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.save(file, logits.astype(np.float16))
    return part.replace(path)


def read_located(folder: Path | None, name: str) -> np.ndarray:
    """Read the answer for one case, float16 (3, D', H', W').

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = None if folder is None else folder / f"{name}.npy"
    if path is None or not path.is_file():
        raise InputError(f"{folder} has no localiser's answer for {name}; make it with `sofa localiser apply`.")
    try:
        logits = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged; make it again with `sofa localiser apply`.") from error
    if logits.ndim != 4 or len(logits) != 3:
        raise InputError(f"{path} is no localiser's answer (its shape is {logits.shape}).")
    return logits
