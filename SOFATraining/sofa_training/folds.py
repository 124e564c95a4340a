"""Who trains and who validates: folds by subject, kept as files so that a number can be traced to its cases.

With 369 subjects the first fold holds 73 for validation and 296 for training, the paper's split (section 4.1).
"""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sofa_engine.errors import InputError
from sofa_training.subjects import subject_of


@dataclass(frozen=True)
class Fold:
    """Names of the cases on either side of a split.

    Attributes:
        train, validation: cases that the dataset holds.
        members: (case, subject) of all that ever validated here, those that the dataset lacks at present too, by which
            a case that comes back is known again.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    members: tuple[tuple[str, str], ...] = ()


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
    return _folds([[(case, s) for s in part.tolist() for case in by_subject[s]] for part in parts], dict(subjects))


def extend_folds(folds: Sequence[Fold], subjects: Sequence[tuple[str, str]], seed: int = 0) -> tuple[Fold, ...]:
    """Carry folds over to a dataset that has changed, so that no case ever changes sides.

    A checkpoint that was trained on one fold stays measurable on that fold's other side when cases are added.

    Args:
        folds: of the dataset as it was.
        subjects: (case, subject) pairs of the dataset as it is.
        seed: of the order in which new subjects are handed out.

    Returns:
        As many folds: cases that are gone are left out, but come back to where they were; a new case of a known
        subject joins it; new subjects go to the fold with the fewest.
    """
    present = dict(subjects)
    members = [{case: subject_of(case) for case in fold.validation} | dict(fold.members) for fold in folds]
    homes = {case: number for number, known in enumerate(members) for case in known}
    of_subject = {present.get(case, known[case]): number for number, known in enumerate(members) for case in known}
    people = set(present.values())
    sizes = [sum(home == number for who, home in of_subject.items() if who in people) for number in range(len(folds))]
    new = sorted(people - of_subject.keys())
    for subject in np.random.default_rng(seed).permutation(new).tolist():
        # Fold 0 validates in Slicer: who is alone trains, and the next one validates.
        smallest = min(range(len(folds)), key=lambda n: (sizes[n], n == 0 and not any(sizes)))
        of_subject[subject] = smallest
        sizes[smallest] += 1
    for case, subject in subjects:
        members[homes.get(case, of_subject[subject])][case] = subject
    return _folds([list(known.items()) for known in members], present)


def divided_subjects(folds: Sequence[Fold]) -> tuple[str, ...]:
    """Return the subjects with cases in several folds, who are both trained and validated on, sorted.

    A split never makes them; they come from folds that were made when a subject was not recognised as one.
    """
    homes: dict[str, set[int]] = {}
    for number, fold in enumerate(folds):
        for case, subject in fold.members:
            if case in fold.validation:
                homes.setdefault(subject, set()).add(number)
    return tuple(sorted(subject for subject, numbers in homes.items() if len(numbers) > 1))


def write_folds(folds: Sequence[Fold], path: Path) -> None:
    """Write the validation lists and the members; training is everything else in the lists."""
    content = {"validation": [list(fold.validation) for fold in folds], "members": [dict(f.members) for f in folds]}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def read_folds(path: Path) -> tuple[Fold, ...]:
    """Read what `write_folds` wrote, or an earlier version, which had no members.

    Raises:
        InputError: the file is missing, is no fold list, or has a case in two folds.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = [tuple(sorted(part)) for part in content["validation"]]
        members = [tuple(sorted(part.items())) for part in content.get("members") or [{} for _ in lists]]
        everyone = sorted(case for part in lists for case in part)
        homes = [case for pair in zip(lists, members, strict=True) for case in {*pair[0], *dict(pair[1])}]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a list of folds; make one with `sofa prepare --folds`. ({error})") from error
    if len(homes) != len(set(homes)) or len(everyone) != len(set(everyone)):
        raise InputError(f"{path} lists a case in two folds, so its validation would not be independent.")
    return tuple(
        Fold(tuple(case for case in everyone if case not in set(part)), part, known)
        for part, known in zip(lists, members, strict=True)
    )


def _folds(members: Sequence[Sequence[tuple[str, str]]], present: Container[str]) -> tuple[Fold, ...]:
    """Return the folds with these members, of whom only those present train and validate."""
    sides = [sorted(case for case, _ in known if case in present) for known in members]
    everyone = sorted(case for side in sides for case in side)
    return tuple(
        Fold(tuple(c for c in everyone if c not in set(side)), tuple(side), tuple(sorted(known)))
        for side, known in zip(sides, members, strict=True)
    )
