"""`sofa prepare`: from a dataset of cases with truth to what training reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sofa_training.cases import TrainingCase
    from sofa_training.checks import Problem
    from sofa_training.prepare import Outcome

app = typer.Typer(help="Prepare a dataset for training.")


@app.command()
def prepare(
    dataset: Annotated[
        Path, typer.Argument(help="Folder in the layout of BraTS, nnU-Net or the Decathlon, or a CSV of files.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the prepared cases.")] = Path("prepared"),
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = max(1, (os.cpu_count() or 2) // 2),
    check_only: Annotated[bool, typer.Option("--check-only", help="Say what is wrong and stop.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out the cases with errors.")] = False,
    folds: Annotated[int, typer.Option(min=2, help="How many folds a new OUT/folds.json gets.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
) -> None:
    """Find the cases of DATASET, check them, normalise and crop them (section 3.2), and split them into folds.

    Interrupted, it goes on where it was; cases that are prepared already are kept unless their files or labels are
    others now. Folds that are there are kept too, and new cases are added to them: delete OUT/folds.json to split anew.
    """
    from rich.console import Console

    from sofa_engine.errors import InputError
    from sofa_training.cases import find_cases

    console = Console()
    cases = find_cases(dataset)
    console.print(f"Found {len(cases)} cases ({', '.join(sorted({case.layout for case in cases}))}).")
    problems = _check(cases, console)
    bad = {problem.case for problem in problems if problem.severity.value == "error"}
    if bad and not skip_bad:
        raise InputError(
            f"{len(bad)} of {len(cases)} cases cannot be used (see the table); repair them, or leave them out with "
            "--skip-bad."
        )
    usable = [case for case in cases if case.name not in bad]
    if check_only:
        console.print(f"{len(usable)} cases can be used.")
        return
    outcomes = _prepare(usable, out, workers, console)
    failed = [outcome for outcome in outcomes if outcome.path is None]
    prepared = {outcome.case for outcome in outcomes if outcome.path is not None}
    subjects = [(case.name, case.subject) for case in usable if case.name in prepared]
    console.print(f"Prepared {len(prepared)} cases in {out}.")
    sentence = _split(subjects, out / "folds.json", folds, seed)
    if sentence:
        console.print(sentence)
    if failed:
        raise InputError(f"{len(failed)} cases failed, the first one: {failed[0].case}: {'; '.join(failed[0].notes)}")


def _split(subjects: Sequence[tuple[str, str]], path: Path, count: int, seed: int) -> str:
    """Write or extend the folds and say what was done."""
    from sofa_training.folds import divided_subjects, extend_folds, make_folds, read_folds, write_folds

    if path.is_file():
        before = read_folds(path)
        after = extend_folds(before, subjects, seed)
        if after != before:
            write_folds(after, path)
        then, now = ({case for fold in folds for case in fold.validation} for folds in (before, after))
        news = f"; new cases in them: {len(now - then)}, gone: {len(then - now)}" if now != then else ""
        divided = divided_subjects(after)
        doubt = f" Patients in several folds: {', '.join(divided)}; delete the file to split anew." if divided else ""
        return f"Kept the {len(before)} folds of {path}{news}.{doubt}"
    people = len({subject for _, subject in subjects})
    if people < count:
        return f"There are no folds: {count} need at least {count} patients, and there are {people}. See --folds."
    write_folds(make_folds(subjects, count, seed), path)
    return f"Wrote {count} folds to {path}."


def _check(cases: Sequence[TrainingCase], console: object) -> Sequence[Problem]:
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from sofa_training.checks import check_cases

    assert isinstance(console, Console)
    names = iter(track(cases, description="Checking", console=console, transient=True))
    next(names, None)
    problems = check_cases(cases, progress=lambda _: next(names, None))
    if problems:
        table = Table("case", "severity", "what is wrong", title="Problems")
        for problem in problems:
            table.add_row(problem.case, problem.severity.value, problem.sentence)
        console.print(table)
    return problems


def _prepare(cases: Sequence[TrainingCase], out: Path, workers: int, console: object) -> Sequence[Outcome]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sofa_training.prepare import prepare_cases

    assert isinstance(console, Console)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("Preparing", total=len(cases))

        def told(outcome: Outcome) -> None:
            bar.advance(task)
            for note in outcome.notes:
                bar.console.print(f"{outcome.case}: {note}")

        return prepare_cases(cases, out, workers=workers, progress=told)
