"""Who trains and who validates: folds by subject, kept as files so that a number can be traced to its cases.

With 369 subjects the first fold holds 73 for validation and 296 for training, the paper's split (section 4.1).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sofa_engine.errors import InputError


@dataclass(frozen=True)
class Fold:
    """Names of the cases on either side of a split."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def make_folds(subjects: Sequence[tuple[str, str]], count: int = 5, seed: int = 0) -> tuple[Fold, ...]:
    """Split cases so that no subject is on both sides.

    Args:
        subjects: (case, subject) pairs; a subject may have several cases.
        count: number of folds.
        seed: of the shuffle.

    Returns:
        Folds whose validation sides are disjoint and together all cases; sizes in subjects differ by at most one,
        the smallest first.

    Raises:
        InputError: there are fewer subjects than folds.
    """
    by_subject: dict[str, list[str]] = {}
    for case, subject in sorted(subjects):
        by_subject.setdefault(subject, []).append(case)
    if len(by_subject) < count:
        raise InputError(f"{count} folds need at least {count} subjects, and there are {len(by_subject)}.")
    order = np.random.default_rng(seed).permutation(sorted(by_subject))
    # array_split puts the larger parts first; reversed, the paper's 73 of 369 come as fold 0.
    parts = list(reversed(np.array_split(order, count)))
    everyone = sorted(case for case, _ in subjects)
    folds = []
    for part in parts:
        validation = {case for subject in part for case in by_subject[subject]}
        folds.append(Fold(tuple(c for c in everyone if c not in validation), tuple(sorted(validation))))
    return tuple(folds)


def extend_folds(folds: Sequence[Fold], subjects: Sequence[tuple[str, str]], seed: int = 0) -> tuple[Fold, ...]:
    """Carry folds over to a dataset that has changed, so that no case ever changes sides.

    A checkpoint that was trained on one fold stays measurable on that fold's other side when cases are added.

    Args:
        folds: of the dataset as it was.
        subjects: (case, subject) pairs of the dataset as it is.
        seed: of the order in which new subjects are handed out.

    Returns:
        As many folds: cases that are gone are left out; a new case of a known subject joins it; new subjects go to
        the fold with the fewest.
    """
    present = dict(subjects)
    homes = {case: number for number, fold in enumerate(folds) for case in fold.validation}
    of_subject = {present[case]: number for case, number in homes.items() if case in present}
    sizes = [sum(home == number for home in of_subject.values()) for number in range(len(folds))]
    new = sorted({subject for _, subject in subjects if subject not in of_subject})
    for subject in np.random.default_rng(seed).permutation(new).tolist():
        smallest = sizes.index(min(sizes))
        of_subject[subject] = smallest
        sizes[smallest] += 1
    sides: list[list[str]] = [[] for _ in folds]
    for case, subject in sorted(subjects):
        sides[homes.get(case, of_subject[subject])].append(case)
    everyone = sorted(present)
    return tuple(Fold(tuple(c for c in everyone if c not in set(side)), tuple(side)) for side in sides)


def write_folds(folds: Sequence[Fold], path: Path) -> None:
    """Write the validation lists; training is everything else in them."""
    lists = [list(fold.validation) for fold in folds]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps({"validation": lists}, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def read_folds(path: Path) -> tuple[Fold, ...]:
    """Read what `write_folds` wrote.

    Raises:
        InputError: the file is missing, is no fold list, or has a case in two folds.
    """
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))["validation"]
        everyone = sorted(case for part in lists for case in part)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a list of folds; make one with `sofa prepare --folds`. ({error})") from error
    if len(everyone) != len(set(everyone)):
        raise InputError(f"{path} lists a case in two folds, so its validation would not be independent.")
    return tuple(Fold(tuple(case for case in everyone if case not in set(part)), tuple(sorted(part))) for part in lists)
