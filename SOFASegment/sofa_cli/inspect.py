"""`sofa inspect`: what is found in a case, and what would be done with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sofa_cli.console import progress_bar, results
from sofa_engine.advice import case_warnings
from sofa_engine.case import Case
from sofa_engine.discovery import discover
from sofa_engine.geometry import Geometry
from sofa_engine.opening import open_case
from sofa_engine.types import Modality
from sofa_engine.working_grid import WorkingGrid, to_working

app = typer.Typer()


@app.command()
def inspect(
    case: Annotated[Path, typer.Argument(help="Folder of a case.")],
    reference: Annotated[Modality | None, typer.Option(help="Sequence whose grid the result would get.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Read a case as `sofa segment` would, without segmenting or writing anything."""
    notes = discover(case).notes
    with progress_bar(case.name) as tell:
        opened = open_case(case, reference=reference, progress=tell)
    facts = _facts(opened, notes)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    console = results()
    lines = [*facts["found"], f"result on: {facts['grid']}", f"model sees: {facts['working_grid']}"]
    lines += [f"note: {warning}" for warning in facts["warnings"]]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _facts(case: Case, notes: tuple[str, ...]) -> dict[str, Any]:
    grid = WorkingGrid.of(case.geometry)
    return {
        "case": case.name,
        "found": list(notes),
        "sources": {m.value: str(case.sources[m]) for m in case.modalities},
        "grid": _described(case.geometry),
        "working_grid": "the same grid" if grid.identity else _described(grid.working),
        "warnings": list(case_warnings(to_working(case))),
    }


def _described(geometry: Geometry) -> str:
    depth, height, width = geometry.shape
    z, y, x = geometry.spacing
    return f"{depth} slices of {height} x {width} voxels, {z:.3g} x {y:.3g} x {x:.3g} mm"
