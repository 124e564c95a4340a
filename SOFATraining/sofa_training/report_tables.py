"""The tables of an evaluation that not every evaluation has: tests, corrections, reliability; one CSV each."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from sofa_engine.errors import InputError
from sofa_engine.types import SUB_REGIONS
from sofa_training.edits import EditCurve
from sofa_training.evaluation import FailedCase
from sofa_training.reliability import Reliability
from sofa_training.statistics import Comparison


def write_comparisons(rows: Sequence[Comparison], path: Path) -> None:
    """Write one row per paired test."""
    _write(path, [field.name for field in fields(Comparison)], (astuple(row) for row in rows))


def write_edits(curves: Sequence[EditCurve], path: Path) -> None:
    """Write one row per case and number of corrected boxes."""
    rows = ((curve.case, count, dice) for curve in curves for count, dice in enumerate(curve.dice))
    _write(path, ["case", "corrected_boxes", "mean_dice"], rows)


def write_reliability(cases: Sequence[Reliability], path: Path) -> None:
    """Write one row per case and sub-region."""
    rows = (
        (case.case, sub_region.value.upper(), case.calibration_error[sub_region.index], case.rank[sub_region.index])
        for case in cases
        for sub_region in SUB_REGIONS
    )
    _write(path, ["case", "sub_region", "calibration_error", "rank_correlation"], rows)


def write_failed(cases: Sequence[FailedCase], path: Path) -> None:
    """Write one row per case that is in no number; no file where there is none."""
    if cases:
        _write(path, ["case", "sentence"], (astuple(case) for case in cases))
    else:
        path.unlink(missing_ok=True)


def read_failed(path: Path) -> tuple[FailedCase, ...]:
    """Read back what `write_failed` wrote; none where there is no file.

    Raises:
        InputError: it is no such table.
    """
    if not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(FailedCase(row["case"], row["sentence"]) for row in csv.DictReader(file))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not the table of an evaluation's failed cases.") from error


def _write(path: Path, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows([_text(value) for value in row] for row in rows)
    part.replace(path)


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"  # noqa: PLR0124 - only NaN differs from itself
    return str(value)
