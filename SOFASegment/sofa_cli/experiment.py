"""`sofa experiment paper`: the paper's rows, trained and measured, its tables with ours beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sofa_training.experiment import Plan
    from sofa_training.summary import RegionSummary

app = typer.Typer(help="Run the experiments of the paper.")

#: Columns of a table that is written to a file or a pipe, which has no width of its own.
_FILE_WIDTH = 200


@app.command()
def experiment(
    name: Annotated[str, typer.Argument(help="Which experiment; there is one: paper.")] = "paper",
    dataset: Annotated[Path | None, typer.Option(help="Cases with truth, as for `sofa prepare`.")] = None,
    prepared: Annotated[Path, typer.Option(help="The same, prepared, with folds.json.")] = Path("prepared"),
    out: Annotated[Path, typer.Option(help="Folder of the runs and tables.")] = Path("runs/paper"),
    start: Annotated[Path | None, typer.Option(help="lite_medsam.pth; random weights where left out.")] = None,
    row: Annotated[list[str] | None, typer.Option(help="Only these rows; all of them where left out.")] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Only these folds; 0 is the paper's 296/73.")] = None,
    all_folds: Annotated[bool, typer.Option("--all-folds", help="Five-fold cross-validation.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value of every row.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    smoke: Annotated[bool, typer.Option("--smoke", help="All rows on a few phantoms with a toy network.")] = False,
) -> None:
    """Train and measure the paper's rows and print tables 1 to 4, under the oracle and the automatic protocol.

    Interrupted, the same command goes on; rows and folds that are done are not done again.
    """
    from sofa_cli.train import read_settings
    from sofa_engine.errors import InputError
    from sofa_engine.runtime import tune_allocator
    from sofa_training.experiment import ROWS, Plan, run_experiment
    from sofa_training.folds import read_folds
    from sofa_training.smoke import smoke_plan

    if name != "paper":
        raise InputError(f"There is no experiment {name}; the one there is is called paper.")
    unknown = [r for r in row or () if r not in ROWS]
    if unknown:
        raise InputError(f"There is no row {unknown[0]}; choose among {', '.join(ROWS)}.")
    rows = tuple(row) if row else tuple(ROWS)
    if smoke:
        plan = smoke_plan(out, rows)
    elif dataset is None:
        raise InputError("Give --dataset, the cases that results are measured on, or --smoke.")
    else:
        every = tuple(range(len(read_folds(prepared / "folds.json")))) if all_folds else (0,)
        plan = Plan(dataset, prepared, out, rows, tuple(fold) if fold else every, start)
    plan = replace(plan, overrides={**plan.overrides, **read_settings(settings or [])})
    if "pretrained" in rows and plan.start is None:
        typer.echo("Without --start every row begins with random weights, and the row 'pretrained' means nothing.")
    tune_allocator()
    print_tables(plan, run_experiment(plan, device=device, progress=typer.echo))


def print_tables(plan: Plan, summaries: Mapping[str, Sequence[RegionSummary]]) -> None:
    """Print the paper's tables with ours, one per protocol, and write them to the experiment's folder."""
    from rich.console import Console
    from rich.table import Table

    from sofa_training.experiment import PROTOCOLS
    from sofa_training.paper_tables import TABLES, beyond_table, headings, lines, write_tables

    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    for table in (*TABLES, beyond_table(summaries)):
        for protocol in PROTOCOLS:
            number = f"Table {table.number}: " if table.number else ""
            title = f"{number}{table.title}; ours under protocol {protocol.value} ({protocol.title})"
            shown = Table("row", *headings(table, protocol), title=title)
            for line in lines(table, protocol, summaries):
                shown.add_row(line.label, *line.cells)
            console.print(shown)
    write_tables(summaries, PROTOCOLS, plan.out / "tables.csv")
    console.print(
        f"Dice over cases whose truth has the region, {len(plan.folds)} fold(s); all numbers: {plan.out / 'tables.csv'}"
    )
