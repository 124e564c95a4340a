"""All rows of the experiment in minutes: a few phantoms and a network of toy size, to see that everything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sofa_training.cases import find_cases
from sofa_training.experiment import ROWS, Plan
from sofa_training.folds import make_folds, write_folds
from sofa_training.phantoms import write_phantom
from sofa_training.prepare import prepare_cases

_CASES, _FOLDS = 4, 2

#: What shrinks every row; its numbers mean nothing.
OVERRIDES: dict[str, Any] = {
    "model.arrangement": "toy",
    "model.channels": 32,
    "model.decoder_mlp": 32,
    "model.decoder_heads": 2,
    "model.encoder.embed_dims": [8, 16, 16, 16],
    "model.encoder.depths": [1, 1, 1, 1],
    "model.encoder.num_heads": [1, 1, 1, 1],
    "model.encoder.window_sizes": [4, 4, 4, 4],
    "model.encoder.stem_stride": 2,
    "data.crops": [[48, 48]],
    "data.slices_per_case": 24,
    "optimiser.rate": 1e-2,
    "run.epochs": 8,
    "run.batch": 4,
    "run.batch_norm": "live",
    "run.validate_every": 8,
    "run.workers": 0,
}


def smoke_plan(out: Path, rows: tuple[str, ...] = tuple(ROWS)) -> Plan:
    """Make the phantoms in `out`, if they are not there yet, and return a plan over them."""
    dataset, prepared = out / "phantoms", out / "prepared"
    for number in range(_CASES):
        name = f"phantom_{number}"
        if not (dataset / name / f"{name}_seg.nii.gz").is_file():  # written last
            write_phantom(dataset, name, number)
    cases = find_cases(dataset)
    prepare_cases(cases, prepared)
    write_folds(make_folds([(case.name, case.subject) for case in cases], _FOLDS), prepared / "folds.json")
    return Plan(dataset, prepared, out, rows=rows, overrides=OVERRIDES)
