"""`sofa train`: one training run, or its continuation."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Train or fine-tune a model.")


@app.command()
def train(
    config: Annotated[
        str, typer.Option(help="TOML file, or one that ships: default, paper, compact, compact-2, compact-3.")
    ] = "default",
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/run"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value: --set run.epochs=50.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, with its own config.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the complete configuration and stop.")] = False,
) -> None:
    """Train on the cases of `sofa prepare`.

    Several GPUs: torchrun --standalone --nproc-per-node N --no-python sofa train ...; the batch is shared among them.
    Ctrl-C stops after the current iteration with a checkpoint; --resume continues as if nothing had happened. With it,
    --set may change optimiser.rate, run.precision, run.batch and run.epochs.
    """
    from sofa_training.config import dump_config, load_config

    if resume:
        from sofa_training.run_folder import resume_config

        chosen = resume_config(out, read_settings(settings or []))
    else:
        chosen = load_config(config, read_settings(settings or []))
    if show:
        typer.echo(dump_config(chosen))
        return

    from sofa_engine.runtime import tune_allocator
    from sofa_training.trainer import train as run

    tune_allocator()
    with _Display(chosen.run.epochs) as display:
        outcome = run(chosen, out, resume=resume, listener=display.told)
    if not display.leads:
        return
    best = f", best validation score {outcome.best:.3f}" if outcome.best is not None else ""
    typer.echo(f"Run {outcome.reason} after {outcome.epochs} epochs{best}: {outcome.checkpoint}")
    if find_spec("matplotlib") is not None:  # a run of Slicer's panel does without: the panel draws its curves
        from sofa_engine.writing import replacing
        from sofa_training.plots import training_plot
        from sofa_training.runlog import read_log

        with replacing(out / "curves.png") as part:
            part.write_bytes(training_plot(read_log(out)))


def read_settings(settings: list[str]) -> dict[str, Any]:
    """Read KEY=VALUE pairs; a value is TOML, and text where it is none."""
    from sofa_engine.errors import InputError

    overrides: dict[str, Any] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise InputError(f"--set {setting} must have the form KEY=VALUE.")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            overrides[key.strip()] = value.strip()
    return overrides


class _Display:
    """A progress bar with the time left, in the leading process of a run."""

    def __init__(self, epochs: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._epochs = epochs
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[speed]} slices/s  {task.fields[left]} left"),
        )
        self._task = self._bar.add_task("", total=None, epoch=f"0/{epochs}", loss="-", speed="-", left="?")
        self._per_epoch = 1
        #: Of torchrun's processes only the leading one is told anything, and only that one speaks.
        self.leads = False

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @staticmethod
    def _warn(facts: Mapping[str, Any]) -> None:
        """Say what makes the validation of a run worthless."""
        from sofa_cli.console import say_warning
        from sofa_training.overlap import VALIDATION_SEEN

        if seen := facts.get(VALIDATION_SEEN):
            say_warning(
                f"The start was trained on {seen} of the {facts['validation_cases']} validation cases, whose Dice says "
                "nothing about new patients; choose another data.fold, or a start that has not seen them."
            )

    def told(self, event: str, values: dict[str, Any]) -> None:
        """Show one event of the run."""
        self.leads = True
        if event == "start":
            self._warn(values)
            self._per_epoch = values["iterations_per_epoch"]
            self._bar.update(self._task, total=self._epochs * self._per_epoch)
            self._bar.start()
            if values["features_gb"]:
                size = f"{values['features_gb']:.2g} GB"
                self._bar.console.print(
                    f"What the frozen encoder says takes up to {size} of disk until the run has ended."
                )
        elif event == "step":
            minutes, seconds = divmod(round(values["remaining_s"]), 60)
            self._bar.update(
                self._task,
                completed=values["epoch"] * self._per_epoch + values["iteration"] + 1,
                epoch=f"{values['epoch'] + 1}/{self._epochs}",
                loss=f"{values['loss']:.3f}",
                speed=f"{values['slices_per_second']:.1f}",
                left=f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}",
            )
        elif event == "validation":
            dice = ", ".join(f"{region} {value:.3f}" for region, value in values["dice"].items())
            self._bar.console.print(f"epoch {values['epoch']}: validation Dice, nothing helped: {dice}")
