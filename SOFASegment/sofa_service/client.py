"""The engine as seen from a face: `EngineClient` opens cases, `RemoteSession` has the verbs of `api.Session`.

httpx and numpy; neither torch nor Slicer. The client keeps the compressed upload and a journal of what was done, so
that a session that its engine lost is opened again and brought to where it was, at the next verb.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from sofa_engine.api import Boxes, ModelInfo
from sofa_engine.case import Case
from sofa_engine.errors import SofaError
from sofa_engine.geometry import Geometry
from sofa_engine.progress import CancelToken, ProgressCallback
from sofa_engine.types import Box, LabelScheme, Modality, Patch, SliceConfidence, SubRegion
from sofa_service.connection import Connection
from sofa_service.errors import EngineLostError, EngineUnreachableError, SessionGoneError
from sofa_service.framing import encode
from sofa_service.journal import Journal, Painting, Refinement
from sofa_service.protocol import CaseHeader, Hello, Status
from sofa_service.wire_session import RoundTrip, WireSession

T = TypeVar("T")
Notify = Callable[[str], None]


class EngineClient:
    """A connection to one engine, local or remote; opens cases. Thread-safe.

    Example:
        >>> with EngineClient("https://gpu.clinic.example:8484", token) as engine:
        ...     session = engine.open(case)
        ...     session.first_pass(progress=print)
        ...     labels = session.labels()
    """

    def __init__(
        self, url: str, token: str, *, ca_file: str | None = None, revive: Callable[[], tuple[str, str]] | None = None
    ) -> None:
        """Connect and shake hands.

        Args:
            url: "http://127.0.0.1:port" or "https://host:port".
            token: what `sofa serve` printed.
            ca_file: PEM of the authority that signed the engine's certificate, where the system does not know it;
                the environment variable SOFA_CA where it is left out.
            revive: starts the engine again after its death and returns its new url and token.

        Raises:
            EngineUnreachableError: nothing answers.
            VersionMismatchError: the engine's version differs.
            UnauthorizedError: wrong token.
        """
        self._ca_file = ca_file or os.environ.get("SOFA_CA")
        self._revive = revive
        self._lock = threading.RLock()
        self.connection = Connection(url, token, ca_file=self._ca_file)
        self.engine: Hello = self.connection.hello()
        self.warning = self.connection.check_stream() if revive is None else None

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; sessions that were not closed time out on the engine."""
        self.connection.close()

    def status(self) -> Status:
        """Return sessions, memory and queue of the engine."""
        return Status.model_validate_json(self.connection.request("GET", "/v1/status", repeat=True).content)

    def open(self, case: Case, *, cancel: CancelToken | None = None, notify: Notify | None = None) -> RemoteSession:
        """Upload a case and return its session; nothing is computed yet.

        Args:
            case: one to four sequences; names and paths stay here.
            cancel: stops the opening.
            notify: told a sentence whenever the session had to be opened again.
        """
        return RemoteSession(self, case, cancel=cancel, notify=notify)

    def reconnect(self, failed: Connection) -> None:
        """Reach the engine again after `failed` broke; a local one that died is started again."""
        with self._lock:
            if self.connection is not failed:
                return  # another session's thread has done it
            try:
                failed.hello()
                return
            except EngineLostError:
                if self._revive is None:
                    raise
            url, token = self._revive()
            self.connection = Connection(url, token, ca_file=self._ca_file)
            failed.close()
            self.engine = self.connection.hello()


class RemoteSession:
    """A case on an engine; satisfies `sofa_engine.api.Session`.

    When the engine dies during a verb, that verb raises `EngineLostError` and has changed nothing. When the session is
    gone (evicted, or its engine was restarted), the next verb opens it again, repeats what had been done, and then does
    what was asked.

    Attributes:
        recoveries: how often the session had to be opened again.
    """

    def __init__(
        self, client: EngineClient, case: Case, *, cancel: CancelToken | None = None, notify: Notify | None = None
    ) -> None:
        self.recoveries = 0
        self._client = client
        self._geometry = case.geometry
        self._case_warnings = case.warnings
        self._notify = notify or (lambda _: None)
        self._upload = encode(
            CaseHeader(geometry=case.geometry).model_dump_json(),
            {m.value: np.asarray(case.images[m], dtype=np.float32) for m in case.modalities},
        )
        self._journal = Journal()
        self._lock = threading.RLock()
        self._closed = False
        self._wire = self._open(cancel)

    @property
    def geometry(self) -> Geometry:
        """Grid of every array that the session takes and gives."""
        return self._geometry

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Sequences that are present."""
        return self._wire.modalities

    @property
    def model(self) -> ModelInfo:
        """Which model answers."""
        return self._wire.model

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user about this case and about the way to the engine."""
        sentences = (*self._case_warnings, *self._wire.warnings, self._client.warning or "")
        return tuple(dict.fromkeys(s for s in sentences if s))

    @property
    def upload_bytes(self) -> int:
        """Return the bytes of the case on the wire, which is all that the client keeps of it."""
        return len(self._upload)

    @property
    def last_round_trip(self) -> RoundTrip | None:
        """Return the timing of the last streamed verb."""
        return self._wire.last_round_trip

    def first_pass(self, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        """See `Session.first_pass`."""
        before = self._wire
        try:
            self._run(lambda wire: wire.first_pass(progress=progress, cancel=cancel), replay=False)
        except BaseException:
            self._return_to(before)
            raise
        self._journal.first_pass()

    def boxes(self) -> Boxes:
        """See `Session.boxes`; known here, the engine is not asked."""
        return self._wire.boxes()

    def first_boxes(self) -> Boxes:
        """See `Session.first_boxes`; known here, the engine is not asked."""
        return self._wire.first_boxes()

    def can_undo(self) -> bool:
        """See `Session.can_undo`; known here, the engine is not asked."""
        return self._wire.can_undo()

    def can_redo(self) -> bool:
        """See `Session.can_redo`; known here, the engine is not asked."""
        return self._wire.can_redo()

    def lesion_boxes(self, sub_region: SubRegion) -> tuple[Box, ...]:
        """See `Session.lesion_boxes`."""
        return self._run(lambda wire: wire.lesion_boxes(sub_region), safe=True)

    def preview(
        self,
        sub_region: SubRegion,
        boxes: Sequence[Box],
        *,
        slices: Sequence[int],
        locked: Collection[SubRegion] = (),
        cancel: CancelToken | None = None,
    ) -> Iterator[Patch]:
        """See `Session.preview`; a newer preview of the session ends an older one with `CancelledError`."""
        return self._run_stream(
            lambda wire: wire.preview(sub_region, boxes, slices=slices, locked=locked, cancel=cancel)
        )

    def refine(
        self,
        sub_region: SubRegion,
        boxes: Sequence[Box],
        *,
        first_slice: int | None = None,
        locked: Collection[SubRegion] = (),
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[Patch]:
        """See `Session.refine`; a newer one of the same sub-region ends an older one with `CancelledError`."""
        changed = False
        for patch in self._run_stream(
            lambda wire: wire.refine(
                sub_region, boxes, first_slice=first_slice, locked=locked, progress=progress, cancel=cancel
            )
        ):
            changed = True
            yield patch
        if changed:
            self._journal.add(Refinement(sub_region, tuple(boxes), tuple(locked)))

    def edit(self, patch: Patch) -> None:
        """See `Session.edit`."""
        if self._run(lambda wire: wire.paint(patch)):
            self._journal.add(Painting(patch))

    def undo(self) -> Patch | None:
        """See `Session.undo`."""
        patch = self._run(lambda wire: wire.undo())
        if patch is not None:
            self._journal.undo()
        return patch

    def redo(self) -> Patch | None:
        """See `Session.redo`."""
        patch = self._run(lambda wire: wire.redo())
        if patch is not None:
            self._journal.redo()
        return patch

    def labels(self, scheme: LabelScheme = LabelScheme.BRATS2020) -> np.ndarray:
        """See `Session.labels`."""
        return self._run(lambda wire: wire.labels(scheme), safe=True)

    def probabilities(self) -> np.ndarray:
        """See `Session.probabilities`."""
        return self._run(lambda wire: wire.probabilities(), safe=True)

    def confidence(self) -> np.ndarray:
        """See `Session.confidence`."""
        return self._run(lambda wire: wire.confidence(), safe=True)

    def uncertain_slices(self, count: int = 10) -> tuple[SliceConfidence, ...]:
        """See `Session.uncertain_slices`."""
        return self._run(lambda wire: wire.uncertain_slices(count), safe=True)

    def attention(self) -> Mapping[SubRegion, Mapping[Modality, float]]:
        """See `Session.attention`."""
        return self._run(lambda wire: wire.attention(), safe=True)

    def volumes_ml(self) -> Mapping[str, float]:
        """See `Session.volumes_ml`."""
        return self._run(lambda wire: wire.volumes_ml(), safe=True)

    def close(self) -> None:
        """See `Session.close`."""
        if not self._closed:
            self._closed = True
            self._upload = b""
            self._wire.close()

    def _open(self, cancel: CancelToken | None = None) -> WireSession:
        return WireSession(self._client.connection, self._geometry, self._upload, cancel)

    def _run(self, verb: Callable[[WireSession], T], *, safe: bool = False, replay: bool = True) -> T:
        """Do a verb, opening the session again where the engine certainly has not done it.

        Args:
            verb: what to do.
            safe: whether doing it twice is harmless, so that it is repeated even after a broken connection.
            replay: whether a session that is opened again must first be brought to where it was.
        """
        wire = self._sound(replay)
        try:
            return verb(wire)
        except (SessionGoneError, EngineUnreachableError):
            pass
        except EngineLostError:
            if not safe:
                raise
        return verb(self._recover(wire, replay))

    def _run_stream(self, verb: Callable[[WireSession], Iterator[Patch]]) -> Iterator[Patch]:
        wire = self._sound(replay=True)
        try:
            yield from verb(wire)
            return
        except (SessionGoneError, EngineUnreachableError):
            pass
        yield from verb(self._recover(wire, replay=True))

    def _sound(self, replay: bool) -> WireSession:
        if self._closed:
            raise SofaError("This case was closed; open it again.")
        wire = self._wire
        return self._recover(wire, replay) if wire.doubtful else wire

    def _return_to(self, before: WireSession) -> None:
        """Know again what was found, after a new first pass failed on a session that was opened for it alone."""
        with self._lock:
            bare = self._wire
            if bare is before or not self._journal.started:
                return
            before.doubtful = True
            self._wire = before
        bare.close()

    def _recover(self, failed: WireSession, replay: bool) -> WireSession:
        with self._lock:
            if self._wire is not failed:
                return self._wire  # another thread has done it
            self._notify("The engine no longer holds this case; it is being opened again as it was.")
            self._client.reconnect(failed.connection)
            if failed.connection is self._client.connection:
                failed.close()  # where the engine still lives, its copy in doubt is freed
            wire = self._open()
            if replay:
                self._journal.replay(wire)
            self.recoveries += 1
            self._wire = wire
            return wire
