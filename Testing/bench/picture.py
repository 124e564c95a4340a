"""The record of a run as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from bench.figures import lines, straight_line


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw the waits on a logarithmic scale, and the cost of crops with the straight line through it."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained", width_ratios=(3, 2))
    waits = [(row["arrangement"], line) for row in record["rows"] for line in lines(row)]
    places = list(range(len(waits)))
    left.barh([p - 0.27 for p in places], [line.plain for _, line in waits], 0.26, label="plain way, extrapolated")
    ours = left.barh(places, [line.ours for _, line in waits], 0.26, label="ours")
    left.bar_label(ours, [f" {line.ratio:.0f} x" for _, line in waits])
    floors = [(p + 0.27, line.floor) for p, (_, line) in enumerate(waits) if line.floor is not None]
    left.barh([p for p, _ in floors], [floor for _, floor in floors], 0.26, label="floor")
    left.set(xscale="log", xlabel="seconds", title=f"{record['case']}, {record['machine']['processor']}")
    left.set_yticks(places, [f"{name}\n{line.work}{' **' * bool(line.basis)}" for name, line in waits])
    left.invert_yaxis()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    base, slope, worst = straight_line(record["growth"])
    voxels = [point["voxels"] for point in record["growth"]]
    right.plot([v / 1e6 for v in voxels], [point["seconds"] for point in record["growth"]], "o", label="measured")
    right.plot([0, max(voxels) / 1e6], [base, base + slope * max(voxels)], label=f"straight line, within {worst:.0%}")
    right.set(xlabel="million voxels of brain (8 slices)", ylabel="seconds, features and masks", xlim=0, ylim=0)
    right.set_title("compact: cost over the size of the crop")
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
