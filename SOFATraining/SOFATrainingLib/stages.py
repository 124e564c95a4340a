"""What happens to a dataset before training, each in a process of its own: checking and preparing its cases."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sofa_engine.errors import InputError, SofaError
from sofa_engine.progress import Progress
from SOFASegmentLib.scheduler import Scheduler
from SOFATrainingLib import plan
from SOFATrainingLib.cases import CaseRow, readProgress, readRows
from SOFATrainingLib.child import Child
from SOFATrainingLib.plan import Choices
from SOFATrainingLib.watch import Watch

Told = Callable[[Progress], None]


def watchChecking(
    scheduler: Scheduler, dataset: Path, told: Told, done: Callable[[tuple[CaseRow, ...], str], None]
) -> Watch:
    """Look for what is wrong with which case.

    Args:
        scheduler: how to wait.
        dataset: folder or CSV.
        told: how far it is.
        done: called once with the rows, or with none and a sentence.

    Raises:
        SofaError: the process cannot be started.
    """
    folder = tempfile.TemporaryDirectory(prefix="sofa-checking-", ignore_cleanup_errors=True)
    child = Child.start(["-m", "SOFATrainingLib.checking", str(dataset)], Path(folder.name) / "output.txt")

    def progressed(counts: tuple[int, int] | None) -> None:
        checked, found = counts or (0, 0)
        of = f" {checked} of {found}" if found else ""
        told(Progress(f"Checking cases{of}", checked / found if found else 0.0))

    def ended() -> None:
        rows, sentence = (), ""
        try:
            rows = readRows(child.printed())
            if not rows:
                raise InputError(child.complaint() or "The cases could not be checked; try again.")
        except SofaError as error:
            sentence = str(error)
        folder.cleanup()
        done(rows, sentence)

    return Watch(scheduler, child, lambda: readProgress(child.printed()), progressed, ended)


def watchPreparing(
    scheduler: Scheduler,
    choices: Choices,
    rows: Sequence[CaseRow],
    told: Told,
    done: Callable[[tuple[CaseRow, ...], str], None],
) -> Watch | None:
    """Normalise and crop the cases that are not prepared yet, or not from what they are now.

    Args:
        scheduler: how to wait.
        choices: of the user.
        rows: the cases that can be used.
        told: how far it is.
        done: called once with the cases that are prepared, and a sentence where some are not.

    Returns:
        None where there is nothing to do; `done` is not called then.

    Raises:
        SofaError: the process cannot be started.
    """
    plan.forget(plan.outdated(rows, choices.prepared))
    if len(plan.preparedRows(rows, choices.prepared)) == len(rows):
        return None
    child = Child.start(plan.prepareArguments(choices), choices.results / "prepare.txt")

    def progressed(count: int | None) -> None:
        told(Progress(f"Preparing cases {count or 0} of {len(rows)}", (count or 0) / len(rows)))

    def ended() -> None:
        ready, sentence = plan.preparedRows(rows, choices.prepared), ""
        if not ready:
            sentence = child.complaint() or "No case could be prepared; try again."
        elif len(ready) < len(rows):
            why = child.complaint() or "preparing them ended early; start again to go on."
            sentence = f"{len(rows) - len(ready)} of {len(rows)} cases are left out: {why}"
        done(ready, sentence)

    return Watch(scheduler, child, lambda: len(plan.preparedRows(rows, choices.prepared)), progressed, ended)
