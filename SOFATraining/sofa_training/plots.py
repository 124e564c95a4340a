"""Figures of an evaluation and of a training run, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sofa_engine.types import SUB_REGIONS
from sofa_training.edits import EditCurve
from sofa_training.evaluation import CaseResult
from sofa_training.regions import REGIONS
from sofa_training.reliability import Reliability

#: Red, green and yellow as the sub-regions are shown everywhere else: NCR, ED, ET.
_COLOURS = {1: (0.84, 0.15, 0.16), 2: (0.17, 0.63, 0.17), 4: (1.0, 0.85, 0.1)}


def dice_plot(results: Sequence[CaseResult]) -> bytes:
    """Return a picture of the Dice of every case by region, with the mean of the image-free control beside it.

    Args:
        results: of one protocol.
    """
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    rng = np.random.default_rng(0)
    for place in range(len(REGIONS)):
        scores = [(r.scores[place].dice, r.controls[place].dice) for r in results if r.scores[place].present]
        if not scores:
            continue
        model, control = np.array(scores).T
        axes.boxplot(model, positions=[place], widths=0.5, showfliers=False, medianprops={"color": "black"})
        axes.plot(place + rng.uniform(-0.12, 0.12, model.size), model, "o", color="tab:blue", alpha=0.6, markersize=4)
        axes.plot(
            place + 0.36, control.mean(), "D", color="tab:orange", label="image-free control" if not place else None
        )
    axes.set_xticks(range(len(REGIONS)), REGIONS)
    axes.set_ylabel("Dice")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(axis="y", alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    return _png(figure)


def edits_plot(curves: Sequence[EditCurve], target: float) -> bytes:
    """Return a picture of mean Dice, and of the share of cases at the target, against corrected boxes."""
    longest = max(len(curve.dice) for curve in curves)
    table = np.array([[*curve.dice, *[curve.dice[-1]] * (longest - len(curve.dice))] for curve in curves])
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(table.T, color="tab:blue", alpha=0.25)
    left.plot(table.mean(axis=0), color="tab:blue", linewidth=2.5)
    left.axhline(target, color="grey", linestyle="--", linewidth=1)
    left.set(xlabel="corrected boxes", ylabel="mean Dice of NCR, ED, ET", ylim=(0, 1))
    reached = (np.maximum.accumulate(table, axis=1) >= target).mean(axis=0)
    right.step(range(longest), reached, where="post", color="tab:green")
    right.set(xlabel="corrected boxes", ylabel=f"share of cases at Dice {target:g}", ylim=(0, 1.02))
    return _png(figure)


def reliability_plot(cases: Sequence[Reliability]) -> bytes:
    """Return a picture of how often a stated probability was right, over the voxels of all cases, per sub-region."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    for sub_region in SUB_REGIONS:
        count, stated, observed = np.sum([case.bins[sub_region.index] for case in cases], axis=0)
        some = count > 0
        colour = _COLOURS[sub_region.label]
        name = sub_region.value.upper()
        left.plot(
            stated[some] / count[some], observed[some] / count[some], "o-", markersize=3, color=colour, label=name
        )
        ranks = [case.rank[sub_region.index] for case in cases if np.isfinite(case.rank[sub_region.index])]
        right.plot([sub_region.index] * len(ranks), ranks, "o", alpha=0.6, markersize=4, color=colour)
    left.set(xlabel="stated probability", ylabel="share that is truth", xlim=(0, 1), ylim=(0, 1))
    left.legend(fontsize=7, loc="upper left")
    right.axhline(0, color="grey", linewidth=1)
    right.set_xticks(range(len(SUB_REGIONS)), [r.value.upper() for r in SUB_REGIONS])
    right.set(ylabel="rank correlation of predicted and true IoU", ylim=(-1.02, 1.02), xlim=(-0.5, 2.5))
    return _png(figure)


def case_picture(image: np.ndarray, truth: np.ndarray, found: np.ndarray, title: str) -> bytes:
    """Return image, truth and result of one slice beside each other.

    Args:
        image: uint8 (H, W).
        truth: uint8 (H, W), values of `SubRegion.label` and 0.
        found: the same.
        title: above them.
    """
    figure = Figure(figsize=(7, 2.7), layout="constrained")
    figure.suptitle(title, fontsize=9)
    for axes, labels, name in zip(
        figure.subplots(1, 3), (None, truth, found), ("image", "truth", "found"), strict=True
    ):
        axes.imshow(_painted(image, labels))
        axes.set_title(name, fontsize=8)
        axes.axis("off")
    return _png(figure)


def training_plot(events: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the loss of every step (smoothed) and the validation Dice of a run's log."""
    steps = [e for e in events if e["event"] == "step"]
    checks = [e for e in events if e["event"] == "validation"]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    if steps:
        loss = np.array([e["loss"] for e in steps], dtype=np.float64)
        width = max(1, loss.size // 25)
        smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
        left.plot([e["step"] for e in steps], loss, color="tab:blue", alpha=0.25, linewidth=0.7)
        left.plot([e["step"] for e in steps[width - 1 :]], smooth, color="tab:blue")
    left.set(xlabel="step", ylabel="loss")
    for region in REGIONS:
        points = [(e["epoch"], e["dice"][region]) for e in checks if region in e["dice"]]
        if points:
            right.plot(*zip(*points, strict=True), marker="o", markersize=3, label=region)
    right.set(xlabel="epoch", ylabel="validation Dice, nothing helped", ylim=(0, 1))
    if checks:
        right.legend(fontsize=7)
    return _png(figure)


def _painted(image: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    colour = np.repeat(image[..., None].astype(np.float64) / 255, 3, axis=-1)
    if labels is not None:
        for sub_region in SUB_REGIONS:
            inside = labels == sub_region.label
            colour[inside] = 0.45 * colour[inside] + 0.55 * np.array(_COLOURS[sub_region.label])
    return colour


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
