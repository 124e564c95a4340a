"""The folder of a run: made once, with what was asked for kept in it, and read again to go on."""

from __future__ import annotations

import shutil
from pathlib import Path

from sofa_engine.errors import InputError, OutputError
from sofa_training.config import TrainingConfig, dump_config, load_config
from sofa_training.distributed import Process

CONFIG, FOLDS = "config.toml", "folds.json"


def resume_config(out: Path) -> TrainingConfig:
    """Return the configuration that a run was started with.

    Raises:
        InputError: `out` is no run.
    """
    if not (out / CONFIG).is_file():
        raise InputError(f"{out} is no training run: it has no {CONFIG}.")
    return load_config(out / CONFIG)


def prepare_folder(config: TrainingConfig, out: Path, process: Process, *, resume: bool) -> None:
    """Make the run's folder, write its configuration and keep its folds; refuse to overwrite another run.

    Raises:
        InputError: a run is there already and `resume` was not asked for.
        OutputError: the folder cannot be written.
    """
    if not process.leads:
        return
    if not resume and (out / CONFIG).exists():
        raise InputError(f"{out} holds a run already; resume it, or choose another folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / CONFIG).write_text(dump_config(config), encoding="utf-8")
        if not resume and config.data.folds is not None and config.data.folds.resolve() != (out / FOLDS).resolve():
            shutil.copyfile(config.data.folds, out / FOLDS)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror}); choose another folder.") from error
