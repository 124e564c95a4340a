"""`sofa weights`: checkpoints on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sofa_cli.console import messages, progress_bar, results
from sofa_engine.weights import WeightsStore

app = typer.Typer(no_args_is_help=True, help="List, download, verify and remove checkpoints.")

Name = Annotated[str, typer.Argument(help="Name that 'sofa weights list' shows.")]


@app.command("list")
def list_() -> None:
    """Show the checkpoints that SOFA knows and which of them are on this machine."""
    store = WeightsStore()
    default = store.manifest().default
    known = store.list()
    if not known:
        messages().print("The manifest lists no checkpoint; give your own with 'sofa segment --weights FILE'.")
        return
    table = Table("name", "arrangement", "MB", "here", "note")
    for checkpoint in known:
        entry = checkpoint.entry
        name = f"{entry.name} (default)" if entry.name == default else entry.name
        where = str(checkpoint.path) if checkpoint.path else ("can be downloaded" if entry.url else "no")
        table.add_row(name, entry.arrangement, f"{entry.size / 1e6:.1f}", where, entry.note)
    results().print(table)


@app.command()
def get(name: Name) -> None:
    """Download a checkpoint; one that broke off is continued."""
    with progress_bar(name) as tell:
        path = WeightsStore().get(name, progress=tell)
    typer.echo(path)


@app.command()
def add(file: Annotated[Path, typer.Argument(help="Checkpoint that was carried here by hand.")]) -> None:
    """Take over a checkpoint without a network."""
    typer.echo(WeightsStore().add(file))


@app.command()
def verify(name: Name) -> None:
    """Compare a checkpoint on this machine with its SHA-256."""
    typer.echo(f"{WeightsStore().verify(name)} is intact")


@app.command()
def path(
    name: Annotated[str | None, typer.Argument(help="Name; the default checkpoint where none is given.")] = None,
) -> None:
    """Print where a checkpoint lies."""
    typer.echo(WeightsStore().resolve(name))


@app.command()
def remove(name: Name) -> None:
    """Delete a downloaded checkpoint; what ships with SOFA stays."""
    typer.echo(f"{name} was removed" if WeightsStore().remove(name) else f"{name} was not downloaded")
