"""Tables of an evaluation: one row per case and region, and means with standard deviations over cases."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sofa_engine.errors import InputError
from sofa_training.evaluation import CaseResult
from sofa_training.metrics import RegionScore
from sofa_training.protocols import Protocol
from sofa_training.regions import REGIONS

#: A region smaller than this is too little to judge a Dice by.
SMALL_ML = 1.0
#: Found where the truth has none, more than this is a phantom.
PHANTOM_ML = 0.5

_CASE_COLUMNS = (
    *("case", "protocol", "region", "dice", "dice_present", "iou", "hd95_mm", "volume_ml", "truth_ml"),
    *("volume_error_ml", "control_dice", "control_dice_present"),
)


@dataclass(frozen=True)
class Mean:
    """Mean and standard deviation over the cases that have a value."""

    mean: float
    sd: float
    count: int

    @staticmethod
    def of(values: Iterable[float]) -> Mean:
        """Summarise the finite values; the standard deviation is the sample's (n - 1), 0 for one case."""
        finite = np.array([v for v in values if np.isfinite(v)], dtype=np.float64)
        if finite.size == 0:
            return Mean(float("nan"), float("nan"), 0)
        return Mean(float(finite.mean()), float(finite.std(ddof=1)) if finite.size > 1 else 0.0, int(finite.size))

    def __str__(self) -> str:
        return "-" if self.count == 0 else f"{self.mean:.3f} ± {self.sd:.3f}"


@dataclass(frozen=True)
class RegionSummary:
    """One region under one protocol.

    Attributes:
        protocol: how the results were obtained.
        region: one of `REGIONS`.
        dice: with BraTS's rule for empties.
        dice_present: over the cases whose truth has the region.
        dice_large: over the cases whose truth has at least 1 ml of it.
        iou, hd95_mm, volume_error_ml: with BraTS's rule for empties.
        control: Dice of the image-free control, over the cases whose truth has the region.
        absent: cases whose truth lacks the region.
        phantoms: of these, how many got more than 0.5 ml.
    """

    protocol: Protocol
    region: str
    dice: Mean
    dice_present: Mean
    dice_large: Mean
    iou: Mean
    hd95_mm: Mean
    volume_error_ml: Mean
    control: Mean
    absent: int
    phantoms: int


def summarise(results: Sequence[CaseResult]) -> tuple[RegionSummary, ...]:
    """Return a row per protocol and region; protocols are never averaged together."""
    rows = []
    for protocol in dict.fromkeys(result.protocol for result in results):
        own = [result for result in results if result.protocol is protocol]
        for place, region in enumerate(REGIONS):
            scores = [result.scores[place] for result in own]
            controls = [result.controls[place] for result in own]
            absent = [s for s in scores if not s.present]
            rows.append(
                RegionSummary(
                    protocol=protocol,
                    region=region,
                    dice=Mean.of(s.dice for s in scores),
                    dice_present=Mean.of(s.dice for s in scores if s.present),
                    dice_large=Mean.of(s.dice for s in scores if s.truth_ml >= SMALL_ML),
                    iou=Mean.of(s.iou for s in scores),
                    hd95_mm=Mean.of(s.hd95_mm for s in scores),
                    volume_error_ml=Mean.of(s.volume_error_ml for s in scores),
                    control=Mean.of(c.dice for c in controls if c.present),
                    absent=len(absent),
                    phantoms=sum(s.volume_ml > PHANTOM_ML for s in absent),
                )
            )
    return tuple(rows)


def write_case_table(results: Sequence[CaseResult], path: Path) -> None:
    """Write one row per case, protocol and region as CSV; `dice_present` is empty where the truth has no region."""
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _CASE_COLUMNS)
        writer.writeheader()
        for result in results:
            for score, control in zip(result.scores, result.controls, strict=True):
                row = {key: _text(value) for key, value in asdict(score).items()}
                row |= {"case": result.case, "protocol": result.protocol.value}
                row["dice_present"] = _text(score.dice) if score.present else ""
                row["volume_error_ml"] = _text(score.volume_error_ml)
                row["control_dice"] = _text(control.dice)
                row["control_dice_present"] = _text(control.dice) if control.present else ""
                writer.writerow(row)
    part.replace(path)


def read_case_table(path: Path) -> tuple[CaseResult, ...]:
    """Read back what `write_case_table` wrote; of the controls only Dice, and no HD95 where none was measured.

    Raises:
        InputError: the file is missing or is no such table.
    """
    scores: dict[tuple[str, Protocol], list[tuple[RegionScore, RegionScore]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                volume, truth = float(row["volume_ml"]), float(row["truth_ml"])
                score = RegionScore(
                    *(row["region"], float(row["dice"]), float(row["iou"]), float(row["hd95_mm"] or "nan")),
                    *(volume, truth),
                )
                nan = float("nan")
                control = RegionScore(row["region"], float(row["control_dice"]), nan, nan, nan, truth)
                scores.setdefault((row["case"], Protocol(row["protocol"])), []).append((score, control))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not the table of an evaluation.") from error
    return tuple(
        CaseResult(case, protocol, *(tuple(part) for part in zip(*pairs, strict=True)))  # type: ignore[arg-type]
        for (case, protocol), pairs in scores.items()
    )


def pooled(evaluations: Sequence[Sequence[CaseResult]]) -> tuple[CaseResult, ...]:
    """Return the results of several evaluations as those of one.

    Raises:
        InputError: a case was measured twice under one protocol.
    """
    results: dict[tuple[str, Protocol], CaseResult] = {}
    for result in (result for evaluation in evaluations for result in evaluation):
        if results.setdefault((result.case, result.protocol), result) is not result:
            raise InputError(
                f"{result.case} was measured more than once under {result.protocol.value}; "
                "give evaluations of different cases."
            )
    return tuple(results.values())


def write_summary(rows: Sequence[RegionSummary], path: Path, failed: Sequence[str] = ()) -> None:
    """Write one row per protocol and region as CSV; each names the cases that failed and are in no number."""
    means = [name for name, value in vars(rows[0]).items() if isinstance(value, Mean)] if rows else []
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "protocol",
                "region",
                *(f"{m}_{k}" for m in means for k in ("mean", "sd", "n")),
                "absent",
                "phantoms",
                "failed",
            ]
        )
        for row in rows:
            values = [v for m in means for v in (getattr(row, m).mean, getattr(row, m).sd, getattr(row, m).count)]
            counts = (row.absent, row.phantoms, "; ".join(failed))
            writer.writerow([row.protocol.value, row.region, *(_text(v) for v in values), *counts])
    part.replace(path)


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return str(value)
