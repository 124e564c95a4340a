"""Which side of the patient lies at which edge of a slice view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Letters of the positive and the negative direction of R, A and S.
_LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))
#: An axis that a direction leans towards by less than this, as a cosine, is not named: 20 degrees.
_LEAST = 0.34


@dataclass(frozen=True)
class Sides:
    """Anatomical directions of a slice view, those of the edges of one to three letters of R, L, A, P, S and I.

    Attributes:
        left: what the view's left edge points to; likewise `right`, `top` and `bottom`.
        axis: R, A or S, the one that the slices follow each other along.
        sign: of a slice's position on that axis, as the view counts it.
    """

    left: str
    right: str
    top: str
    bottom: str
    axis: str
    sign: int

    @classmethod
    def of(cls, slice_to_ras: np.ndarray) -> Sides:
        """Read them off a slice node's matrix, float (4, 4): columns are right, up and out of the view, in RAS."""
        right, up, out = slice_to_ras[:3, :3].T
        axis = int(np.argmax(np.abs(out)))
        sign = 1 if out[axis] > 0 else -1
        return cls(letters(-right), letters(right), letters(up), letters(-up), _LETTERS[axis][0], sign)


def letters(direction: np.ndarray) -> str:
    """Return the letters of a direction in RAS, float (3,), the one that it is closest to first."""
    cosines = direction / np.linalg.norm(direction)
    named = [axis for axis in np.argsort(-np.abs(cosines), kind="stable") if abs(cosines[axis]) >= _LEAST]
    return "".join(_LETTERS[axis][int(cosines[axis] < 0)] for axis in named)
