"""What a run needs to go on as if nothing had happened, on disk."""

from __future__ import annotations

import os
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sofa_engine.errors import InputError, OutputError

FILE = "last.pt"


@dataclass
class RunState:
    """Where a run is. Random numbers need no state: each is drawn from the seed and its place in the run.

    Attributes:
        epoch, iteration: the next batch.
        step: optimiser steps done.
        best: best validation score so far, None before the first validation.
        best_epoch: when it was reached.
        misses: validations since then.
        due: whether the validation cases are to be measured before the next batch.
        dice: running Dice per sub-region, for the difficulty weights.
        seconds: time spent so far.
        batch: slices of an iteration, which `iteration` counts; 0 in runs that never recorded it.
        seen: digests of the cases that the weights have seen, those of the start among them (`sofa_training.seen`).
    """

    epoch: int = 0
    iteration: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    misses: int = 0
    due: bool = False
    dice: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    batch: int = 0
    seen: list[str] = field(default_factory=list)


def save_state(folder: Path, state: RunState, parts: dict[str, Any]) -> None:
    """Write `last.pt`, beside its name and then renamed: an interrupted write leaves the one before.

    Args:
        folder: of the run.
        state: where it is.
        parts: state_dicts by name.

    Raises:
        OutputError: the file cannot be written; the last good one is still there.
    """
    path = folder / FILE
    part = path.with_name(FILE + ".part")
    try:
        with part.open("wb") as file:
            torch.save({"state": asdict(state), **parts}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    # torch reports a full disk as a RuntimeError of its zip writer.
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"The checkpoint {path} could not be written (is the disk full?); the one before it is untouched. Free "
            "some space and resume the run."
        ) from error


def load_state(folder: Path) -> tuple[RunState, dict[str, Any]]:
    """Read `last.pt`.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / FILE
    try:
        parts = torch.load(path, map_location="cpu", weights_only=True)
        return RunState(**parts.pop("state")), parts
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no {FILE} to resume from; start it again without --resume.") from error
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged, so the run cannot be resumed; start a new run from its best.safetensors."
        ) from error
