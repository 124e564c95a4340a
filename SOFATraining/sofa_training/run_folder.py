"""The folder of a run: made once, with what was asked for kept in it, and read again to go on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sofa_engine.errors import InputError, OutputError
from sofa_engine.writing import replacing
from sofa_training.config import TrainingConfig, dump_config, load_config, read_toml
from sofa_training.distributed import Process
from sofa_training.state import FILE as STATE

BEST, LAST = "best.safetensors", "last.safetensors"
CONFIG, FOLDS = "config.toml", "folds.json"
#: What a resumed run may change: it stays the same run, on the same slices.
MAY_CHANGE = ("optimiser.rate", "run.precision", "run.batch", "run.epochs")


def resume_config(out: Path, changes: Mapping[str, Any] | None = None) -> TrainingConfig:
    """Return the configuration that a run was started with.

    Args:
        out: folder of the run.
        changes: values by dotted key that it goes on with, of `MAY_CHANGE`. With another `run.batch`,
            `run.accumulate` follows, so that a step of the optimiser keeps its slices.

    Raises:
        InputError: `out` is no run, its configuration is empty, or a change is not allowed or wrong.
    """
    if not (out / CONFIG).is_file():
        raise InputError(f"{out} is no training run: it has no {CONFIG}.")
    # Every value has a default, so nothing at all would be a configuration: of a run that trains on all cases.
    if not read_toml(out / CONFIG):
        raise InputError(
            f"{out / CONFIG} is empty, so what the run was started with is lost; start a new run in another folder."
        )
    before = load_config(out / CONFIG)
    changes = dict(changes or {})
    other = next((key for key in changes if key not in MAY_CHANGE), None)
    if other is not None:
        raise InputError(
            f"A resumed run keeps its {other}; only {', '.join(MAY_CHANGE)} can be changed. Leave it out, or start a "
            "new run."
        )
    after = load_config(out / CONFIG, changes)
    step, batch = before.run.batch * before.run.accumulate, after.run.batch
    if step % batch:
        raise InputError(f"The run has {step} slices in each step, so run.batch must divide {step}, not be {batch}.")
    return load_config(out / CONFIG, {**changes, "run.accumulate": step // batch})


def prepare_folder(config: TrainingConfig, out: Path, process: Process, *, resume: bool) -> None:
    """Make the run's folder, write its configuration and keep its folds; refuse to overwrite another run.

    A run that ended before it wrote anything to go on from or to use is no run, and is started over.

    Raises:
        InputError: a run is there already and `resume` was not asked for.
        OutputError: the folder cannot be written.
    """
    if not process.leads:
        return
    if not resume and (out / CONFIG).exists() and not _came_to_nothing(out):
        raise InputError(f"{out} holds a run already; resume it, or choose another folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_config(dump_config(config), out / CONFIG)
        if not resume and config.data.folds is not None and config.data.folds.resolve() != (out / FOLDS).resolve():
            shutil.copyfile(config.data.folds, out / FOLDS)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror}); choose another folder.") from error


def _write_config(text: str, path: Path) -> None:
    """Write a configuration that is not there yet; the one before stays until the new one is whole."""
    if not _reads(path, text):
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")


def _came_to_nothing(out: Path) -> bool:
    """Whether all that a run left is its configuration and its log; a file that somebody else wrote is kept."""
    if any((out / name).exists() for name in (STATE, BEST, LAST)):
        return False
    try:
        return _reads(out / CONFIG, dump_config(load_config(out / CONFIG)))
    except InputError:
        return False


def _reads(path: Path, text: str) -> bool:
    """Whether a file has this text and nothing else."""
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False
