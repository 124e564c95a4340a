"""`make bench`: the plain way, ours and the floor, side by side in one run.

Prints a table, draws a picture, and keeps the figures as JSON under Testing/bench/results/ with the machine's
description. Ratios are what to compare between machines; the sample behind an extrapolated figure is named.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import typer
from rich.console import Console
from rich.table import Table

mpl.use("Agg")

import matplotlib.pyplot as plt
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import clock, ours, plain
from sofa_engine.case import Case
from sofa_engine.model import config
from sofa_engine.opening import open_case
from sofa_engine.runtime import choose_device, tune_allocator
from sofa_engine.synthetic import synthetic_case

RESULTS = Path(__file__).parent / "results"
REAL_CASE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "brats2021" / "BraTS2021_00000"
#: Crops (rows, columns) whose cost is plotted.
SIZES = [(64, 64), (96, 96), (128, 128), (192, 160), (256, 256)]
ARRANGEMENTS = {"compact": config.compact, "litemedsam": config.litemedsam}


def load() -> tuple[Case, str]:
    """Return the real case where it is there, else the synthetic one, and what to call it."""
    if REAL_CASE.is_dir():
        return open_case(REAL_CASE), "a real BraTS case"
    return synthetic_case()[0], "the synthetic demo case"


def main(
    arrangement: Annotated[list[str] | None, typer.Option(help="compact, litemedsam; both if not given.")] = None,
    repeats: Annotated[int, typer.Option(help="Repeats behind every median.")] = 3,
    whole: Annotated[bool, typer.Option(help="Run litemedsam's first pass on all slices instead of eight.")] = False,
) -> None:
    """Time the engine against the plain way."""
    described = clock.machine()
    plain_times = {name: plain.time_plain(ARRANGEMENTS[name](), repeats) for name in arrangement or ARRANGEMENTS}
    tune_allocator()  # after the plain way, which does without
    case, title = load()
    device = choose_device()
    rows, record = [], {"machine": described, "case": title, "repeats": repeats, "arrangements": {}}
    for name, reference in plain_times.items():
        model = ours.random_model(ARRANGEMENTS[name]())
        sample = case if name == "compact" or whole or device.type == "cuda" else ours.middle_slices(case, 8)
        mine = ours.time_ours(model, sample, repeats)
        scale = ours.slices_of(case) / mine.slices
        rate = clock.matrix_rate(device, getattr(torch, mine.precision))
        rows.append((name, reference, mine, scale, rate))
        record["arrangements"][name] = {
            "plain_case_s_extrapolated": reference.case_s,
            "plain_encode_ms": reference.encode.median * 1e3,
            "plain_decode_ms": reference.decode.median * 1e3,
            "ours": asdict(mine),
            "ours_case_s": mine.first_pass.median * scale,
            "ours_case_extrapolated_from_slices": mine.slices if scale != 1 else None,
            "floor_case_s": mine.flop * scale / rate,
            "matrix_gflops": rate / 1e9,
        }
    growth = ours.crop_growth(
        ours.random_model(config.compact()), [(64, 64), (96, 96), (128, 128), (192, 160), (256, 256)], repeats
    )
    record["growth"] = [{"pixels": pixels, "seconds": timing.median} for pixels, timing in growth]
    record["peak_memory_gib"] = clock.peak_memory_gib()
    RESULTS.mkdir(exist_ok=True)
    stem = time.strftime("%Y-%m-%d") + f"-{device.type}"
    (RESULTS / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    _show(rows, record, title)
    _draw(rows, growth, RESULTS / f"{stem}.png")
    Console().print(f"Kept: Testing/bench/results/{stem}.json and .png")


def _show(rows: list, record: dict, title: str) -> None:
    console = Console()
    table = Table(title=f"Seconds on {title}, {record['machine']['processor']}, {device_line(record)}")
    for heading in ("arrangement", "work", "plain way *", "ours", "ratio", "floor", "spread"):
        table.add_column(heading, justify="left" if heading in ("arrangement", "work") else "right")
    for name, reference, mine, scale, rate in rows:
        note = "" if scale == 1 else f" (x{scale:.1f} of {mine.slices} slices)"
        case_s, floor = mine.first_pass.median * scale, mine.flop * scale / rate
        visible, box = mine.visible.median, mine.box.median
        table.add_row(
            name,
            "first pass" + note,
            f"{reference.case_s:.0f}",
            f"{case_s:.2f}",
            f"{reference.case_s / case_s:.1f}x",
            f"{floor:.2f}",
            f"{mine.first_pass.spread:.2f}",
        )
        table.add_row(
            name,
            "visible slice",
            f"{reference.box_s(1):.2f}",
            f"{visible:.3f}",
            f"{reference.box_s(1) / visible:.0f}x",
            "",
            f"{mine.visible.spread:.2f}",
        )
        count = min(ours.BOX_SLICES, mine.slices)
        table.add_row(
            name,
            f"box of {count} slices",
            f"{reference.box_s(count):.1f}",
            f"{box:.3f}",
            f"{reference.box_s(count) / box:.0f}x",
            "",
            f"{mine.box.spread:.2f}",
        )
    console.print(table)
    console.print(
        "* extrapolated from the medians of one image and one box: 155 slices x 4 sequences, and 2 passes x 3 "
        f"sub-regions. Peak memory of this process: {record['peak_memory_gib']:.2f} GiB. "
        "Spread: longest over shortest repeat."
    )


def device_line(record: dict) -> str:
    """Return the GPU's name or the number of cores."""
    machine = record["machine"]
    return machine["gpu"] or f"{machine['cores']} cores"


def _draw(rows: list, growth: list, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    names = [name for name, *_ in rows]
    for offset, (label, values) in enumerate(
        {
            "plain way (extrapolated)": [reference.case_s for _, reference, *_ in rows],
            "ours": [mine.first_pass.median * scale for _, _, mine, scale, _ in rows],
            "floor": [mine.flop * scale / rate for _, _, mine, scale, rate in rows],
        }.items()
    ):
        left.bar([i + 0.27 * offset for i in range(len(names))], values, width=0.25, label=label)
    left.set(yscale="log", ylabel="seconds, first pass of a case", xticks=[i + 0.27 for i in range(len(names))])
    left.set_xticklabels(names)
    left.legend()
    right.plot([pixels / 1e3 for pixels, _ in growth], [timing.median for _, timing in growth], "o-")
    right.set(
        xlabel="thousand pixels encoded (8 slices)", ylabel="seconds", xlim=0, ylim=0, title="compact: cost over size"
    )
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    typer.run(main)
