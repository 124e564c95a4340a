"""One session on one engine, verb by verb; what to do when the engine loses it is decided in `client`."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx
import numpy as np
from pydantic import TypeAdapter

from sofa_engine.api import Boxes, ModelInfo
from sofa_engine.errors import CancelledError, SofaError
from sofa_engine.geometry import Geometry
from sofa_engine.progress import CancelToken, ProgressCallback
from sofa_engine.types import Box, LabelScheme, Modality, Patch, SliceConfidence, SubRegion
from sofa_service.connection import Connection, array_of, packet_of
from sofa_service.errors import EngineLostError, ServiceError
from sofa_service.framing import encode
from sofa_service.protocol import (
    CancelRequest,
    EditHeader,
    FirstPassRequest,
    FrameKind,
    Opened,
    PatchHeader,
    PreviewRequest,
    RefineRequest,
    SessionState,
    Timing,
)

_ATTENTION = TypeAdapter(dict[SubRegion, dict[Modality, float]])
_SLICES = TypeAdapter(tuple[SliceConfidence, ...])
_BOXES = TypeAdapter(tuple[Box, ...])


@dataclass(frozen=True)
class RoundTrip:
    """Where the time of a streamed verb went.

    Attributes:
        total_ms: from asking to the end.
        first_ms: from asking to the first patch, which is the visible slice; None without a patch.
        engine: queue, compute and encode in the engine.
        sent: bytes of the request's body.
        received: bytes of the answer's body.
    """

    total_ms: float
    first_ms: float | None
    engine: Timing
    sent: int
    received: int

    @property
    def transfer_ms(self) -> float:
        """Return what is left: network, HTTP, and decoding on both sides."""
        return self.total_ms - self.engine.queue_ms - self.engine.compute_ms - self.engine.encode_ms


class WireSession:
    """Satisfies `sofa_engine.api.Session` as long as the engine holds the session.

    Attributes:
        connection: the way to the engine.
        doubtful: the connection broke at a moment that leaves open what the engine did; open the case anew.
        last_round_trip: timing of the last streamed verb.
    """

    def __init__(self, connection: Connection, geometry: Geometry, upload: bytes, cancel: CancelToken | None) -> None:
        """Upload a case (a message with a `CaseHeader`) and open it."""
        self.connection = connection
        self.doubtful = False
        self.last_round_trip: RoundTrip | None = None
        self._geometry = geometry
        self._state: SessionState | None = None
        self._generations = itertools.count(1)
        self._opened = self._open(upload, cancel)

    @property
    def geometry(self) -> Geometry:
        """Grid of every array."""
        return self._geometry

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Sequences that are present."""
        return self._opened.modalities

    @property
    def model(self) -> ModelInfo:
        """Which model answers."""
        return self._opened.model

    @property
    def warnings(self) -> tuple[str, ...]:
        """The engine's sentences about the case."""
        return self._opened.warnings

    def first_pass(self, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        """See `Session.first_pass`."""
        for _ in self._stream("first-pass", FirstPassRequest(generation=next(self._generations)), progress, cancel):
            pass

    def boxes(self) -> Boxes:
        """See `Session.boxes`; known here, the engine is not asked."""
        return dict(self._known().boxes)

    def first_boxes(self) -> Boxes:
        """See `Session.first_boxes`; known here, the engine is not asked."""
        return dict(self._known().first_boxes)

    def can_undo(self) -> bool:
        """See `Session.can_undo`; known here, the engine is not asked."""
        return self._state is not None and self._state.can_undo

    def can_redo(self) -> bool:
        """See `Session.can_redo`; known here, the engine is not asked."""
        return self._state is not None and self._state.can_redo

    def lesion_boxes(self, sub_region: SubRegion) -> tuple[Box, ...]:
        """See `Session.lesion_boxes`."""
        return _BOXES.validate_json(self._get(f"lesion-boxes/{sub_region.value}").content)

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
        request = PreviewRequest(
            sub_region=sub_region,
            boxes=tuple(boxes),
            slices=tuple(int(z) for z in slices),
            locked=tuple(locked),
            generation=next(self._generations),
        )
        return self._stream("preview", request, None, cancel)

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
        request = RefineRequest(
            sub_region=sub_region,
            boxes=tuple(boxes),
            first_slice=None if first_slice is None else int(first_slice),
            locked=tuple(locked),
            generation=next(self._generations),
        )
        return self._stream("refine", request, progress, cancel)

    def edit(self, patch: Patch) -> None:
        """See `Session.edit`."""
        self.paint(patch)

    def paint(self, patch: Patch) -> bool:
        """Do `edit` and say whether any label differed."""
        header = EditHeader(extent=patch.extent).model_dump_json()
        labels = np.asarray(patch.labels).astype(np.uint8, copy=False)
        response = self._post("edit", content=encode(header, {"labels": labels}))
        answer = PatchHeader.model_validate_json(response.content)
        self._state = answer.state
        return answer.extent is not None

    def undo(self) -> Patch | None:
        """See `Session.undo`."""
        return self._travel("undo")

    def redo(self) -> Patch | None:
        """See `Session.redo`."""
        return self._travel("redo")

    def labels(self, scheme: LabelScheme = LabelScheme.BRATS2020) -> np.ndarray:
        """See `Session.labels`."""
        return array_of(self._get("labels", {"scheme": scheme.value}))

    def probabilities(self) -> np.ndarray:
        """See `Session.probabilities`."""
        return array_of(self._get("probabilities"))

    def confidence(self) -> np.ndarray:
        """See `Session.confidence`."""
        return array_of(self._get("confidence"))

    def uncertain_slices(self, count: int = 10) -> tuple[SliceConfidence, ...]:
        """See `Session.uncertain_slices`."""
        return _SLICES.validate_json(self._get("uncertain-slices", {"count": str(count)}).content)

    def attention(self) -> Mapping[SubRegion, Mapping[Modality, float]]:
        """See `Session.attention`."""
        return _ATTENTION.validate_json(self._get("attention").content)

    def volumes_ml(self) -> Mapping[str, float]:
        """See `Session.volumes_ml`."""
        return dict(json.loads(self._get("volumes").content))

    def close(self) -> None:
        """See `Session.close`; what cannot be freed, for whatever reason, the engine forgets when it has been idle."""
        with suppress(ServiceError):
            self.connection.request("DELETE", self._path())

    def _open(self, upload: bytes, cancel: CancelToken | None) -> Opened:
        with self.connection.stream("POST", "/v1/sessions", content=upload, cancel=cancel) as reply:
            for frame, _ in reply.frames(on_cancel=reply.drop):
                if frame.opened is not None:
                    return frame.opened
        raise EngineLostError("The engine did not open the case; try again.")

    def _known(self) -> SessionState:
        if self._state is None:
            raise SofaError("This case has not been segmented yet; run the first pass before anything else.")
        return self._state

    def _path(self, verb: str = "") -> str:
        return f"/v1/sessions/{self._opened.session}" + (f"/{verb}" if verb else "")

    def _get(self, verb: str, params: Mapping[str, str] | None = None) -> httpx.Response:
        return self.connection.request("GET", self._path(verb), params=params, repeat=True)

    def _post(self, verb: str, content: bytes | None = None) -> httpx.Response:
        with self._doubting():
            return self.connection.request("POST", self._path(verb), content=content)

    def _travel(self, verb: str) -> Patch | None:
        packet = packet_of(self._post(verb))
        header = PatchHeader.model_validate(packet.meta)
        self._state = header.state
        return None if header.extent is None else Patch(header.extent, packet.arrays["labels"])

    def _cancel(self, generation: int) -> None:
        """Make a request not have happened; safe to repeat."""
        with self._doubting():
            response = self.connection.request(
                "POST", self._path("cancel"), json=CancelRequest(generation=generation).model_dump(), repeat=True
            )
        self._state = SessionState.model_validate_json(response.content) if self._state is not None else None

    def _stream(
        self,
        verb: str,
        request: FirstPassRequest | PreviewRequest | RefineRequest,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> Iterator[Patch]:
        body = request.model_dump(mode="json")
        begin, first_ms, ended = time.perf_counter(), None, False
        told = False

        def on_cancel() -> None:
            nonlocal told
            told = True
            self._cancel(request.generation)

        if cancel is not None:
            cancel.check()
        with self._doubting(), self.connection.stream("POST", self._path(verb), json=body, cancel=cancel) as reply:
            try:
                for frame, arrays in reply.frames(on_cancel):
                    if frame.kind is FrameKind.PROGRESS and progress is not None and frame.progress is not None:
                        progress(frame.progress)
                    elif frame.kind is FrameKind.PATCH and frame.extent is not None:
                        first_ms = first_ms or (time.perf_counter() - begin) * 1e3
                        yield Patch(frame.extent, arrays["labels"], frame.generation)
                    elif frame.kind is FrameKind.DONE:
                        ended = True
                        self._finish(frame.state, told, verb)
                        total_ms = (time.perf_counter() - begin) * 1e3
                        timing = frame.timing or Timing()
                        self.last_round_trip = RoundTrip(total_ms, first_ms, timing, reply.sent, reply.received)
            except GeneratorExit:
                if not ended:
                    self._cancel(request.generation)
                    reply.drain()
                raise

    def _finish(self, state: SessionState | None, told: bool, verb: str) -> None:
        if told and verb == "refine":
            raise CancelledError  # it had just ended, and the engine took it back
        self._state = state or self._state

    def _doubting(self) -> _Doubting:
        return _Doubting(self)


class _Doubting:
    """Marks the session doubtful when the engine is lost inside the block."""

    def __init__(self, session: WireSession) -> None:
        self._session = session

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, EngineLostError):
            self._session.doubtful = True
