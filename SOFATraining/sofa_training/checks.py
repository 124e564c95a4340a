"""What is wrong with which case, said before anything is computed from it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from sofa_engine.errors import InputError
from sofa_engine.types import MODALITIES, Modality
from sofa_training.cases import LABELS_BRATS2020, LABELS_BRATS2023, TrainingCase, VolumeFile
from sofa_training.reading import Truth, grid_of, middle_slice, read_truth

#: How the cases of BraTS 2024 are named that had surgery, of which many have a cavity and no enhancing tumour left.
_POST_OPERATIVE = re.compile(r"BraTS-GLI-\d+-1\d\d", re.IGNORECASE)
_HINT_2023 = ' If 3 means enhancing tumour, list the cases in a CSV whose column labels says "2023".'


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
    """Look for what would spoil a training: headers of the images and a slice of each case, voxels of the truths.

    Args:
        cases: what `find_cases` found.
        progress: told the name of each case when it is done.

    Returns:
        Problems in the order of the cases.
    """
    problems: list[Problem] = []
    counts = Counter(case.name for case in cases)
    truths: dict[str, str] = {}
    pictures: dict[str, TrainingCase] = {}
    owners = _owners(cases)
    for case in cases:
        errors = list(case.problems)
        if counts[case.name] > 1:
            errors.append(f"{counts[case.name]} cases have this name; names must be unique.")
        errors += _check_files(case, owners)
        truth, truth_errors = _check_truth(case)
        errors += truth_errors
        warnings = _check_grids(case)
        if (doubt := _doubt_about_scheme(case, truth)) is not None:
            (warnings if _surely_2023(case) else errors).append(doubt)
        if truth is not None and truth.labels.any():
            twin = truths.setdefault(_digest(truth.labels), case.name)
            if twin != case.name:
                errors.append(f"It has the same truth as {twin}, voxel by voxel: the same case twice.")
        if not errors and (picture := _picture(case)) is not None:
            other = pictures.setdefault(picture, case)
            if other is not case:
                errors.append(
                    f"It has the same images as {other.name}, voxel by voxel: the same scan twice. Remove the one "
                    "whose truth is not to be used."
                )
        problems += [Problem(case.name, Severity.ERROR, sentence) for sentence in errors]
        problems += [Problem(case.name, Severity.WARNING, sentence) for sentence in warnings]
        if progress is not None:
            progress(case.name)
    return tuple(problems)


def _owners(cases: Sequence[TrainingCase]) -> dict[VolumeFile, list[str]]:
    """Return the names of the cases that each image file belongs to."""
    owners: dict[VolumeFile, list[str]] = {}
    for case in cases:
        for file in set(case.images.values()):
            owners.setdefault(file, []).append(case.name)
    return owners


def _check_files(case: TrainingCase, owners: Mapping[VolumeFile, Sequence[str]]) -> list[str]:
    """Return what is wrong with the list of a case's images."""
    missing = [m.title for m in MODALITIES if m not in case.images]
    errors = [f"{', '.join(missing)} missing."] if missing else []
    by_file: dict[VolumeFile, list[str]] = {}
    for modality, file in case.images.items():
        by_file.setdefault(file, []).append(modality.title)
    for file, titles in by_file.items():
        if not file.path.is_file():
            errors.append(f"{file.path} does not exist.")
        if len(titles) > 1:
            errors.append(f"{file.path.name} is given as {' and as '.join(titles)}.")
        others = [name for name in owners[file] if name != case.name]
        if others:
            errors.append(f"{file.path.name} belongs to {others[0]} too: two patients are mixed up.")
    return errors


def _check_truth(case: TrainingCase) -> tuple[Truth | None, list[str]]:
    """Return a case's truth, if it can be read, and what is wrong with it."""
    if case.truth is None:
        return None, ["There is no truth."]
    errors = []
    try:
        truth = read_truth(case)
        grids = [grid_of(file) for file in case.images.values() if file.path.is_file()]
    except InputError as error:
        return None, [str(error)]
    if truth.strangers:
        values = ", ".join(f"{v:g}" for v in truth.strangers)
        allowed = ", ".join(str(v) for v in sorted(case.labels))
        hint = _HINT_2023 if case.labels is LABELS_BRATS2020 and truth.strangers == (3.0,) else ""
        errors.append(f"The truth has the values {values}; this dataset's labels are {allowed}.{hint}")
    if grids and not any(truth.geometry.same_grid(grid, tolerance_mm=0.01) for grid in grids):
        errors.append(
            f"The truth lies on another grid ({_shape(truth.geometry.shape)}) than the images "
            f"({_shape(grids[0].shape)}); resample it to them first."
        )
    if not truth.labels.any():
        errors.append("The truth is empty.")
    return truth, errors


def _doubt_about_scheme(case: TrainingCase, truth: Truth | None) -> str | None:
    """Return a doubt about labels that may have been meant in the older scheme, where 4 is the enhancing tumour."""
    if case.labels is not LABELS_BRATS2023 or truth is None or 4 not in truth.values or 3 in truth.values:
        return None
    return (
        "Label 4 is read as a resection cavity, as in BraTS 2024, and no label 3 says where enhancing tumour is. If "
        '4 means enhancing tumour, list the cases in a CSV whose column labels says "2020", or name the files t1, t1ce,'
        ' t2 and flair; if it is a cavity, let that column say "2023".'
    )


def _surely_2023(case: TrainingCase) -> bool:
    """Return whether a 4 without a 3 may well be meant: the table says so, or the name is of a case after surgery."""
    return case.layout == "CSV" or _POST_OPERATIVE.fullmatch(case.name) is not None


def _picture(case: TrainingCase) -> str | None:
    """Return what tells a scan from all others, None where there is nothing to see; one slice does, by its noise."""
    file = case.images.get(Modality.T1C) or next(iter(case.images.values()), None)
    if file is None:
        return None
    try:
        plane = middle_slice(file)
    except InputError:
        return None  # said when it is prepared
    return _digest(plane) if np.ptp(plane) > 0 else None


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.array(array.shape).tobytes() + array.tobytes()).hexdigest()


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
