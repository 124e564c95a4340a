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

    Writes cases.csv and summary.csv. No case may be in two of them under the same protocol.
    """
    from sofa_cli.evaluate import print_summary
    from sofa_training.report import CASES, SUMMARY, make_folder
    from sofa_training.summary import pooled, read_case_table, summarise, write_case_table, write_summary

    results = pooled([read_case_table(folder / CASES) for folder in evaluations])
    rows = summarise(results)
    make_folder(out)
    write_case_table(results, out / CASES)
    write_summary(rows, out / SUMMARY)
    print_summary(rows)
    typer.echo(f"{len({result.case for result in results})} cases: {out / SUMMARY}")
