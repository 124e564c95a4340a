"""What all sub-commands say, and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from sofa_engine.errors import SofaError
from sofa_engine.progress import Progress as Step
from sofa_engine.progress import ProgressCallback

_LOG = logging.getLogger(__name__)
NO_MEMORY = "There is not enough memory for this case; close other programs or use a smaller volume."


def results() -> Console:
    """Return the console for results, which other programs may read."""
    return Console()


def messages() -> Console:
    """Return the console for people."""
    return Console(stderr=True)


def say_error(sentence: str) -> None:
    """Say in one line what went wrong."""
    # Not wrapped: a sentence stays one line for whoever reads a log.
    messages().print(Text.assemble(("Error: ", "bold red"), sentence), soft_wrap=True)


def sentence_of(error: Exception) -> str:
    """Return what to say of a case that failed while others go on; a fault of SOFA leaves its traceback in the log."""
    if isinstance(error, SofaError):
        return str(error)
    if isinstance(error, MemoryError):
        return NO_MEMORY
    _LOG.error("A case failed unexpectedly", exc_info=error)
    return f"SOFA failed unexpectedly ({type(error).__name__}: {error}); please report the traceback above."


def say_warning(sentence: str) -> None:
    """Say in one line what the user should know about the result."""
    messages().print(Text.assemble(("Note: ", "bold yellow"), sentence), soft_wrap=True)


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressCallback]:
    """Show a bar on stderr, if that is a terminal, and give the callback that moves it."""
    columns = (TextColumn("{task.fields[case]}"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=messages(), transient=True) as bar:
        task = bar.add_task("", total=1.0, case=title)

        def tell(step: Step) -> None:
            bar.update(task, completed=step.fraction, description=step.stage)

        yield tell
