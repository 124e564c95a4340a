from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from sofa_training.statistics import compare, holm


def test_holm_gives_the_textbook_example():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_holm_never_exceeds_one_and_never_falls_below_the_raw_value():
    p = np.random.default_rng(0).random(20)
    adjusted = holm(p)
    assert (adjusted >= p).all() and adjusted.max() <= 1


def test_a_consistent_gain_is_significant_and_noise_is_not():
    rng = np.random.default_rng(1)
    base = rng.uniform(0.5, 0.9, 24)
    better, same = compare(
        {"gain": (base, base + 0.02 + rng.normal(0, 0.005, 24)), "noise": (base, base + rng.normal(0, 0.01, 24))}
    )
    assert better.p_holm < 0.001
    assert same.p_holm > 0.05
    assert better.mean_difference == pytest.approx(0.02, abs=0.003)
    assert better.p == pytest.approx(min(1, better.p_holm / 2))


def test_pairs_with_a_missing_value_are_left_out():
    first, second = [0.1, 0.2, float("nan"), 0.4, 0.3, 0.2], [0.2, 0.4, 0.5, float("nan"), 0.6, 0.6]
    (row,) = compare({"x": (first, second)})
    assert row.cases == 4 and row.p == wilcoxon([0.1, 0.2, 0.3, 0.4]).pvalue


def test_two_equal_runs_do_not_differ():
    (row,) = compare({"x": ([0.5] * 6, [0.5] * 6)})
    assert (row.p, row.mean_difference) == (1.0, 0.0)
