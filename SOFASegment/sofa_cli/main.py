"""Entry of the `sofa` command. Sub-commands are imported when they are called, so that `sofa --help` is instant."""

from __future__ import annotations

import importlib
import os
import signal
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from sofa_cli.console import NO_MEMORY, say_error
from sofa_engine import __version__
from sofa_engine.errors import SofaError

EXIT_UNUSABLE, EXIT_INTERRUPTED = 2, 130


class Lazy(NamedTuple):
    """A sub-command that is not imported yet: where its Typer app is, its summary, and the pip extra it needs."""

    target: str
    summary: str
    extra: str | None = None


COMMANDS: dict[str, Lazy] = {
    "segment": Lazy("sofa_cli.segment:app", "Segment one or several cases."),
    "demo": Lazy("sofa_cli.demo:app", "Segment a built-in case, or one of yours, and show the result."),
    "inspect": Lazy("sofa_cli.inspect:app", "Say what is found in a case folder and what would be done with it."),
    "weights": Lazy("sofa_cli.weights:app", "List, download, verify and remove checkpoints."),
    "serve": Lazy("sofa_cli.serve:app", "Run the engine for Slicer and the browser.", "app"),
    "view": Lazy("sofa_cli.view:app", "Open the browser face.", "app"),
    "prepare": Lazy("sofa_cli.prepare:app", "Check cases and prepare them for training.", "train"),
    "localiser": Lazy("sofa_cli.localiser:app", "Train the localiser, and add it to a checkpoint.", "train"),
    "train": Lazy("sofa_cli.train:app", "Train or fine-tune a model.", "train"),
    "evaluate": Lazy("sofa_cli.evaluate:app", "Measure a model on cases with a truth.", "train"),
    "pool": Lazy("sofa_cli.pool:app", "Summarise several evaluations, such as those of the folds.", "train"),
    "experiment": Lazy("sofa_cli.experiment:app", "Run the experiments of the paper.", "train"),
}


class LazyGroup(TyperGroup):
    """Loads a sub-command on use, and turns what goes wrong into one sentence and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in with the summary, which is all that help and completion need."""
        lazy = COMMANDS.get(cmd_name)
        return None if lazy is None else TyperCommand(cmd_name, help=lazy.summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the sub-command that is to be run."""
        name, command, rest = super().resolve_command(ctx, args)
        return (name, command, rest) if command is None else (name, load(command.name), rest)

    def invoke(self, ctx: Any) -> Any:
        """Run the sub-command.

        `SofaError` becomes one sentence on stderr and exit code 2, Ctrl-C exit code 130; files being written are
        removed on the way out. Anything else is a fault of SOFA and keeps its traceback.
        """
        try:
            return super().invoke(ctx)
        except SofaError as error:
            say_error(str(error))
            raise typer.Exit(EXIT_UNUSABLE) from error
        except MemoryError as error:
            say_error(NO_MEMORY)
            raise typer.Exit(EXIT_UNUSABLE) from error
        except KeyboardInterrupt as error:
            say_error("Interrupted; no half-written file was left.")
            raise typer.Exit(EXIT_INTERRUPTED) from error


def load(name: str) -> Any:
    """Import a sub-command.

    Raises:
        SofaError: the extra that it needs is not installed.
    """
    lazy = COMMANDS[name]
    module, _, attribute = lazy.target.partition(":")
    try:
        app = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if lazy.extra is None:
            raise
        raise SofaError(
            f"'sofa {name}' needs more than is installed ({error.name} is missing); "
            f"run: pip install 'sofa-brain-tumor[{lazy.extra}]'."
        ) from error
    command = get_command(app)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"sofa {__version__}")
        raise typer.Exit


@app.callback()
def _sofa(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Segment adult brain tumours in T1, T1c, T2 and FLAIR MRI."""


def run() -> None:
    """Run the command line of this process; `kill` ends it as cleanly as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What PyTorch cannot do on an Apple GPU it then does on the CPU; read when a sub-command imports torch.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    app(prog_name="sofa")
