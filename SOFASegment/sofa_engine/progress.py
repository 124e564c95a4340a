"""Progress and cancelling, shared by everything that takes long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sofa_engine.errors import CancelledError


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is.

    Attributes:
        stage: what is being done, in words for a person ("Encoding slices").
        fraction: 0 to 1 over the whole work, never decreasing.
        remaining_s: estimated seconds left, or None while unknown.
    """

    stage: str
    fraction: float
    remaining_s: float | None = None


ProgressCallback = Callable[[Progress], None]


class CancelToken:
    """A flag that one thread sets and the working thread looks at between batches."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop at its next batch."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `CancelledError` if the work was cancelled."""
        if self._event.is_set():
            raise CancelledError
