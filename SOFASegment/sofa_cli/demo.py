"""`sofa demo`: everything at once on one case, the built-in one unless a folder is given."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import typer
from rich.table import Table

from sofa_cli.console import progress_bar, results, say_warning
from sofa_engine.case import Case
from sofa_engine.errors import OutputError
from sofa_engine.itk_images import to_itk
from sofa_engine.opening import open_case
from sofa_engine.pipeline import Outcome, segment_case
from sofa_engine.report import report_dict, write_report
from sofa_engine.report_pictures import outlines
from sofa_engine.synthetic import synthetic_case
from sofa_engine.types import COMPOSITES, SUB_REGIONS, LabelScheme, Modality, SubRegion
from sofa_engine.weights import WeightsStore
from sofa_engine.writing import replacing, write_labels

app = typer.Typer()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    case: Annotated[Path | None, typer.Option(help="Folder of a case; a synthetic one where none is given.")] = None,
    weights: Annotated[str | None, typer.Option(help="Checkpoint file, or a name that 'sofa weights' lists.")] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    view: Annotated[bool, typer.Option("--view", help="Open the case in a browser afterwards.")] = False,
) -> None:
    """Segment a case, compare it with the truth where that is known, and write label map, report and picture."""
    console = results()
    checkpoint = WeightsStore().resolve(weights)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {out} cannot be made: {error.strerror}; choose another.") from error
    truth = None
    folder = case
    if folder is None:
        folder = out / "case"
        console.print("Growing a tumour in the ICBM 152 atlas; its truth is known.")
        truth = _write_synthetic(folder)

    _segment(folder, truth, out, checkpoint, device)
    if view:
        from sofa_cli.view import view as open_view

        # Any free port: whoever has only just begun need not know what another program listens on.
        open_view(folder, weights=weights, device=device, port=0)
    else:
        console.print(f"To drag its boxes in a browser: make demo VIEW=1, or sofa view {folder}", highlight=False)


def _segment(folder: Path, truth: np.ndarray | None, out: Path, checkpoint: Path, device: str) -> None:
    """Segment, write and say the results; the model's memory is free afterwards."""
    from sofa_engine.loading import load_predictor
    from sofa_engine.runtime import tune_allocator

    console = results()
    tune_allocator()
    predictor = load_predictor(checkpoint, device)
    info = predictor.info
    console.print(f"Model: {info.name} ({info.arrangement}) on {info.device}", highlight=False)
    if not info.trained:
        say_warning("These weights are random: what follows shows that SOFA runs, not what it can do.")
    start = time.perf_counter()
    with progress_bar(folder.resolve().name) as tell:
        outcome = segment_case(open_case(folder, progress=tell), predictor, progress=tell)
    try:
        _write(outcome, out, time.perf_counter() - start)
        console.print(_summary(outcome, truth))
    finally:
        outcome.session.close()
    for name in ("labels.nii.gz", "report.html", "picture.png"):
        console.print(f"written: {out / name}", highlight=False)


def _write_synthetic(folder: Path) -> np.ndarray:
    """Write the built-in case as a clinic would store it, and return its truth, uint8 (D, H, W)."""
    folder.mkdir(exist_ok=True)
    case, truth = synthetic_case()
    for modality, image in case.images.items():
        with replacing(folder / f"{modality.value}.nii.gz") as part:
            sitk.WriteImage(to_itk(np.rint(image).astype(np.int16), case.geometry), str(part), useCompression=True)
    write_labels(truth, case, folder / "truth_seg.nii.gz")
    return truth


def _write(outcome: Outcome, out: Path, seconds: float) -> None:
    case, session = outcome.case, outcome.session
    labels = outcome.labels()
    written = write_labels(labels, case, out / "labels.nii.gz", LabelScheme.BRATS2020)
    facts = report_dict(
        session,
        case,
        scheme=LabelScheme.BRATS2020,
        timings_s={**outcome.timings_s, "all": seconds},
        outputs={"labels": str(written)},
    )
    write_report(out / "report.html", facts, outcome.working, session.labels())
    with replacing(out / "picture.png") as part:
        uri = outlines(outcome.working, session.labels(), _shown(case))
        part.write_bytes(base64.b64decode(uri.partition(",")[2]))


def _shown(case: Case) -> Modality:
    return Modality.T1C if Modality.T1C in case.images else case.modalities[0]


def _summary(outcome: Outcome, truth: np.ndarray | None) -> Table:
    """Return the volumes and, where the truth is known, how well each region overlaps with it."""
    labels = outcome.labels()
    table = Table(
        title=f"{outcome.case.name}: {outcome.timings_s['first pass']:.1f} s for the first pass", title_justify="left"
    )
    for heading in ("region", "ml") if truth is None else ("region", "ml", "truth ml", "Dice (auto)"):
        table.add_column(heading, justify="left" if heading == "region" else "right")
    ml = outcome.case.geometry.voxel_ml
    regions: dict[str, tuple[SubRegion, ...]] = {r.title: (r,) for r in SUB_REGIONS}
    for name, parts in {**regions, "Tumour core": COMPOSITES["TC"], "Whole tumour": COMPOSITES["WT"]}.items():
        values = [part.label for part in parts]
        found = np.isin(labels, values)
        row = [name, f"{found.sum() * ml:.1f}"]
        if truth is not None:
            known = np.isin(truth, values)
            row += [f"{known.sum() * ml:.1f}", f"{_dice(found, known):.2f}"]
        table.add_row(*row)
    return table


def _dice(found: np.ndarray, known: np.ndarray) -> float:
    """Dice of two masks; 1 where both are empty, as BraTS counts it."""
    total = int(found.sum()) + int(known.sum())
    return 2.0 * int((found & known).sum()) / total if total else 1.0
