"""Whether two runs differ: paired Wilcoxon signed-rank tests over cases, corrected for their number (section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon


@dataclass(frozen=True)
class Comparison:
    """One paired test.

    Attributes:
        name: what was compared ("NCR Dice").
        cases: pairs that entered (NaNs on either side leave a pair out).
        mean_difference: mean of second minus first.
        p: two-sided p value of the Wilcoxon signed-rank test; 1 where no pair differs.
        p_holm: p after Holm's step-down correction over all tests of the same call.
    """

    name: str
    cases: int
    mean_difference: float
    p: float
    p_holm: float


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return Holm's step-down adjusted p values (Holm 1979), in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def compare(pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> tuple[Comparison, ...]:
    """Test every named pair of per-case values, same cases in the same order on both sides.

    Raises:
        ValueError: the two sides of a pair have different lengths.
    """
    rows: list[tuple[str, int, float, float]] = []
    for name, (first, second) in pairs.items():
        difference = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
        difference = difference[np.isfinite(difference)]
        p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
        rows.append((name, int(difference.size), float(difference.mean()) if difference.size else 0.0, p))
    adjusted = holm([row[3] for row in rows])
    return tuple(Comparison(*row, float(p)) for row, p in zip(rows, adjusted, strict=True))
