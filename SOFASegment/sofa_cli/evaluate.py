"""`sofa evaluate`: measure a checkpoint on whole volumes, under a named protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sofa_training.cases import TrainingCase
    from sofa_training.protocols import Protocol
    from sofa_training.statistics import Comparison
    from sofa_training.summary import RegionSummary

app = typer.Typer(help="Measure a model on cases with truth.")

#: Columns of a table that is written to a file or a pipe, which has no width of its own.
_FILE_WIDTH = 160


@app.command()
def evaluate(
    dataset: Annotated[Path, typer.Argument(help="Cases with truth: a dataset as for `sofa prepare`.")],
    weights: Annotated[Path | None, typer.Option(help="Checkpoint; the one that ships where left out.")] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="auto, box3d or oracle; may be given several times.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("evaluation"),
    folds: Annotated[Path | None, typer.Option(help="File of folds; only the validation cases of --fold.")] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="Which fold of --folds; 0 where left out.")] = None,
    case: Annotated[list[str] | None, typer.Option(help="Only these cases.")] = None,
    against: Annotated[Path | None, typer.Option(help="Folder of another evaluation to test against.")] = None,
    edits: Annotated[int, typer.Option(min=0, help="Simulate so many corrected boxes per case.")] = 0,
    reliability: Annotated[bool, typer.Option("--reliability", help="Measure calibration.")] = False,
    distances: Annotated[bool, typer.Option(help="Compute HD95.")] = True,
    tta: Annotated[bool, typer.Option("--tta", help="Average with the left-right mirrored image.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Segment every case through the session that clinicians use, and compare with the truth.

    Writes cases.csv, summary.csv, report.html, and a CSV each for tests, corrections and reliability where they were
    asked for; what an earlier evaluation left of these in OUT is removed. Each protocol has a table of its own, with
    the control that reads no image beside it. A case that cannot be read or segmented is said, left out and listed in
    failed.csv; the exit code then is 2.
    """
    from sofa_cli.console import say_warning
    from sofa_engine.errors import InputError
    from sofa_engine.loading import load_predictor
    from sofa_engine.runtime import tune_allocator
    from sofa_engine.weights import default_checkpoint
    from sofa_training.evaluation import CaseResult, EvaluationOptions, FailedCase
    from sofa_training.evaluation import evaluate as measure
    from sofa_training.report import CASES, check_comparable, compare_with, forget_report, make_folder, write_report
    from sofa_training.seen import cases_trained_on
    from sofa_training.summary import write_case_table

    if dataset.is_file() and dataset.resolve().parent == out.resolve():
        raise InputError(f"{dataset} lies where the report goes, which may be of that name; give another --out.")
    chosen = _protocols(protocol or ["auto"])
    cases = _cases(dataset, folds, fold, case)
    if against is not None:
        if against.resolve() == out.resolve():
            raise InputError(f"{against} cannot be compared with itself; give this evaluation another --out.")
        check_comparable(against, [each.name for each in cases], chosen)
    make_folder(out)
    seen = cases_trained_on(weights or default_checkpoint(), [each.name for each in cases])
    known = [each.name for each in cases if each.name in (seen or ())]
    if known:
        say_warning(
            f"The checkpoint was trained on {len(known)} of these {len(cases)} cases, {known[0]} for one; their "
            "numbers say nothing about new patients. --folds and --fold choose the others."
        )
    tune_allocator()
    if tta:
        from sofa_training.tta import MirroredPredictor

        predictor = MirroredPredictor(load_predictor(weights, device), load_predictor(weights, device))
    else:
        predictor = load_predictor(weights, device)
    forget_report(out)
    options = EvaluationOptions(tuple(chosen), distances=distances, edits=edits, reliability=reliability)
    measured: list[CaseResult] = []

    def told(results: tuple[CaseResult, ...] | FailedCase) -> None:
        if isinstance(results, FailedCase):
            say_warning(f"{results.case} could not be measured: {results.sentence}")
            return
        measured.extend(results)
        write_case_table(measured, out / CASES)  # what an interrupted evaluation leaves
        for result in results:
            dice = "  ".join(f"{s.region} {s.dice:.3f}" if s.present else f"{s.region}   -  " for s in result.scores)
            typer.echo(f"{result.case:24} {result.protocol.value:7} {dice}")

    evaluation = replace(measure(cases, predictor, options, progress=told), trained_on=seen)
    failed = ", ".join(case.case for case in evaluation.failed)
    if not evaluation.results:
        raise InputError(f"None of the cases could be measured ({failed}); the lines above say why.")
    print_summary(write_report(evaluation, out, against=against))
    if against is not None:
        print_comparisons(compare_with(evaluation.results, against), against)
    typer.echo(f"Report: {out / 'report.html'}")
    if failed:
        raise InputError(
            f"{len(evaluation.failed)} of {len(cases)} cases could not be measured and are in no number: {failed}. "
            "Repair them, measure them alone (--case) into another folder, and join both with `sofa pool`."
        )


def print_summary(rows: Sequence[RegionSummary]) -> None:
    """Print one table per protocol."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    for protocol in dict.fromkeys(row.protocol for row in rows):
        table = Table(
            *("region", "Dice (BraTS rule)", "where present", "where >= 1 ml", "image-free control", "HD95 mm"),
            *("volume error ml", "phantoms/absent"),
            title=f"protocol {protocol.value}: {protocol.title}",
            caption=f"control: {protocol.control_title}",
        )
        for row in (r for r in rows if r.protocol is protocol):
            means = (row.dice, row.dice_present, row.dice_large, row.control, row.hd95_mm, row.volume_error_ml)
            table.add_row(row.region, *(str(mean) for mean in means), f"{row.phantoms}/{row.absent}")
        console.print(table)


def print_comparisons(rows: Sequence[Comparison], other: Path) -> None:
    """Print the paired tests against another evaluation."""
    from rich.console import Console
    from rich.table import Table

    title = f"against {other}: two-sided Wilcoxon signed-rank tests over paired cases, Holm-corrected"
    table = Table("Dice", "cases", "mean difference", "p", "p, Holm", title=title)
    for row in rows:
        table.add_row(row.name, str(row.cases), f"{row.mean_difference:+.4f}", f"{row.p:.4g}", f"{row.p_holm:.4g}")
    Console().print(table)


def _protocols(names: Sequence[str]) -> list[Protocol]:
    from sofa_engine.errors import InputError
    from sofa_training.protocols import Protocol

    try:
        return list(dict.fromkeys(Protocol(name) for name in names))
    except ValueError as error:
        known = ", ".join(protocol.value for protocol in Protocol)
        raise InputError(f"There is no protocol like that ({error}); choose among {known}.") from error


def _cases(dataset: Path, folds: Path | None, fold: int | None, names: Sequence[str] | None) -> list[TrainingCase]:
    """Return the usable cases that were asked for.

    Raises:
        InputError: one of them cannot be used, is not there, or is there twice, or a fold has no file of folds.
    """
    from sofa_cli.console import say_warning
    from sofa_engine.errors import InputError
    from sofa_training.cases import find_cases
    from sofa_training.checks import Severity, check_cases
    from sofa_training.folds import read_folds

    if fold is not None and folds is None:
        raise InputError(f"--fold {fold} needs --folds, the file of the folds; without both all cases are measured.")
    found = find_cases(dataset)
    cases = {case.name: case for case in found}
    wanted = list(names) if names else list(cases)
    if folds is not None:
        lists, number = read_folds(folds), fold or 0
        if number >= len(lists):
            raise InputError(f"{folds} has folds 0 to {len(lists) - 1}, not {number}.")
        wanted = [name for name in lists[number].validation if not names or name in names]
    missing = [name for name in wanted if name not in cases]
    if missing or not wanted:
        raise InputError(f"{dataset} has no case {missing[0] if missing else 'that was asked for'}.")
    counts = Counter(case.name for case in found)
    twice = next((name for name in wanted if counts[name] > 1), None)
    if twice is not None:
        raise InputError(f"{dataset} has {counts[twice]} cases named {twice}, so it is not clear which one is meant.")
    chosen = [cases[name] for name in dict.fromkeys(wanted)]
    # An empty truth is a fair case to measure phantoms on; everything else that is wrong is an error here too.
    problems = check_cases(chosen)
    errors = [p for p in problems if p.severity is Severity.ERROR and p.sentence != "The truth is empty."]
    if errors:
        raise InputError(f"{errors[0].case}: {errors[0].sentence} ({len(errors)} such problems in all.)")
    for problem in problems:
        if problem.severity is Severity.WARNING:
            say_warning(f"{problem.case}: {problem.sentence}")
    return chosen
