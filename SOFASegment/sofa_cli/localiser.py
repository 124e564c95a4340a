"""`sofa localiser`: train the small 3D network that finds the tumour, and add it to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Train the localiser, and add it to a checkpoint.", no_args_is_help=True)

Prepared = Annotated[Path | None, typer.Option(help="Folder of `sofa prepare`; prepared where left out.")]
Folds = Annotated[Path | None, typer.Option(help="File of the folds; all cases without.")]
Fold = Annotated[int | None, typer.Option(min=0, help="The fold of --folds that is left out; 0 where not given.")]


@app.command()
def train(
    prepared: Prepared = None,
    config: Annotated[str, typer.Option(help="TOML file, or one that ships: default.")] = "default",
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/localiser"),
    folds: Folds = None,
    fold: Fold = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value: --set run.steps=500.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, with its own config.")] = False,
) -> None:
    """Train on the cases of all folds but one, or on all cases; the result is OUT/localiser.safetensors.

    With a fold, the cases that were left out are measured at the end (Dice of the localiser alone, nothing helped).
    Ctrl-C stops after the current step with a checkpoint; --resume goes on with the same cases and settings. With it,
    --set may change optimiser.rate and run.steps.
    """
    from sofa_cli.train import read_settings
    from sofa_engine.runtime import tune_allocator
    from sofa_training.localiser import (
        finish_run,
        load_localiser_config,
        resume_localiser_config,
        sides,
        train_localiser,
    )

    cases = {"data.prepared": prepared, "data.folds": folds, "data.fold": 0 if folds and fold is None else fold}
    given = {key: value for key, value in cases.items() if value is not None} | read_settings(settings or [])
    chosen = resume_localiser_config(out, given) if resume else load_localiser_config(config, given)
    learning, waiting = sides(chosen.data, out, resume=resume)
    tune_allocator()
    with _Display(chosen.run.steps) as display:
        trained = train_localiser(chosen, learning, out, resume=resume, listener=display.told)
    if trained is None:
        typer.echo(f"Stopped; go on with --resume --out {out}")
        return
    path, rows = finish_run(trained, out, waiting)
    for name, dice in rows.items():
        typer.echo(f"{name}: " + ", ".join(f"{region} {value:.3f}" for region, value in dice.items()))
    typer.echo(f"Localiser: {path}")


@app.command()
def join(
    localiser: Annotated[Path, typer.Argument(help="localiser.safetensors of a run.")],
    checkpoint: Annotated[str | None, typer.Option(help="File or name; the one that ships where left out.")] = None,
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")] = Path("joined.safetensors"),
    name: Annotated[str | None, typer.Option(help="What to call it; the file's name where left out.")] = None,
    vote: Annotated[float, typer.Option(min=0, max=1, help="The localiser's weight in the first pass.")] = 0.5,
) -> None:
    """Write a checkpoint whose first pass is the mean of its own answer and the localiser's.

    Where the localiser finds nothing at all, slices are no longer encoded before a box asks for them, which saves time.
    """
    from sofa_engine.weights import WeightsStore
    from sofa_training.localiser_file import join as build

    build(localiser, WeightsStore().resolve(checkpoint), out, name=name or out.stem, vote=vote)
    typer.echo(f"Checkpoint: {out}")


class _Display:
    """A progress bar with the time left."""

    def __init__(self, steps: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[left]}"),
        )
        self._task = self._bar.add_task("", total=steps, loss="-", left="")

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def told(self, event: str, values: dict[str, Any]) -> None:
        """Show one step."""
        minutes, seconds = divmod(round(values["remaining_s"]), 60)
        left = f"{minutes}:{seconds:02d} left"
        self._bar.update(self._task, completed=values["step"], loss=f"{values['loss']:.3f}", left=left)
