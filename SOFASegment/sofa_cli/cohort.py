"""`sofa segment --ray`: a cohort on a cluster. Cases that have their result already are left out, so a run resumes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sofa_cli.cases import Job
from sofa_cli.console import messages, progress_bar, say_error, sentence_of
from sofa_cli.segment import Choices, write_outcome
from sofa_engine.case import Case
from sofa_engine.errors import SofaError
from sofa_engine.opening import open_case
from sofa_engine.pipeline import Outcome
from sofa_engine.progress import Progress
from sofa_engine.working_grid import WorkingGrid, to_working
from sofa_engine.writing import check_output


@dataclass(frozen=True)
class _Sent:
    """A case on its way: what its result needs when it comes back."""

    job: Job
    case: Case
    working: Case
    reading_s: float


def segment_on_ray(jobs: list[Job], choices: Choices, address: str, weights: Path | None, device: str) -> int:
    """Segment every case that has no result yet and return how many failed."""
    try:
        from sofa_service.cluster import Cluster
    except ModuleNotFoundError as error:
        raise SofaError("--ray needs Ray; run: pip install 'sofa-brain-tumor[cluster]'.") from error

    todo = [job for job in jobs if not job.output.exists()]
    if len(todo) < len(jobs):
        messages().print(f"{len(jobs) - len(todo)} of {len(jobs)} cases have their result already.")
    cohort = _Cohort(todo, choices)
    with (
        Cluster(address, weights=weights, device=device, probabilities=choices.probabilities) as cluster,
        progress_bar("cohort") as tell,
    ):
        for done, (name, result) in enumerate(cluster.segment(cohort.requests()), start=1):
            cohort.take(name, result)
            tell(Progress(f"{done} of {len(todo)} cases", done / len(todo)))
    if cohort.failures:
        say_error(f"{cohort.failures} of {len(todo)} cases failed.")
    return cohort.failures


class _Cohort:
    """Reads cases when the cluster has room for them, and writes results as they come."""

    def __init__(self, jobs: list[Job], choices: Choices) -> None:
        self.failures = 0
        self._jobs = jobs
        self._choices = choices
        self._sent: dict[str, _Sent] = {}

    def requests(self) -> Iterator[object]:
        """Yield the cases that can be read."""
        from sofa_service.cluster import Request

        for job in self._jobs:
            start = time.perf_counter()
            try:
                case = open_case(
                    job.source, reference=self._choices.reference, register=self._choices.register, name=job.name
                )
                check_output(job.output, case)
                working = to_working(case)
                boxes = {} if self._choices.boxes is None else self._choices.boxes.on(working.geometry)
            except Exception as error:
                self._fail(job.name, error)
                continue
            self._sent[job.name] = _Sent(job, case, working, time.perf_counter() - start)
            yield Request(job.name, working, boxes)

    def take(self, name: str, result: object) -> None:
        """Write one result, or say why there is none."""
        sent = self._sent.pop(name)
        if isinstance(result, SofaError):
            self._fail(name, result)
            return
        grid, timings = WorkingGrid.of(sent.case.geometry), {"cluster": result.seconds}
        try:
            write_outcome(
                sent.job, self._choices, Outcome(sent.case, sent.working, result, grid, timings), sent.reading_s
            )
        except Exception as error:
            self._fail(name, error)

    def _fail(self, name: str, error: Exception) -> None:
        self.failures += 1
        say_error(f"{name}: {sentence_of(error)}")
