"""A trained localiser on disk, and how it becomes part of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
from pydantic import ValidationError

from sofa_engine.errors import InputError, WeightsError
from sofa_engine.model.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from sofa_engine.model.config import LocaliserConfig, ModelConfig
from sofa_engine.model.localiser import Localiser
from sofa_engine.model.network import SofaModel
from sofa_training.seen import SEEN, digests_in

#: Key of our block in the file's metadata.
METADATA_KEY = "sofa-localiser"
#: Begins the names of its weights in a checkpoint.
_PREFIX = "localiser."


def write_localiser(localiser: Localiser, path: Path, notes: dict[str, object]) -> None:
    """Write the network with its arrangement and notes (JSON values).

    Raises:
        OutputError: the file cannot be written.
    """
    block = {"config": localiser.config.model_dump(mode="json"), "notes": notes}
    write_tensors(localiser, path, {METADATA_KEY: json.dumps(block)})


def read_localiser(path: Path) -> tuple[Localiser, dict[str, object]]:
    """Read a network, in evaluation mode, and its notes.

    Raises:
        WeightsError: the file is missing, damaged, or no localiser.
    """
    if not path.is_file():
        raise WeightsError(f"There is no localiser at {path}; train one with `sofa localiser train`.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            block = json.loads((file.metadata() or {})[METADATA_KEY])
            state = {key: file.get_tensor(key) for key in file.keys()}
        localiser = Localiser(LocaliserConfig.model_validate(block["config"]))
        localiser.load_state_dict(state)
        notes = dict(block["notes"])
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path.name} is damaged or no localiser; choose a file of `sofa localiser train`."
        ) from error
    return localiser.eval(), notes


def join(localiser: Path, checkpoint: Path, out: Path, *, name: str, vote: float) -> None:
    """Write a checkpoint with a localiser in it, in place of the one that it may have.

    Args:
        localiser: file of `write_localiser`.
        checkpoint: SOFA's own, of any arrangement but the paper's.
        out: file to make, stored as float16.
        name: what people will call it.
        vote: the localiser's weight in the first pass, 0 to 1.

    Raises:
        InputError: the vote is no share, or the checkpoint's mode has no localiser.
        WeightsError: a file cannot be read.
        OutputError: the file cannot be written.
    """
    trained, told = read_localiser(localiser)
    model, info = load_checkpoint(checkpoint)
    own = {**trained.config.model_dump(), "vote": vote}
    try:
        config = ModelConfig.model_validate({**model.config.model_dump(), "localiser": own})
    except ValidationError as error:
        raise InputError(f"{checkpoint.name} cannot take the localiser: {error.errors()[0]['msg']}.") from error
    joined = SofaModel(config)
    weights = {key: value for key, value in model.state_dict().items() if not key.startswith(_PREFIX)}
    joined.load_state_dict(weights | {_PREFIX + key: value for key, value in trained.state_dict().items()})
    notes = {**info.notes, "localiser": {key: value for key, value in told.items() if key != SEEN}}
    first, second = digests_in(info.notes), digests_in(told)
    notes.pop(SEEN, None)
    if first and second:  # half of the truth would pass for all of it
        notes[SEEN] = sorted(first | second)
    save_checkpoint(joined, out, name=name, trained=info.trained, notes=notes, half=True)
