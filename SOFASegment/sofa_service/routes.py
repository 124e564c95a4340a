"""HTTP on the outside, jobs on the inside."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError

from sofa_engine import __version__
from sofa_engine.api import Session
from sofa_engine.errors import SofaError
from sofa_engine.progress import Progress
from sofa_engine.types import Box, LabelScheme, Modality, Patch, SliceConfidence, SubRegion
from sofa_service.engine import Emit, Engine, Finish, painted
from sofa_service.errors import MessageError
from sofa_service.framing import Limits, decode, encode, encode_frame
from sofa_service.guard import error_response
from sofa_service.protocol import (
    HEARTBEAT_S,
    MESSAGE_TYPE,
    PROTOCOL_VERSION,
    STREAM_TYPE,
    CancelRequest,
    EditHeader,
    ErrorCode,
    ErrorMessage,
    FirstPassRequest,
    Frame,
    FrameKind,
    Hello,
    Opened,
    PatchHeader,
    PreviewRequest,
    RefineRequest,
    SessionState,
    Status,
)
from sofa_service.sessions import read_case
from sofa_service.worker import Job

_ALIVE = encode_frame(encode(Frame(kind=FrameKind.ALIVE).model_dump_json(exclude_none=True)))
#: Told to proxies: nginx holds back a stream otherwise.
_STREAM_HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
_BINARY: dict[int | str, dict[str, Any]] = {
    200: {"content": {MESSAGE_TYPE: {}}, "description": "A message as in sofa_service.framing."}
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {STREAM_TYPE: {}}, "description": "A stream of frames as in sofa_service.framing."}
}
_FAILURES: dict[int | str, dict[str, Any]] = {
    code.status: {"model": ErrorMessage, "description": "See code and sentence."} for code in ErrorCode
}


@dataclass(frozen=True)
class _End:
    result: Any
    error: SofaError | None


class _Channel:
    """Carries what the worker's thread tells over to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    def emit(self, item: Any) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    def finish(self, result: Any, error: SofaError | None) -> None:
        self.emit(_End(result, error))

    async def get(self, timeout: float | None = None) -> Any:
        """Return the next item; None after `timeout` seconds without one."""
        try:
            return await asyncio.wait_for(self._queue.get(), timeout)
        except TimeoutError:
            return None


def build_router(engine: Engine, limits: Limits, status: Callable[[], Status]) -> APIRouter:
    """Return the routes of one engine."""

    async def describe() -> Status:
        return status()

    router = APIRouter(responses=_FAILURES)
    add_service(router, describe)
    _add_streams(router, engine, limits)
    _add_changes(router, engine, limits)
    _add_answers(router, engine)
    return router


def add_service(router: APIRouter, status: Callable[[], Awaitable[Status]]) -> None:
    """Add what an engine says of itself."""

    @router.get("/v1/hello")
    async def hello() -> Hello:
        """Which protocol and version this engine speaks; also says that it lives and the token is right."""
        return Hello(protocol=PROTOCOL_VERSION, version=__version__)

    @router.get("/v1/status")
    async def show_status() -> Status:
        """Sessions, memory and queue."""
        return await status()

    @router.get("/v1/stream-check", responses=_STREAM, response_class=StreamingResponse)
    async def stream_check() -> StreamingResponse:
        """Two signs of life a quarter of a second apart: arriving together, they tell of a proxy that buffers."""

        async def pair() -> AsyncIterator[bytes]:
            yield _ALIVE
            await asyncio.sleep(HEARTBEAT_S)
            yield _ALIVE

        return StreamingResponse(pair(), media_type=STREAM_TYPE, headers=_STREAM_HEADERS)


def _add_streams(router: APIRouter, engine: Engine, limits: Limits) -> None:
    @router.post("/v1/sessions", responses=_STREAM, response_class=StreamingResponse)
    async def open_session(request: Request) -> Response:
        """Open a case. Body: a message with a `CaseHeader` and a float32 array per modality."""
        upload = tempfile.TemporaryFile(prefix="sofa-")
        try:
            async for chunk in request.stream():
                upload.write(chunk)
            upload.seek(0)
            case = await asyncio.to_thread(lambda: read_case(upload.read(), limits))
        except BaseException:
            upload.close()
            raise
        return await _stream(engine, request, lambda emit, finish: engine.open(case, upload, emit, finish))

    @router.post("/v1/sessions/{key}/first-pass", responses=_STREAM, response_class=StreamingResponse)
    async def first_pass(key: str, request: Request, body: FirstPassRequest) -> Response:
        """Encode and segment; streams progress."""
        return await _stream(engine, request, lambda emit, finish: engine.first_pass(key, body, emit, finish))

    @router.post("/v1/sessions/{key}/preview", responses=_STREAM, response_class=StreamingResponse)
    async def preview(key: str, request: Request, body: PreviewRequest) -> Response:
        """Stream what a refinement would make of some slices; replaces older previews of the session."""
        return await _stream(engine, request, lambda emit, finish: engine.preview(key, body, emit, finish))

    @router.post("/v1/sessions/{key}/refine", responses=_STREAM, response_class=StreamingResponse)
    async def refine(key: str, request: Request, body: RefineRequest) -> Response:
        """Stream patches, visible slice first; replaces an older refinement of the same sub-region."""
        return await _stream(engine, request, lambda emit, finish: engine.refine(key, body, emit, finish))


def _add_changes(router: APIRouter, engine: Engine, limits: Limits) -> None:
    @router.post("/v1/sessions/{key}/cancel")
    async def cancel(key: str, body: CancelRequest) -> SessionState:
        """Make a request not have happened. Safe to repeat."""
        return await _answer(lambda finish: engine.cancel(key, body.generation, finish))

    @router.post("/v1/sessions/{key}/edit")
    async def edit(key: str, request: Request) -> PatchHeader:
        """Take over painted labels. Body: a message with an `EditHeader` and the uint8 array "labels"."""
        packet = decode(await request.body(), limits)
        try:
            extent = EditHeader.model_validate(packet.meta).extent
        except ValidationError:
            raise MessageError("An edit's header needs an extent with lower and upper (z, y, x).") from None
        patch = painted(extent, packet.arrays.get("labels"))
        changed, state = await _answer(lambda finish: engine.edit(key, patch, finish))
        return PatchHeader(extent=extent if changed else None, state=state)

    @router.post("/v1/sessions/{key}/undo", responses=_BINARY, response_class=Response)
    async def undo(key: str) -> Response:
        """Take back the last step."""
        return _patch_response(*await _answer(lambda finish: engine.undo(key, finish)))

    @router.post("/v1/sessions/{key}/redo", responses=_BINARY, response_class=Response)
    async def redo(key: str) -> Response:
        """Repeat the step last undone."""
        return _patch_response(*await _answer(lambda finish: engine.redo(key, finish)))

    @router.delete("/v1/sessions/{key}", status_code=204)
    async def close(key: str) -> None:
        """Close the session; its memory is free when this returns."""
        engine.store.get(key)
        await _answer(lambda finish: engine.close(key, finish))


def _add_answers(router: APIRouter, engine: Engine) -> None:
    async def ask(key: str, question: Callable[[Session], Any]) -> Any:
        return await _answer(lambda finish: engine.call(key, lambda _, session: question(session), finish))

    async def ask_array(key: str, question: Callable[[Session], np.ndarray]) -> Response:
        array = await ask(key, question)
        return Response(await asyncio.to_thread(encode, "{}", {"array": array}), media_type=MESSAGE_TYPE)

    @router.get("/v1/sessions/{key}/state")
    async def state(key: str) -> SessionState:
        """Boxes, and whether undo and redo would do something."""
        return await ask(key, SessionState.of)

    @router.get("/v1/sessions/{key}/labels", responses=_BINARY, response_class=Response)
    async def labels(key: str, scheme: LabelScheme = LabelScheme.BRATS2020) -> Response:
        """Label map, uint8 (D, H, W)."""
        return await ask_array(key, lambda session: session.labels(scheme))

    @router.get("/v1/sessions/{key}/labels.nii.gz", response_class=Response)
    async def labels_nifti(key: str, scheme: LabelScheme = LabelScheme.BRATS2020) -> Response:
        """Label map as a NIfTI file on the case's grid, for scripts."""
        from sofa_engine.writing import write_labels  # noqa: PLC0415 (ITK and nibabel, which no face needs here)

        values, geometry = await ask(key, lambda session: (session.labels(), session.geometry))

        def write() -> bytes:
            with tempfile.TemporaryDirectory(prefix="sofa-") as folder:
                return write_labels(values, geometry, Path(folder) / "labels.nii.gz", scheme).read_bytes()

        return Response(await asyncio.to_thread(write), media_type="application/gzip")

    @router.get("/v1/sessions/{key}/probabilities", responses=_BINARY, response_class=Response)
    async def probabilities(key: str) -> Response:
        """Probability of NCR, ED, ET, float16 (3, D, H, W)."""
        return await ask_array(key, lambda session: session.probabilities())

    @router.get("/v1/sessions/{key}/confidence", responses=_BINARY, response_class=Response)
    async def confidence(key: str) -> Response:
        """Confidence of every voxel's label, float16 (D, H, W)."""
        return await ask_array(key, lambda session: session.confidence())

    @router.get("/v1/sessions/{key}/uncertain-slices")
    async def uncertain_slices(key: str, count: int = 10) -> list[SliceConfidence]:
        """Slices most worth a look."""
        return list(await ask(key, lambda session: session.uncertain_slices(count)))

    @router.get("/v1/sessions/{key}/attention")
    async def attention(key: str) -> Mapping[SubRegion, Mapping[Modality, float]]:
        """Which sequence the model relied on, per sub-region."""
        return await ask(key, lambda session: session.attention())

    @router.get("/v1/sessions/{key}/volumes")
    async def volumes(key: str) -> Mapping[str, float]:
        """Millilitres of NCR, ED, ET, WT and TC."""
        return await ask(key, lambda session: session.volumes_ml())

    @router.get("/v1/sessions/{key}/lesion-boxes/{sub_region}")
    async def lesion_boxes(key: str, sub_region: SubRegion) -> list[Box]:
        """Boxes of the sub-region's lesions, largest first."""
        return list(await ask(key, lambda session: session.lesion_boxes(sub_region)))


async def _answer(start: Callable[[Finish], Job]) -> Any:
    channel = _Channel()
    start(channel.finish)
    end = await channel.get()
    if end.error is not None:
        raise end.error
    return end.result


async def _stream(engine: Engine, request: Request, start: Callable[[Emit, Finish], Job]) -> Response:
    """Stream a job's frames; an error that comes at once is a plain response with its own status.

    A script that asks for JSON gets the last frame alone, when all is done.
    """
    if "application/json" in request.headers.get("accept", ""):
        end = await _answer(lambda finish: start(lambda _: None, finish))
        return JSONResponse(None if end is None else end.model_dump(mode="json"))
    channel = _Channel()
    job = start(channel.emit, channel.finish)
    first = await _unless_cancelled(channel.get(HEARTBEAT_S), lambda: engine.abandon(job))
    if isinstance(first, _End) and first.error is not None:
        return error_response(first.error)
    return StreamingResponse(_frames(engine, job, channel, first), media_type=STREAM_TYPE, headers=_STREAM_HEADERS)


async def _unless_cancelled(waiting: Awaitable[Any], otherwise: Callable[[], None]) -> Any:
    try:
        return await waiting
    except asyncio.CancelledError:
        otherwise()
        raise


async def _frames(engine: Engine, job: Job, channel: _Channel, item: Any) -> AsyncIterator[bytes]:
    encode_s, delivered = 0.0, False
    try:
        while not isinstance(item, _End):
            start = time.perf_counter()
            data = _ALIVE if item is None else _frame(item)
            encode_s += time.perf_counter() - start
            yield data
            item = await channel.get(HEARTBEAT_S)
        yield _last_frame(job, item, encode_s)
        delivered = True
    finally:
        if not delivered:
            engine.abandon(job)


def _frame(item: Progress | Patch) -> bytes:
    if isinstance(item, Progress):
        return _pack(Frame(kind=FrameKind.PROGRESS, progress=item))
    frame = Frame(kind=FrameKind.PATCH, extent=item.extent, generation=item.generation)
    return _pack(frame, {"labels": item.labels})


def _last_frame(job: Job, end: _End, encode_s: float) -> bytes:
    timing = job.timing(encode_s)
    if end.error is not None:
        error = ErrorMessage(code=ErrorCode.of(end.error), sentence=str(end.error))
        return _pack(Frame(kind=FrameKind.ERROR, generation=job.generation, error=error, timing=timing))
    opened = end.result if isinstance(end.result, Opened) else None
    state = end.result if isinstance(end.result, SessionState) else None
    return _pack(Frame(kind=FrameKind.DONE, generation=job.generation, opened=opened, state=state, timing=timing))


def _pack(frame: Frame, arrays: Mapping[str, np.ndarray] | None = None) -> bytes:
    return encode_frame(encode(frame.model_dump_json(exclude_none=True), arrays))


def _patch_response(patch: Patch | None, state: SessionState) -> Response:
    header = PatchHeader(extent=None if patch is None else patch.extent, state=state)
    arrays = {} if patch is None else {"labels": patch.labels}
    return Response(encode(header.model_dump_json(), arrays), media_type=MESSAGE_TYPE)
