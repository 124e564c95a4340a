"""From a dataset to prepared cases: read, align, normalise, crop, save (section 3.2); parallel and resumable."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import sofa_engine
from sofa_engine.cropping import brain_box
from sofa_engine.errors import OutputError, SofaError
from sofa_engine.normalise import normalise_case
from sofa_engine.types import MODALITIES, Box
from sofa_training.cases import TrainingCase
from sofa_training.prepared import PreparedCase, read_prepared, write_prepared
from sofa_training.working import open_working_case


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        case: its name.
        path: the prepared file, None where it failed.
        reused: whether the file was there already.
        notes: warnings of reading, or the sentence of the failure.
    """

    case: str
    path: Path | None
    reused: bool
    notes: tuple[str, ...]


def prepare_case(case: TrainingCase) -> tuple[PreparedCase, tuple[str, ...]]:
    """Normalise and crop one case.

    Returns:
        The case, cropped to the brain (and to whatever truth lies outside of it), and warnings about its images.

    Raises:
        InputError: as `open_working_case`.
    """
    origin = case.origin  # before the files are read: what changes meanwhile is noticed the next time
    working = open_working_case(case)
    opened, truth = working.case, working.truth
    images, brain = normalise_case(opened)
    extent = brain_box(brain)
    tumour = Box.of_mask(truth)
    if tumour is not None:
        extent = extent.union(tumour)
    volume = np.zeros((len(MODALITIES), *extent.shape), dtype=np.uint8)
    present = np.array([modality in opened.modalities for modality in MODALITIES])
    cropped = images[(slice(None), *extent.slices)]
    volume[present] = np.rint(np.clip(cropped, 0, 255)).astype(np.uint8)
    prepared = PreparedCase(
        name=case.name,
        subject=case.subject,
        images=volume,
        truth=truth[extent.slices],
        present=present,
        spacing=opened.geometry.spacing,
        extent=extent,
        geometry=opened.geometry,
        provenance={
            "layout": case.layout,
            "truth": str(case.truth),
            "sources": {m.value: str(source) for m, source in opened.sources.items()},
            "sofa": sofa_engine.__version__,
        },
        origin=origin,
    )
    return prepared, opened.warnings


def prepare_cases(
    cases: Sequence[TrainingCase],
    out: Path,
    *,
    workers: int = 1,
    progress: Callable[[Outcome], None] | None = None,
) -> tuple[Outcome, ...]:
    """Prepare cases in parallel; those that `out` holds already are kept, unless they were made from others.

    One case that fails does not stop the others: its outcome says why.

    Args:
        cases: what `find_cases` found.
        out: folder of the npz files.
        workers: processes.
        progress: told of every case as it is done.

    Raises:
        OutputError: `out` cannot be written to.
        SofaError: a process ended in the middle, as it does when the memory is used up; what is done is kept.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be created ({error.strerror}); choose another folder.") from error
    outcomes: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if progress is not None:
            progress(outcome)

    if workers <= 1:
        for case in cases:
            done(_prepare_one(case, out))
    else:
        # Not forked: the parent may hold threads of torch or of ITK.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
            try:
                for future in as_completed([pool.submit(_prepare_one, case, out) for case in cases]):
                    done(future.result())
            except BrokenProcessPool as error:
                raise SofaError(
                    "A process that prepared cases was ended, probably for lack of memory; run the same command again "
                    "with fewer --workers, and it goes on."
                ) from error
    return tuple(sorted(outcomes, key=lambda outcome: outcome.case))


def _prepare_one(case: TrainingCase, out: Path) -> Outcome:
    path = out / f"{case.name}.npz"
    if path.is_file():
        try:
            if read_prepared(path, mapped=False).origin == case.origin:
                return Outcome(case.name, path, True, ())
        except SofaError:
            pass  # damaged or of another version
        path.unlink()  # made again below, and not used where that fails
    try:
        prepared, notes = prepare_case(case)
        write_prepared(prepared, path)
    except SofaError as error:
        return Outcome(case.name, None, False, (str(error),))
    except OSError as error:
        return Outcome(case.name, None, False, (f"{path} cannot be written ({error.strerror}).",))
    return Outcome(case.name, path, False, notes)
