"""The folder of a run: made once, with what was asked for kept in it, and read again to go on."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sofa_engine.errors import InputError, OutputError
from sofa_engine.writing import replacing
from sofa_training.config import Kind, TrainingConfig, dump_config, load_config, read_toml, validate_config
from sofa_training.distributed import Process
from sofa_training.state import FILE as STATE

if TYPE_CHECKING:
    from sofa_training.localiser import LocaliserTraining

BEST, LAST, LOCALISER = "best.safetensors", "last.safetensors", "localiser.safetensors"
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
        InputError: as `kept_config`.
    """
    changes = dict(changes or {})
    after = kept_config(TrainingConfig, out, changes, MAY_CHANGE)
    before, batch = load_config(out / CONFIG), after.run.batch
    step = before.run.batch * before.run.accumulate
    if step % batch:
        raise InputError(f"The run has {step} slices in each step, so run.batch must divide {step}, not be {batch}.")
    return load_config(out / CONFIG, {**changes, "run.accumulate": step // batch})


def kept_config(kind: type[Kind], out: Path, changes: Mapping[str, Any], may_change: Collection[str]) -> Kind:
    """Return the configuration that a run of some kind was started with.

    Args:
        kind: of configuration.
        out: folder of the run.
        changes: values by dotted key that it goes on with.
        may_change: keys that may be among them.

    Raises:
        InputError: `out` is no run, its configuration is empty, or a change is not allowed or wrong.
    """
    if not (out / CONFIG).is_file():
        raise InputError(f"{out} is no training run: it has no {CONFIG}.")
    # Every value has a default, so nothing at all would be a configuration: of a run that trains on all cases.
    values = read_toml(out / CONFIG)
    if not values:
        raise InputError(
            f"{out / CONFIG} is empty, so what the run was started with is lost; start a new run in another folder."
        )
    other = next((key for key in changes if key not in may_change), None)
    if other is not None:
        raise InputError(
            f"A resumed run keeps its {other}; only {', '.join(may_change)} can be changed. Leave it out, or start a "
            "new run."
        )
    return validate_config(kind, values, dict(changes), str(out / CONFIG))


def prepare_folder(config: TrainingConfig | LocaliserTraining, out: Path, process: Process, *, resume: bool) -> None:
    """Make the run's folder, write its configuration and keep its folds; refuse to overwrite another run.

    A run that ended before it wrote anything to go on from or to use is no run, and is started over.

    Raises:
        InputError: a run is there already and `resume` was not asked for.
        OutputError: the folder cannot be written.
    """
    if not process.leads:
        return
    if not resume and _holds_run(out, type(config)):
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


def _holds_run(out: Path, kind: type[TrainingConfig | LocaliserTraining]) -> bool:
    """Whether a run, or a configuration that somebody else wrote, would be lost to a new run."""
    if any((out / name).exists() for name in (STATE, BEST, LAST, LOCALISER)):
        return True
    if not (out / CONFIG).exists():
        return False
    try:
        kept = validate_config(kind, read_toml(out / CONFIG), {}, str(out / CONFIG))
    except InputError:
        return True
    return not _reads(out / CONFIG, dump_config(kept))


def _reads(path: Path, text: str) -> bool:
    """Whether a file has this text and nothing else."""
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False
