"""The verbs of the engine as jobs on the worker: what each does to the session, its journal and its owner's state."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import IO, Any

import numpy as np

from sofa_engine.api import Session
from sofa_engine.case import Case
from sofa_engine.errors import InputError, SofaError
from sofa_engine.progress import Progress
from sofa_engine.types import Box, LabelScheme, Patch, SubRegion
from sofa_service.errors import MessageError
from sofa_service.journal import Painting, Refinement
from sofa_service.protocol import FirstPassRequest, Opened, PreviewRequest, RefineRequest, SessionState
from sofa_service.sessions import Record, SessionStore
from sofa_service.worker import Job, JobKind, Steps, Worker

Emit = Callable[[Any], None]
Finish = Callable[[Any, SofaError | None], None]


class Engine:
    """One worker and the sessions that it computes for.

    Every verb returns its `Job` at once; `emit` is told progress and patches, `finish` the answer or the error.
    """

    def __init__(self, store: SessionStore, worker: Worker) -> None:
        self.store = store
        self.worker = worker

    def open(self, case: Case, upload: IO[bytes], emit: Emit, finish: Finish) -> Job:
        """Open a case; the answer is `Opened`."""
        key = self.store.new_key()

        def steps(job: Job) -> Steps:
            yield Progress("Opening the case", 0.0)
            session = self.store.open(key, case, upload).live()
            return Opened(session=key, modalities=session.modalities, model=session.model, warnings=session.warnings)

        return self._submit(Job(key, JobKind.OPEN, steps, finish, emit))

    def first_pass(self, key: str, request: FirstPassRequest, emit: Emit, finish: Finish) -> Job:
        """Run the first pass; the answer is the `SessionState`."""

        def steps(job: Job, record: Record, session: Session) -> Steps:
            session.first_pass(progress=self._telling(job), cancel=job.cancel)
            record.journal.first_pass()
            record.committed = None
            return SessionState.of(session)
            yield

        return self._on_session(key, JobKind.FIRST_PASS, steps, finish, emit, generation=request.generation)

    def preview(self, key: str, request: PreviewRequest, emit: Emit, finish: Finish) -> Job:
        """Preview slices; items are patches, the answer is None."""

        def steps(job: Job, record: Record, session: Session) -> Steps:
            r = request
            patches = session.preview(r.sub_region, r.boxes, slices=r.slices, locked=r.locked, cancel=job.cancel)
            yield from _numbered(patches, r.generation)

        return self._on_session(key, JobKind.PREVIEW, steps, finish, emit, generation=request.generation)

    def refine(self, key: str, request: RefineRequest, emit: Emit, finish: Finish) -> Job:
        """Refine; items are patches and progress, the answer is the `SessionState`."""

        def steps(job: Job, record: Record, session: Session) -> Steps:
            r = request
            patches = session.refine(
                r.sub_region,
                r.boxes,
                first_slice=r.first_slice,
                locked=r.locked,
                progress=job.emit,
                cancel=job.cancel,
            )
            if (yield from _numbered(patches, r.generation)):
                record.journal.add(Refinement(r.sub_region, r.boxes, r.locked))
                record.committed = r.generation
            return SessionState.of(session)

        return self._on_session(
            key, JobKind.REFINE, steps, finish, emit, generation=request.generation, sub_region=request.sub_region
        )

    def cancel(self, key: str, generation: int, finish: Finish) -> Job:
        """Stop a request, or take its refinement back if it has just been taken over; the answer is the state."""
        for job in self.worker.jobs(key):
            if job.generation == generation and job.kind is not JobKind.CALL:
                job.cancel.cancel()

        def steps(record: Record, session: Session) -> SessionState:
            if record.committed == generation:
                session.undo()
                record.journal.undo()
                record.committed = None
            return SessionState.of(session) if record.journal.started else SessionState()

        return self.call(key, steps, finish)

    def abandon(self, job: Job) -> None:
        """Undo a request whose owner vanished before it had heard the end."""
        if job.kind is JobKind.OPEN:
            job.cancel.cancel()
            self.close(job.key, lambda *_: None)
        elif job.kind is JobKind.REFINE:
            self.cancel(job.key, job.generation, lambda *_: None)
        else:
            job.cancel.cancel()

    def edit(self, key: str, patch: Patch, finish: Finish) -> Job:
        """Take over painted labels; the answer is (whether anything changed, state)."""

        def steps(record: Record, session: Session) -> tuple[bool, SessionState]:
            if any(n > size for n, size in zip(patch.extent.upper, session.geometry.shape, strict=True)):
                raise InputError(f"The edit reaches outside the volume of {session.geometry.shape} voxels.")
            changed = bool((session.labels()[patch.extent.slices] != patch.labels).any())
            if changed:
                session.edit(patch)
                record.journal.add(Painting(patch))
                record.committed = None
            return changed, SessionState.of(session)

        return self.call(key, steps, finish)

    def undo(self, key: str, finish: Finish) -> Job:
        """Take back a step; the answer is (patch or None, state)."""

        def steps(record: Record, session: Session) -> tuple[Patch | None, SessionState]:
            patch = None
            if session.can_undo():
                patch = session.undo()
                record.journal.undo()
                record.committed = None
            return patch, SessionState.of(session)

        return self.call(key, steps, finish)

    def redo(self, key: str, finish: Finish) -> Job:
        """Repeat a step; the answer is (patch or None, state)."""

        def steps(record: Record, session: Session) -> tuple[Patch | None, SessionState]:
            patch = None
            if session.can_redo():
                patch = session.redo()
                record.journal.redo()
                record.committed = None
            return patch, SessionState.of(session)

        return self.call(key, steps, finish)

    def call(self, key: str, function: Callable[[Record, Session], Any], finish: Finish) -> Job:
        """Run a quick function of a session on the worker; the answer is what it returns."""

        def steps(job: Job, record: Record, session: Session) -> Steps:
            return function(record, session)
            yield

        return self._on_session(key, JobKind.CALL, steps, finish, lambda _: None)

    def close(self, key: str, finish: Finish, reason: str = "The session was closed.") -> Job:
        """Close a session and free its memory, after cancelling what it still does."""
        for job in self.worker.jobs(key):
            job.cancel.cancel()

        def steps(job: Job) -> Steps:
            self.store.close(key, reason)
            return None
            yield

        return self._submit(Job(key, JobKind.CALL, steps, finish))

    def stop(self) -> None:
        """End all work and free everything."""
        self.worker.stop()
        self.store.close_all()

    def _on_session(
        self,
        key: str,
        kind: JobKind,
        steps: Callable[[Job, Record, Session], Steps],
        finish: Finish,
        emit: Emit,
        *,
        generation: int = 0,
        sub_region: SubRegion | None = None,
    ) -> Job:
        record = self.store.get(key)

        def awake(job: Job) -> Steps:
            # Usually done by the job before; here for a session that was spilled between queueing and starting.
            self.store.wake(record, None, job.cancel)
            return (yield from steps(job, record, record.live()))

        job = Job(key, kind, awake, finish, emit, generation=generation, sub_region=sub_region)
        return self._submit(job, waking=record if record.session is None else None)

    def _submit(self, job: Job, waking: Record | None = None) -> Job:
        before = None
        if waking is not None:

            def wake(alarm: Job) -> Steps:
                self.store.wake(waking, self._telling(alarm), alarm.cancel)
                return
                yield

            # Its error, if any, comes again in the job itself, which tries once more.
            before = Job(job.key, JobKind.WAKE, wake, lambda *_: None, job.emit, cancel=job.cancel)
        self.worker.submit(job, before=before)
        return job

    def _telling(self, job: Job) -> Callable[[Progress], None]:
        def told(progress: Progress) -> None:
            job.emit(progress)
            self.worker.let_others_run()

        return told


def _numbered(patches: Iterator[Patch], generation: int) -> Generator[Patch, None, int]:
    """Yield patches with the request's number and return how many; closed early, close their source too."""
    count = 0
    try:
        for count, patch in enumerate(patches, start=1):  # noqa: B007 (the last count is the result)
            yield replace(patch, generation=generation)
    finally:
        if isinstance(patches, Generator):
            patches.close()
    return count


def painted(extent: Box, labels: np.ndarray | None) -> Patch:
    """Check an uploaded edit and return it as a patch.

    Raises:
        MessageError: no labels, or not uint8 of the extent's shape with BraTS 2020 values.
    """
    if labels is None or labels.dtype != np.uint8 or labels.shape != extent.shape:
        raise MessageError(f"An edit needs uint8 labels of its extent's shape {extent.shape}.")
    if min(extent.lower) < 0:
        raise MessageError("An edit's extent must not begin below zero.")
    allowed = [0, *(r.label for r in SubRegion)]
    if not np.isin(labels, allowed).all():
        raise MessageError(f"An edit's labels must be among {allowed} (the {LabelScheme.BRATS2020.value} scheme).")
    return Patch(extent, labels)
