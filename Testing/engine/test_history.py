"""Undo and redo."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sofa_engine.history import ArrayChange, History, Step


class Drawing:
    """The smallest state that a history can serve: one array and one value."""

    def __init__(self, limit_bytes: int = 10**6) -> None:
        self.image = np.random.default_rng(0).random((6, 7)).astype(np.float16)
        self.value = 0
        self.history = History(limit_bytes)

    def _remember(self, indices) -> Step:
        return Step(tuple(ArrayChange.of("image", self.image, i) for i in indices), (self.value,))

    def change(self, row: int, value: int) -> None:
        index = (slice(row, row + 2), slice(1, 5))
        self.history.push(self._remember([index]))
        self.image[index] = value
        self.value = value

    def exchange(self, step: Step) -> Step:
        inverse = self._remember([change.index for change in step.arrays])
        for change in step.arrays:
            change.restore(self.image)
        (self.value,) = step.values
        return inverse

    def copy(self) -> tuple[bytes, int]:
        return self.image.tobytes(), self.value


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=6))
def test_undoing_everything_and_redoing_it_passes_the_same_states_bit_for_bit(steps):
    drawing = Drawing()
    states = [drawing.copy()]
    for row, value in steps:
        drawing.change(row, value)
        states.append(drawing.copy())
    for state in reversed(states[:-1]):
        assert drawing.history.undo(drawing.exchange) is not None
        assert drawing.copy() == state
    assert drawing.history.undo(drawing.exchange) is None
    for state in states[1:]:
        assert drawing.history.redo(drawing.exchange) is not None
        assert drawing.copy() == state
    assert drawing.history.redo(drawing.exchange) is None


def test_a_new_step_after_an_undo_ends_the_redo():
    drawing = Drawing()
    drawing.change(0, 1)
    drawing.history.undo(drawing.exchange)
    assert drawing.history.can_redo
    drawing.change(1, 2)
    assert not drawing.history.can_redo


def test_a_step_that_is_a_row_of_a_larger_array_comes_back():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    change = ArrayChange.of("quality", array, (1, slice(0, 2)))
    array[1] = 0
    change.restore(array)
    assert array[1].tolist() == [4, 5, 0, 0]


def test_old_steps_are_dropped_when_memory_runs_out_but_never_the_newest():
    drawing = Drawing(limit_bytes=1)
    for value in range(1, 5):
        drawing.change(0, value)
    assert drawing.history.undo(drawing.exchange) is not None
    assert drawing.value == 3
    assert drawing.history.undo(drawing.exchange) is None


def test_memory_stays_within_the_limit():
    drawing = Drawing(limit_bytes=400)
    for value in range(50):
        drawing.change(value % 5, value)
        assert drawing.history.nbytes <= 400


def test_clearing_forgets_both_directions():
    drawing = Drawing()
    drawing.change(0, 1)
    drawing.change(0, 2)
    drawing.history.undo(drawing.exchange)
    drawing.history.clear()
    assert not drawing.history.can_undo
    assert not drawing.history.can_redo
