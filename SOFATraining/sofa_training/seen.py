"""Which cases a checkpoint has been trained on, as far as the run that it lies in tells."""

from __future__ import annotations

from pathlib import Path

from sofa_engine.errors import SofaError
from sofa_training.config import load_config
from sofa_training.folds import read_folds

_CONFIG = "config.toml"


def cases_trained_on(weights: Path) -> frozenset[str] | None:
    """Return the names of the cases that a checkpoint was trained on.

    Args:
        weights: a checkpoint in the folder of its run.

    Returns:
        None where it lies in no run, or the run's cases are no longer there.
    """
    try:
        data = load_config(weights.parent / _CONFIG).data
        if data.fold is None or data.folds is None:
            return frozenset(path.stem for path in data.prepared.glob("*.npz")) or None
        return frozenset(read_folds(data.folds)[data.fold].train)
    except (SofaError, IndexError):
        return None
