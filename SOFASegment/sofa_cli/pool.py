"""`sofa pool`: several evaluations, such as those of the folds, summarised as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Summarise several evaluations as one.")


@app.command()
def pool(
    evaluations: Annotated[list[Path], typer.Argument(help="Folders of evaluations, such as one per fold.")],
    out: Annotated[Path, typer.Option(help="Folder of the tables.")] = Path("pooled"),
) -> None:
    """Summarise several evaluations as one: the table of a cross-validation.

    Writes cases.csv and summary.csv. No case may be in two of them under the same protocol. A case that failed in one
    and was measured in another counts as measured.
    """
    from sofa_cli.console import say_warning
    from sofa_cli.evaluate import print_summary
    from sofa_training.report import CASES, FAILED, SUMMARY, make_folder
    from sofa_training.report_tables import read_failed, write_failed
    from sofa_training.summary import pooled, read_case_table, summarise, write_case_table, write_summary

    results = pooled([read_case_table(folder / CASES) for folder in evaluations])
    measured = {result.case for result in results}
    lost = {case.case: case for folder in evaluations for case in read_failed(folder / FAILED)}
    failed = [case for name, case in lost.items() if name not in measured]
    rows = summarise(results)
    make_folder(out)
    write_case_table(results, out / CASES)
    write_failed(failed, out / FAILED)
    write_summary(rows, out / SUMMARY, [case.case for case in failed])
    print_summary(rows)
    if failed:
        say_warning(f"In no number, since they could not be measured: {', '.join(case.case for case in failed)}.")
    typer.echo(f"{len(measured)} cases: {out / SUMMARY}")
