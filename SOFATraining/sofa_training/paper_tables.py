"""The paper's printed numbers, and its tables with ours beside them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sofa_training.protocols import Protocol
from sofa_training.summary import Mean, RegionSummary


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        number: as printed.
        title: what it compares.
        columns: (heading, region, "dice" or "iou").
        rows: experiment row -> (label, printed mean and sd per column; None where the paper prints none).
    """

    number: int
    title: str
    columns: tuple[tuple[str, str, str], ...]
    rows: Mapping[str, tuple[str, tuple[tuple[float, float | None] | None, ...]]]


_SUB_REGIONS = (("NCR", "NCR", "dice"), ("ED", "ED", "dice"), ("ET", "ET", "dice"), ("WT", "WT", "dice"))

TABLES: tuple[PaperTable, ...] = (
    PaperTable(
        1,
        "sequences alone and together (whole tumour)",
        (("Dice", "WT", "dice"), ("IoU", "WT", "iou")),
        {
            "t1": ("T1", ((0.7896, 0.092), (0.6613, 0.119))),
            "t1c": ("T1c", ((0.8078, 0.081), (0.6849, 0.108))),
            "t2": ("T2", ((0.8447, 0.078), (0.7386, 0.109))),
            "flair": ("FLAIR", ((0.8547, 0.091), (0.7562, 0.126))),
            "pretrained": ("Multi-modal, pre-trained", ((0.8009, 0.076), (0.6744, 0.103))),
            "finetuned": ("Multi-modal, fine-tuned", ((0.8778, 0.063), (0.7876, 0.095))),
        },
    ),
    PaperTable(
        2,
        "against others (their numbers come from other splits and are not repeated)",
        (("WT", "WT", "dice"), ("TC", "TC", "dice"), ("ET", "ET", "dice")),
        {"full": ("Full framework", ((0.900, None), (0.845, None), (0.900, None)))},
    ),
    PaperTable(
        3,
        "components",
        _SUB_REGIONS,
        {
            "finetuned": ("Fine-tuned multi-modal", ((0.64, 0.14), (0.81, 0.09), (0.88, 0.07), (0.88, 0.06))),
            "attention": ("+ attention", ((0.68, 0.12), (0.83, 0.08), (0.89, 0.06), (0.89, 0.05))),
            "prompting": ("+ prompting", ((0.67, 0.13), (0.82, 0.09), (0.88, 0.07), (0.88, 0.06))),
            "full": ("Full framework", ((0.71, 0.11), (0.84, 0.08), (0.90, 0.06), (0.90, 0.05))),
        },
    ),
    PaperTable(
        4,
        "sub-regions by sequence",
        _SUB_REGIONS,
        {
            "t1": ("T1", ((0.58, 0.16), (0.78, 0.11), (0.83, 0.10), (0.79, 0.09))),
            "t1c": ("T1c", ((0.61, 0.15), (0.79, 0.10), (0.85, 0.09), (0.81, 0.08))),
            "t2": ("T2", ((0.59, 0.15), (0.81, 0.09), (0.84, 0.09), (0.84, 0.08))),
            "flair": ("FLAIR", ((0.60, 0.14), (0.82, 0.10), (0.86, 0.08), (0.85, 0.09))),
            "pretrained": ("Multi-modal, pre-trained", ((0.59, 0.15), (0.79, 0.10), (0.82, 0.09), (0.80, 0.08))),
            "finetuned": ("Multi-modal, fine-tuned", ((0.64, 0.14), (0.81, 0.09), (0.88, 0.07), (0.88, 0.06))),
        },
    ),
)

#: Beyond the paper: no printed numbers.
BEYOND = ("2.5d", "all-masks", "difficulty", "temperature", "tta")
_BEYOND_COLUMNS = (*_SUB_REGIONS, ("TC", "TC", "dice"))

Summaries = Mapping[str, Sequence[RegionSummary]]


@dataclass(frozen=True)
class TableLine:
    """One line of a printed table: label, then per column the paper's text and ours."""

    label: str
    cells: tuple[str, ...]


def headings(table: PaperTable, protocol: Protocol) -> tuple[str, ...]:
    """Return the columns of a table under one protocol: the paper's and ours side by side."""
    return tuple(f"{name} {who}" for name, _, _ in table.columns for who in ("paper", protocol.value))


def lines(table: PaperTable, protocol: Protocol, summaries: Summaries) -> tuple[TableLine, ...]:
    """Return the lines of a table; "-" where a row was not run. The last line is the protocol's image-free control."""
    found = []
    for row, (label, printed) in table.rows.items():
        cells: list[str] = []
        for (_, region, metric), number in zip(table.columns, printed, strict=True):
            cells += [_printed(number), str(_ours(summaries.get(row, ()), protocol, region, metric))]
        found.append(TableLine(label, tuple(cells)))
    some = next((rows for rows in summaries.values() if rows), ())  # the same whatever the row
    control = [
        cell
        for _, region, metric in table.columns
        for cell in ("", str(_ours(some, protocol, region, "control")) if metric == "dice" else "")
    ]
    found.append(TableLine(f"image-free control: {protocol.control_title}", tuple(control)))
    return tuple(found)


def beyond_table(summaries: Summaries) -> PaperTable:
    """Return the table of what goes beyond the paper, with the rows that were run."""
    nothing = (None,) * len(_BEYOND_COLUMNS)
    rows = {row: (row, nothing) for row in ("full", *BEYOND) if row in summaries}
    return PaperTable(0, "beyond the paper: the full framework with one change each", _BEYOND_COLUMNS, rows)


def write_tables(summaries: Summaries, protocols: Sequence[Protocol], path: Path) -> None:
    """Write all tables as CSV, one line per table, row, column and protocol."""
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["table", "row", "column", "protocol", "paper_mean", "paper_sd", "mean", "sd", "cases"])
        for table in (*TABLES, beyond_table(summaries)):
            for row, (_, printed) in table.rows.items():
                for (name, region, metric), number in zip(table.columns, printed, strict=True):
                    for protocol in protocols:
                        ours = _ours(summaries.get(row, ()), protocol, region, metric)
                        paper = number if number is not None else ("", "")
                        values = (ours.mean, ours.sd, ours.count) if ours.count else ("", "", 0)
                        writer.writerow([table.number or "beyond", row, name, protocol.value, *paper, *values])
    part.replace(path)


def _ours(rows: Sequence[RegionSummary], protocol: Protocol, region: str, metric: str) -> Mean:
    for row in rows:
        if row.protocol is protocol and row.region == region:
            return {"dice": row.dice_present, "iou": row.iou, "control": row.control}[metric]
    return Mean.of(())


def _printed(number: tuple[float, float | None] | None) -> str:
    if number is None:
        return ""
    mean, sd = number
    return f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"
