"""What is wrong with which case, said before anything is computed from it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from sofa_engine.errors import InputError
from sofa_engine.types import MODALITIES
from sofa_training.cases import TrainingCase
from sofa_training.reading import grid_of, read_truth


class Severity(StrEnum):
    """`ERROR` keeps a case out of training; `WARNING` is worth knowing."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Problem:
    """One sentence about one case."""

    case: str
    severity: Severity
    sentence: str


def check_cases(cases: Sequence[TrainingCase], *, progress: Callable[[str], None] | None = None) -> tuple[Problem, ...]:
    """Look for what would spoil a training: headers of the images, voxels of the truths.

    Args:
        cases: what `find_cases` found.
        progress: told the name of each case when it is done.

    Returns:
        Problems in the order of the cases.
    """
    problems: list[Problem] = []
    counts = Counter(case.name for case in cases)
    seen: dict[str, str] = {}
    for case in cases:
        errors = list(case.problems)
        if counts[case.name] > 1:
            errors.append(f"{counts[case.name]} cases have this name; names must be unique.")
        truth_errors, digest = _check_truth(case)
        errors += truth_errors
        if digest is not None and (twin := seen.setdefault(digest, case.name)) != case.name:
            errors.append(f"It has the same truth as {twin}, voxel by voxel: the same case twice.")
        problems += [Problem(case.name, Severity.ERROR, sentence) for sentence in errors]
        problems += [Problem(case.name, Severity.WARNING, sentence) for sentence in _check_grids(case)]
        if progress is not None:
            progress(case.name)
    return tuple(problems)


def _check_truth(case: TrainingCase) -> tuple[list[str], str | None]:
    """Return what is wrong with a case's files and truth, and a digest of the truth's voxels."""
    missing = [m.title for m in MODALITIES if m not in case.images]
    errors = [f"{', '.join(missing)} missing."] if missing else []
    errors += [f"{f.path} does not exist." for f in case.images.values() if not f.path.is_file()]
    if case.truth is None:
        return [*errors, "There is no truth."], None
    try:
        truth = read_truth(case)
        grids = [grid_of(file) for file in case.images.values() if file.path.is_file()]
    except InputError as error:
        return [*errors, str(error)], None
    if truth.strangers:
        values = ", ".join(f"{v:g}" for v in truth.strangers)
        allowed = ", ".join(str(v) for v in sorted(case.labels))
        errors.append(f"The truth has the values {values}; this dataset's labels are {allowed}.")
    if grids and not any(truth.geometry.same_grid(grid, tolerance_mm=0.01) for grid in grids):
        errors.append(
            f"The truth lies on another grid ({_shape(truth.geometry.shape)}) than the images "
            f"({_shape(grids[0].shape)}); resample it to them first."
        )
    if not truth.labels.any():
        return [*errors, "The truth is empty."], None
    shape = np.array(truth.labels.shape).tobytes()
    return errors, hashlib.sha256(shape + truth.labels.tobytes()).hexdigest()


def _check_grids(case: TrainingCase) -> list[str]:
    """Return what is unusual but can be helped."""
    try:
        grids = {m: grid_of(file) for m, file in case.images.items()}
    except InputError:
        return []  # said by `_check_truth`
    reference = next(iter(grids.values()), None)
    others = [m.title for m, grid in grids.items() if reference and not grid.same_grid(reference, tolerance_mm=0.01)]
    return [f"{', '.join(others)} on another grid than the first sequence; will be resampled."] if others else []


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)
