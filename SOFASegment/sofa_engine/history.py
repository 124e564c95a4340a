"""Undo and redo of arrays and small values together, in bounded memory."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Index of a rectangular part of an array.
Index = tuple[slice | int, ...]


@dataclass(frozen=True)
class ArrayChange:
    """What one part of an array held, compressed.

    Attributes:
        array: name of the array in the state.
        index: which part.
        packed: zlib-compressed C-order bytes of that part.
    """

    array: str
    index: Index
    packed: bytes

    @staticmethod
    def of(name: str, array: np.ndarray, index: Index) -> ArrayChange:
        """Remember `array[index]`."""
        return ArrayChange(name, index, zlib.compress(np.ascontiguousarray(array[index]).tobytes(), level=1))

    def restore(self, array: np.ndarray) -> None:
        """Write what was remembered back into `array`, bit for bit."""
        part = array[self.index]
        array[self.index] = np.frombuffer(zlib.decompress(self.packed), dtype=array.dtype).reshape(part.shape)


@dataclass(frozen=True)
class Step:
    """One step of undo: parts of arrays, and immutable values that are replaced whole."""

    arrays: tuple[ArrayChange, ...]
    values: tuple[Any, ...] = ()

    @property
    def nbytes(self) -> int:
        """Memory of the compressed parts in bytes."""
        return sum(len(change.packed) for change in self.arrays)


class History:
    """Two stacks of steps. A step that is undone is exchanged for its inverse, so redo needs nothing else."""

    def __init__(self, limit_bytes: int) -> None:
        """Keep at most `limit_bytes` of steps, and always the newest one."""
        self._limit_bytes = limit_bytes
        self._done: deque[Step] = deque()
        self._undone: list[Step] = []

    @property
    def can_undo(self) -> bool:
        """Whether a step can be taken back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether a step can be repeated."""
        return bool(self._undone)

    @property
    def nbytes(self) -> int:
        """Memory of all steps in bytes."""
        return sum(step.nbytes for step in (*self._done, *self._undone))

    def push(self, step: Step) -> None:
        """Add how to take back what was just done; what was undone before can no longer be repeated."""
        self._undone.clear()
        self._done.append(step)
        while len(self._done) > 1 and self.nbytes > self._limit_bytes:
            self._done.popleft()

    def undo(self, exchange: Callable[[Step], Step]) -> Step | None:
        """Take back the last step; None if there is none.

        Args:
            exchange: applies a step and returns its inverse.
        """
        if not self._done:
            return None
        step = self._done.pop()
        self._undone.append(exchange(step))
        return step

    def redo(self, exchange: Callable[[Step], Step]) -> Step | None:
        """Repeat the step last undone; None if there is none."""
        if not self._undone:
            return None
        step = self._undone.pop()
        self._done.append(exchange(step))
        return step

    def clear(self) -> None:
        """Forget everything."""
        self._done.clear()
        self._undone.clear()
