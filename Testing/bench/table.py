"""The record of a run as tables on the terminal."""

from __future__ import annotations

import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import lines, straight_line


def show(record: dict[str, Any]) -> None:
    """Print what a user waits for, what it takes, how it grows, and how fast this machine trains."""
    console, machine = Console(), record["machine"]
    device = machine["gpu"] or f"{machine['cores']} cores, {machine['threads']} threads"
    table = Table(title=f"Seconds on {record['case']}: {machine['processor']}, {device}", title_justify="left")
    for heading in ("arrangement", "work", "plain way *", "ours", "ratio", "floor", "spread", "extrapolated **"):
        table.add_column(heading, justify="left" if heading in ("arrangement", "work", "extrapolated **") else "right")
    for row in record["rows"]:
        for line in lines(row):
            floor = "" if line.floor is None else f"{line.floor:.3g}"
            figures = f"{line.plain:.3g}", f"{line.ours:.3g}", f"{line.ratio:.3g} x", floor, f"{line.spread:.2f}"
            table.add_row(row["arrangement"], line.work, *figures, line.basis)
    console.print(table)
    console.print(
        "* extrapolated from the medians of one image and one box: 155 slices x 4 sequences, and 2 passes x 3 "
        "sub-regions.\n** where ours was not computed whole. Floor: the arithmetic of our first pass over the best "
        "rate of a matrix product, both of this run. Spread: longest over shortest repeat."
    )
    for row in record["rows"]:
        ours = row["ours"]
        console.print(
            f"{row['arrangement']}: {ours['weights']}, {ours['precision']}, {ours['rate'] / 1e9:.0f} GFLOP/s in matrix "
            f"products; peak memory {ours['peak_gib']:.2f} GiB (plain way {row['plain']['peak_gib']:.2f})"
        )
    start = record["cold_start_s"]
    console.print(f"Cold start, from nothing to the mask of one slice: {statistics.median(start):.1f} s")
    base, slope, worst = straight_line(record["growth"])
    console.print(
        f"Growth: {base:.2f} s + {slope * 1e6:.2f} s per million voxels; no crop is further than {worst:.0%} from it"
    )
    for run in record["training"]:
        crop = " x ".join(map(str, run["crop"]))
        console.print(
            f"Training, {run['configuration']}: {run['slices_per_second']:.2f} slices/s ({run['batch']} slices of "
            f"{crop} pixels and 4 sequences a step, {run['precision']}), peak memory {run['peak_gib']:.2f} GiB, "
            f"{run['waiting_for_data']:.0%} of the time waiting for data"
        )
    console.print(
        f"The machine's load before: {machine['load_before']}. All of it took {record['whole_run_s'] / 60:.1f} min."
    )
