"""What client and engine say to each other: version, messages, error codes. Arrays travel beside them (`framing`).

`sofa_engine` dataclasses (`Box`, `Geometry`, `ModelInfo`, ...) are used in messages as they are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sofa_engine.api import ModelInfo, Session
from sofa_engine.errors import CancelledError, InputError, OutOfMemoryError, SofaError, WeightsError
from sofa_engine.geometry import Geometry
from sofa_engine.progress import Progress
from sofa_engine.types import SUB_REGIONS, Box, Modality, SubRegion
from sofa_service.errors import (
    BusyError,
    EngineLostError,
    MessageError,
    ServiceError,
    SessionGoneError,
    TooLargeError,
    UnauthorizedError,
    VersionMismatchError,
)

#: Raised whenever an older client or engine would misunderstand the newer one.
PROTOCOL_VERSION = 1
PROTOCOL_HEADER = "X-SOFA-Protocol"
MESSAGE_TYPE = "application/x-sofa-message"
STREAM_TYPE = "application/x-sofa-frames"
#: Seconds between signs of life on a stream; the client looks at its cancel token as often.
HEARTBEAT_S = 0.25


class ErrorCode(StrEnum):
    """What went wrong, for programs; the sentence beside it is for people."""

    UNAUTHORIZED = "unauthorized"
    VERSION = "version"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    GONE = "gone"
    BUSY = "busy"
    CANCELLED = "cancelled"
    INPUT = "input"
    WEIGHTS = "weights"
    MEMORY = "memory"
    ENGINE = "engine"
    REFUSED = "refused"
    INTERNAL = "internal"

    @property
    def status(self) -> int:
        """HTTP status that goes with the code."""
        return _CODES[self][0]

    def error(self, sentence: str) -> SofaError:
        """Return the exception that a client raises for this code."""
        return _CODES[self][1](sentence)

    @staticmethod
    def of(error: SofaError) -> ErrorCode:
        """Return the code of an exception: that of its nearest class in the table."""
        classes = {cls: code for code, (_, cls) in reversed(_CODES.items())}
        return next((classes[cls] for cls in type(error).__mro__ if cls in classes), ErrorCode.REFUSED)


_CODES: dict[ErrorCode, tuple[int, type[SofaError]]] = {
    ErrorCode.UNAUTHORIZED: (401, UnauthorizedError),
    ErrorCode.VERSION: (426, VersionMismatchError),
    ErrorCode.MALFORMED: (422, MessageError),
    ErrorCode.TOO_LARGE: (413, TooLargeError),
    ErrorCode.GONE: (410, SessionGoneError),
    ErrorCode.BUSY: (503, BusyError),
    ErrorCode.CANCELLED: (409, CancelledError),
    ErrorCode.INPUT: (422, InputError),
    ErrorCode.WEIGHTS: (503, WeightsError),
    ErrorCode.MEMORY: (507, OutOfMemoryError),
    ErrorCode.ENGINE: (502, EngineLostError),
    ErrorCode.REFUSED: (400, SofaError),
    ErrorCode.INTERNAL: (500, ServiceError),
}


class Message(BaseModel):
    """Base of all messages: unknown fields are refused, so that a typing error in a script is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorMessage(Message):
    """Why a request failed."""

    code: ErrorCode
    sentence: str

    def exception(self) -> SofaError:
        """Return the exception to raise on the client's side."""
        return self.code.error(self.sentence)


class Hello(Message):
    """The handshake's answer; deliberately small, so that every version can read every other's."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    protocol: int
    version: str


class CaseHeader(Message):
    """Uploaded beside one float32 (D, H, W) array per modality, named "t1", "t1c", "t2", "flair".

    Names, paths and sentences of the client about the case stay with the client.
    """

    geometry: Geometry


class SessionState(Message):
    """What a face asks for all the time, so that the client knows it without asking."""

    boxes: dict[SubRegion, tuple[Box, ...]] = Field(default_factory=dict)
    first_boxes: dict[SubRegion, tuple[Box, ...]] = Field(default_factory=dict)
    can_undo: bool = False
    can_redo: bool = False

    @staticmethod
    def of(session: Session) -> SessionState:
        """Read the state of a session that had its first pass."""
        boxes, first = session.boxes(), session.first_boxes()
        return SessionState(
            boxes={r: tuple(boxes.get(r, ())) for r in SUB_REGIONS},
            first_boxes={r: tuple(first.get(r, ())) for r in SUB_REGIONS},
            can_undo=session.can_undo(),
            can_redo=session.can_redo(),
        )


class Opened(Message):
    """A new session."""

    session: str
    modalities: tuple[Modality, ...]
    model: ModelInfo
    warnings: tuple[str, ...] = ()


class FirstPassRequest(Message):
    """Run the first pass."""

    generation: int = 0


class PreviewRequest(Message):
    """See `Session.preview`."""

    sub_region: SubRegion
    boxes: tuple[Box, ...]
    slices: tuple[int, ...]
    locked: tuple[SubRegion, ...] = ()
    generation: int = 0


class RefineRequest(Message):
    """See `Session.refine`."""

    sub_region: SubRegion
    boxes: tuple[Box, ...]
    first_slice: int | None = None
    locked: tuple[SubRegion, ...] = ()
    generation: int = 0


class EditHeader(Message):
    """Sent beside one uint8 array "labels" of the extent's shape."""

    extent: Box


class CancelRequest(Message):
    """Make the request of this generation not have happened, whether it still runs or has just ended."""

    generation: int


class Timing(Message):
    """Where the time of one answer went in the engine, milliseconds."""

    queue_ms: float = 0.0
    compute_ms: float = 0.0
    encode_ms: float = 0.0


class FrameKind(StrEnum):
    """What one frame of a stream tells."""

    ALIVE = "alive"
    PROGRESS = "progress"
    PATCH = "patch"
    DONE = "done"
    ERROR = "error"


class Frame(Message):
    """One frame of a stream; which fields are set follows from its kind. A patch's voxels are the array "labels"."""

    kind: FrameKind
    progress: Progress | None = None
    extent: Box | None = None
    generation: int = 0
    opened: Opened | None = None
    state: SessionState | None = None
    timing: Timing | None = None
    error: ErrorMessage | None = None


class PatchHeader(Message):
    """Answer to an undo, redo or edit; without an extent nothing was changed. Voxels: the array "labels"."""

    extent: Box | None = None
    state: SessionState


class SessionStatus(Message):
    """One session as an operator may see it: nothing of the patient, and too little of the id to use it."""

    id_prefix: str
    state: str
    megabytes: int
    idle_s: float
    jobs: int


class Status(Message):
    """Answer of `sofa serve --status`."""

    version: str
    uptime_s: float
    device: str
    memory_mb: int
    budget_mb: int
    process_mb: int
    queued: int
    sessions: tuple[SessionStatus, ...]
    workers: tuple[dict[str, Any], ...] = ()


def version_sentence(ours: int, theirs: int, our_version: str, their_version: str) -> str:
    """Say who must be updated when the two protocols differ."""
    newer = "the engine" if theirs > ours else "this SOFA"
    return (
        f"This SOFA is version {our_version} (protocol {ours}) but the engine is version {their_version} "
        f"(protocol {theirs}): install the same version on both sides; {newer} is the newer one."
    )
