"""What the record of a run means: the plain way, ours and the floor in seconds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

#: What the published way computes for one BraTS volume, whatever is on the slice.
SLICES, SEQUENCES, SUB_REGIONS, PASSES = 155, 4, 3, 2


@dataclass(frozen=True)
class Line:
    """One kind of work of one arrangement.

    Attributes:
        work: what is done.
        plain: seconds of the plain way, extrapolated from single images and boxes.
        ours: seconds of ours, the median.
        floor: seconds of the arithmetic alone at the measured rate; None where it was not counted.
        spread: longest over shortest repeat of ours, how much the machine was disturbed.
        basis: what ours is extrapolated from, "" where all of it was computed.
    """

    work: str
    plain: float
    ours: float
    floor: float | None
    spread: float
    basis: str

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.plain / self.ours


def lines(row: dict[str, Any]) -> list[Line]:
    """Return first pass, visible slice and box of one arrangement's entry in the record.

    The plain way encodes every slice of every sequence, decodes every sub-region twice for a first pass, and for a
    box encodes its slices again.
    """
    ours = row["ours"]
    encode, decode = (statistics.median(row["plain"][part]["repeats"]) for part in ("encode", "decode"))
    # Where all was computed, the localiser has had its say already.
    scale = 1.0 if ours["slices"] == ours["case_slices"] else ours["worth"] / ours["slices"]
    locate = 0.0 if ours["locate"] is None else median(ours["locate"])
    slices = ours["box_slices"]
    return [
        Line(
            "first pass",
            SLICES * (SEQUENCES * encode + SUB_REGIONS * PASSES * decode),
            scale * median(ours["first_pass"]) + locate,
            scale * ours["flop"] / ours["rate"],
            spread(ours["first_pass"]),
            ""
            if scale == 1
            else f"x {scale:.1f}: {ours['slices']} slices for {ours['worth']} of {ours['case_slices']}",
        ),
        Line(
            "visible slice after a drag",
            SEQUENCES * encode + decode,
            median(ours["visible"]),
            None,
            spread(ours["visible"]),
            "",
        ),
        Line(
            f"box of {slices} slices",
            slices * (SEQUENCES * encode + decode),
            median(ours["box"]),
            None,
            spread(ours["box"]),
            "",
        ),
    ]


def median(timing: dict[str, list[float]]) -> float:
    """Return the median of a timing's repeats."""
    return statistics.median(timing["repeats"])


def spread(timing: dict[str, list[float]]) -> float:
    """Return the longest over the shortest repeat."""
    return max(timing["repeats"]) / min(timing["repeats"])


def straight_line(growth: list[dict[str, float]]) -> tuple[float, float, float]:
    """Fit seconds = base + slope x voxels; returns base, slope and the largest deviation as a share of its value.

    Least squares of the relative deviation, so that small crops count as much as large ones.
    """
    weights = [1 / point["seconds"] ** 2 for point in growth]
    total = sum(weights)
    x = sum(w * p["voxels"] for w, p in zip(weights, growth, strict=True)) / total
    y = sum(w * p["seconds"] for w, p in zip(weights, growth, strict=True)) / total
    around = [(w, p["voxels"] - x, p["seconds"] - y) for w, p in zip(weights, growth, strict=True)]
    slope = sum(w * dx * dy for w, dx, dy in around) / sum(w * dx * dx for w, dx, _ in around)
    base = y - slope * x
    worst = max(abs(base + slope * p["voxels"] - p["seconds"]) / p["seconds"] for p in growth)
    return base, slope, worst
