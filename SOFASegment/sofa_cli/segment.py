"""`sofa segment`: volumes in, label maps out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from sofa_cli.cases import Job, cohort_jobs, single_job
from sofa_cli.console import messages, progress_bar, results, say_error, say_warning, sentence_of
from sofa_engine.box_file import BoxFile, read_box_file, write_box_file
from sofa_engine.errors import InputError, OutputError
from sofa_engine.opening import open_case
from sofa_engine.pipeline import Outcome, segment_case
from sofa_engine.report import report_dict, write_report
from sofa_engine.types import SUB_REGIONS, LabelScheme, Modality
from sofa_engine.weights import WeightsStore
from sofa_engine.writing import check_output, write_labels, write_probabilities

if TYPE_CHECKING:
    from sofa_engine.pipeline import SessionOpener
    from sofa_engine.predictor import Predictor

EXIT_SOME_FAILED = 1

app = typer.Typer()


@dataclass(frozen=True)
class Choices:
    """What is asked for, the same for every case of a run."""

    scheme: LabelScheme
    boxes: BoxFile | None
    save_boxes: Path | None
    probabilities: bool
    register: bool
    reference: Modality | None
    as_json: bool


@app.command()
def segment(
    cases: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folder of a case; with --out-dir several, or a folder of case folders.", show_default=False
        ),
    ] = None,
    t1: Annotated[Path | None, typer.Option(help="T1 volume or DICOM folder.")] = None,
    t1c: Annotated[Path | None, typer.Option(help="T1 with contrast.")] = None,
    t2: Annotated[Path | None, typer.Option(help="T2.")] = None,
    flair: Annotated[Path | None, typer.Option(help="FLAIR.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Label map to write: .nii.gz, .nii, .nrrd or .mha.")
    ] = None,
    out_dir: Annotated[Path | None, typer.Option(help="Folder for several cases; goes on after a bad one.")] = None,
    weights: Annotated[str | None, typer.Option(help="Checkpoint file, or a name that 'sofa weights' lists.")] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    boxes: Annotated[Path | None, typer.Option(help="Refine inside the boxes of this file (JSON, RAS mm).")] = None,
    save_boxes: Annotated[Path | None, typer.Option(help="Write the final boxes (JSON, RAS mm).")] = None,
    labels: Annotated[
        LabelScheme, typer.Option(help="Label values: 2020 is NCR 1, ED 2, ET 4; 2023 is NCR 1, ED 2, ET 3.")
    ] = LabelScheme.BRATS2020,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write the probability of each sub-region.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write a report as one HTML file; with --out-dir, a folder for the reports.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, a line per case.")] = False,
    register: Annotated[bool, typer.Option("--register", help="Register the sequences rigidly first.")] = False,
    reference: Annotated[
        Modality | None, typer.Option(help="Sequence whose grid the result gets; T1c if it is there.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="URL", help="Compute on a 'sofa serve' engine; its token is in SOFA_TOKEN.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With --out-dir: spread the cases over a Ray cluster.")
    ] = None,
) -> None:
    """Segment necrotic core, oedema and enhancing tumour.

    The label map lies on the reference volume's own grid. Any one to four sequences will do; T1c and FLAIR matter most.
    """
    given = {Modality.T1: t1, Modality.T1C: t1c, Modality.T2: t2, Modality.FLAIR: flair}
    files = {modality: path for modality, path in given.items() if path is not None}
    box_file = None if boxes is None else read_box_file(boxes)
    choices = Choices(labels, box_file, save_boxes, probabilities, register, reference, as_json)
    if engine is not None and (ray is not None or weights is not None or device != "auto"):
        raise InputError(
            "The engine at --engine has its own weights and device; leave --weights, --device and --ray out."
        )
    if ray is not None and out_dir is None:
        raise InputError("--ray spreads several cases; give --out-dir FOLDER.")
    if out_dir is None:
        job = single_job(cases or [], files, output, report)
        _check_outputs(job, choices)
        _segment_one(job, choices, _load(weights, device, engine))
        return
    if output is not None or files or save_boxes is not None:
        raise InputError(
            "--out-dir takes case folders and names the results itself; leave out -o, --save-boxes and files."
        )
    jobs = cohort_jobs(cases or [], out_dir, report)
    for folder in (out_dir, report):
        _make_folder(folder)
    if ray is not None:
        from sofa_cli.cohort import segment_on_ray

        failures = segment_on_ray(jobs, choices, ray, WeightsStore().resolve(weights), device)
    else:
        failures = _segment_all(jobs, choices, _load(weights, device, engine))
    if failures:
        raise typer.Exit(EXIT_SOME_FAILED)


def _load(weights: str | None, device: str, engine: str | None) -> Predictor | SessionOpener:
    if engine is not None:
        from sofa_service.client import EngineClient

        client = EngineClient(engine, os.environ.get("SOFA_TOKEN", ""))
        return partial(client.open, notify=say_warning)
    path = WeightsStore().resolve(weights)
    # torch takes seconds to import: every cheap mistake is found before.
    from sofa_engine.loading import load_predictor
    from sofa_engine.runtime import tune_allocator

    tune_allocator()
    return load_predictor(path, device)


def _check_outputs(job: Job, choices: Choices) -> None:
    check_output(job.output)
    for path in (job.report, choices.save_boxes):
        if path is not None and not path.resolve().parent.is_dir():
            raise OutputError(f"{path} cannot be written: its folder does not exist; make it first.")


def _make_folder(folder: Path | None) -> None:
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror}; choose another.") from error


def _segment_all(jobs: list[Job], choices: Choices, predictor: Predictor | SessionOpener) -> int:
    """Segment every case, going on after a bad one; print a table and return how many failed."""
    table = Table("case", "WT ml", "TC ml", "ET ml", "seconds", "result")
    failures = 0
    for job in jobs:
        start = time.perf_counter()
        try:
            facts = _segment_one(job, choices, predictor)
        except Exception as error:
            failures += 1
            sentence = sentence_of(error)
            say_error(f"{job.name}: {sentence}")
            table.add_row(job.name, "", "", "", "", sentence, style="red")
            continue
        volumes = [f"{facts['volumes_ml'][name]:.1f}" for name in ("WT", "TC", "ET")]
        table.add_row(job.name, *volumes, f"{time.perf_counter() - start:.1f}", str(job.output))
    console = messages() if choices.as_json else results()
    console.print(table)
    if failures:
        say_error(f"{failures} of {len(jobs)} cases failed.")
    return failures


def _segment_one(job: Job, choices: Choices, predictor: Predictor | SessionOpener) -> dict[str, Any]:
    """Segment a case, write what is asked for and return the report's facts."""
    with progress_bar(job.name) as tell:
        start = time.perf_counter()
        case = open_case(
            job.source, reference=choices.reference, register=choices.register, name=job.name, progress=tell
        )
        reading = time.perf_counter() - start
        check_output(job.output, case)
        outcome = segment_case(case, predictor, boxes=choices.boxes, progress=tell)
    try:
        return write_outcome(job, choices, outcome, reading)
    finally:
        outcome.session.close()


def write_outcome(job: Job, choices: Choices, outcome: Outcome, reading: float) -> dict[str, Any]:
    """Write what is asked for of one case, say so, and return the report's facts."""
    case, session = outcome.case, outcome.session
    start = time.perf_counter()
    outputs = {"labels": str(write_labels(outcome.labels(), case, job.output, choices.scheme))}
    if choices.probabilities:
        paths = write_probabilities(outcome.probabilities(), case, job.output)
        outputs |= {f"probability of {r.value}": str(path) for r, path in zip(SUB_REGIONS, paths, strict=True)}
    if choices.save_boxes is not None:
        outputs["boxes"] = str(write_box_file(choices.save_boxes, session.boxes(), session.geometry))
    timings = {"reading": reading, **outcome.timings_s, "writing": time.perf_counter() - start}
    if job.report is not None:
        outputs["report"] = str(job.report)
    facts = report_dict(session, case, scheme=choices.scheme, timings_s=timings, outputs=outputs)
    if job.report is not None:
        write_report(job.report, facts, outcome.working, session.labels())
    for warning in session.warnings:
        say_warning(warning)
    if choices.as_json:
        typer.echo(json.dumps(facts))
    else:
        _print_summary(facts)
    return facts


def _print_summary(facts: Mapping[str, Any]) -> None:
    table = Table("", "ml", "label", title=facts["case"], title_justify="left")
    for region in SUB_REGIONS:
        table.add_row(
            region.title, f"{facts['volumes_ml'][region.value.upper()]:.2f}", str(facts["labels"][region.value])
        )
    table.add_row("Whole tumour", f"{facts['volumes_ml']['WT']:.2f}", "")
    console = results()
    console.print(table)
    for kind, path in facts["outputs"].items():
        console.print(f"{kind}: {path}", highlight=False, markup=False, soft_wrap=True)
