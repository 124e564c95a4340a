"""The sessions of one engine: opened, spilled when memory is short, woken on use, evicted in the end.

A spilled session gives its memory back and keeps what cannot be computed again: the upload (in an unnamed temporary
file, which the system removes even after kill -9) and the journal. Waking replays the journal on a new session.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from pydantic import ValidationError

from sofa_engine.api import LocalSession
from sofa_engine.case import Case
from sofa_engine.progress import CancelToken, ProgressCallback
from sofa_engine.types import MODALITIES
from sofa_service.errors import BusyError, MessageError, SessionGoneError, TooLargeError
from sofa_service.framing import Limits, decode
from sofa_service.journal import Journal
from sofa_service.protocol import CaseHeader, SessionStatus

_LOG = logging.getLogger(__name__)
_REMEMBERED = 1000
#: Bytes a session takes per voxel of the case and modality-independent: fused features at stride 4 for three
#: sub-regions (3 x 256 x 2 / 16), probabilities, confidence, labels and masks; the brain fills about half the volume.
_BYTES_PER_VOXEL = 64


@dataclass(eq=False)
class Record:
    """One client's session.

    Attributes:
        key: the session's id, a secret of 128 bits.
        upload: the case as it was sent, compressed.
        cost: estimated bytes while live.
        session: None while spilled.
        committed: generation of the refinement that was last taken over, until something else changed.
    """

    key: str
    upload: IO[bytes]
    cost: int
    session: LocalSession | None = None
    journal: Journal = field(default_factory=Journal)
    last_used: float = field(default_factory=time.monotonic)
    committed: int | None = None

    def live(self) -> LocalSession:
        """Return the session; only the worker asks, after it has woken it."""
        if self.session is None:
            raise SessionGoneError("The session could not be woken; open the case again.")
        return self.session


def read_case(message: bytes, limits: Limits) -> Case:
    """Decode an upload (see `CaseHeader`).

    Raises:
        MessageError: a wrong name, dtype or shape, or a geometry that is no geometry.
        TooLargeError: more than the limits.
    """
    packet = decode(message, limits)
    try:
        geometry = CaseHeader.model_validate(packet.meta).geometry
    except ValidationError:
        raise MessageError("The upload's header needs a geometry: shape (D, H, W) and a 4x4 ijk_to_ras.") from None
    matrix = geometry.matrix
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
        raise MessageError("The upload's ijk_to_ras must be an invertible 4x4 matrix of finite numbers.")
    images = {m: packet.arrays[m.value] for m in MODALITIES if m.value in packet.arrays}
    if not images or len(images) != len(packet.arrays):
        raise MessageError("The upload must hold one to four arrays named t1, t1c, t2 or flair, and no others.")
    for modality, array in images.items():
        if array.dtype != np.float32:
            raise MessageError(f"{modality.title} must be float32, not {array.dtype}.")
        if array.shape != geometry.shape:
            raise MessageError(f"{modality.title} has shape {array.shape} but the geometry says {geometry.shape}.")
    return Case(images, geometry, name="remote case")


class SessionStore:
    """Records by key, within a memory budget. `open`, `wake` and `close` run on the worker's thread."""

    def __init__(
        self,
        factory: Callable[[Case], LocalSession],
        *,
        limits: Limits,
        budget: int,
        max_spilled: int = 32,
        key_prefix: str = "",
        is_busy: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._factory = factory
        self._limits = limits
        self.budget = budget
        self._max_spilled = max_spilled
        self._prefix = key_prefix
        self._is_busy = is_busy
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._gone: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.RLock()

    def new_key(self) -> str:
        """Return an id that nobody can guess."""
        return self._prefix + secrets.token_urlsafe(16)

    def get(self, key: str) -> Record:
        """Return a record and note its use.

        Raises:
            SessionGoneError: evicted, closed or never there.
        """
        with self._lock:
            record = self._records.get(key)
            if record is None:
                raise self._gone_error(key)
            record.last_used = time.monotonic()
            self._records.move_to_end(key)
            return record

    def open(self, key: str, case: Case, upload: IO[bytes]) -> Record:
        """Open a case under a new key; `upload` is its message, kept for waking."""
        record = Record(key, upload, cost=_cost(case))
        self._make_room(record)
        record.session = self._factory(case)
        with self._lock:
            self._records[key] = record
        return record

    def wake(self, record: Record, progress: ProgressCallback | None, cancel: CancelToken | None) -> None:
        """Bring a spilled session back to where it was.

        Raises:
            SessionGoneError: it was closed while the request waited for its turn.
        """
        with self._lock:
            if self._records.get(record.key) is not record:
                raise self._gone_error(record.key)
        if record.session is not None:
            return
        self._make_room(record)
        record.upload.seek(0)
        session = self._factory(read_case(record.upload.read(), self._limits))
        try:
            record.journal.replay(session, progress=progress, cancel=cancel)
        except BaseException:
            session.close()
            raise
        record.session = session

    def close(self, key: str, reason: str = "The session was closed.") -> None:
        """Forget a session; its owner's next request is answered with the reason."""
        with self._lock:
            record = self._records.pop(key, None)
            if record is None:
                return
            self._gone[key] = reason
            while len(self._gone) > _REMEMBERED:
                self._gone.popitem(last=False)
        self._spill(record)
        record.upload.close()

    def idle(self, seconds: float) -> tuple[str, ...]:
        """Return the keys of sessions unused for longer than `seconds`."""
        limit = time.monotonic() - seconds
        with self._lock:
            return tuple(k for k, r in self._records.items() if r.last_used < limit and not self._is_busy(k))

    def look_ahead(self) -> bool:
        """Compute a little of what later boxes may ask for, in the session used last; return whether there is more."""
        with self._lock:
            live = [r.session for r in reversed(self._records.values()) if r.session is not None]
        return any(session.look_ahead() for session in live)

    def close_all(self) -> None:
        """Free everything."""
        for key in list(self._records):
            self.close(key)

    def memory(self) -> int:
        """Return the estimated bytes of live sessions."""
        with self._lock:
            return sum(r.cost for r in self._records.values() if r.session is not None)

    def status(self, jobs: Callable[[str], int]) -> tuple[SessionStatus, ...]:
        """Describe every session for an operator."""
        now = time.monotonic()
        with self._lock:
            return tuple(
                SessionStatus(
                    id_prefix=r.key[: len(self._prefix) + 4],
                    state="live" if r.session is not None else "spilled",
                    megabytes=(r.cost if r.session is not None else 0) >> 20,
                    idle_s=round(now - r.last_used, 1),
                    jobs=jobs(r.key),
                )
                for r in self._records.values()
            )

    def _gone_error(self, key: str) -> SessionGoneError:
        unknown = "The engine does not know this session (it may have been restarted)."
        return SessionGoneError(f"{self._gone.get(key, unknown)} Open the case again.")

    def _make_room(self, newcomer: Record) -> None:
        if newcomer.cost > self.budget:
            raise TooLargeError(
                f"This case needs about {newcomer.cost >> 20} MiB but the engine's sessions may use "
                f"{self.budget >> 20} MiB: crop it, or start the engine with a larger --memory."
            )
        with self._lock:
            idle = [r for k, r in self._records.items() if r.session is not None and not self._is_busy(k)]
        for record in idle:
            if self.memory() + newcomer.cost <= self.budget:
                break
            if record is not newcomer:
                self._spill(record)
        if self.memory() + newcomer.cost > self.budget:
            raise BusyError("All of the engine's memory is taken by sessions at work; try again in a moment.")
        self._evict_spilled(newcomer)

    def _evict_spilled(self, newcomer: Record) -> None:
        with self._lock:
            spilled = [k for k, r in self._records.items() if r.session is None and r is not newcomer]
        for key in spilled[: max(0, len(spilled) - self._max_spilled)]:
            if not self._is_busy(key):
                self.close(key, "The engine needed the room and this session was the least recently used.")

    @staticmethod
    def _spill(record: Record) -> None:
        session, record.session = record.session, None
        if session is not None:
            _LOG.info("Freeing session %s...", record.key[:4])
            session.close()


def _cost(case: Case) -> int:
    voxels = int(np.prod(case.geometry.shape))
    return voxels * (_BYTES_PER_VOXEL + 4 * len(case.images))
