"""Which cases a checkpoint has been trained on.

A checkpoint travels further than its cases may, and their names can say who the patients are; so it carries digests of
the names, by which somebody who has the cases recognises them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from sofa_engine.model.checkpoint import load_checkpoint

#: Key of the digests in a checkpoint's notes.
SEEN = "cases_seen"
_LENGTH = 16


def digest(case: str) -> str:
    """Return what stands for a case's name in a checkpoint, 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(case.encode()).hexdigest()[:_LENGTH]


def digests_in(notes: Mapping[str, object]) -> set[str]:
    """Return the digests in a checkpoint's notes, none where it does not tell."""
    seen = notes.get(SEEN)
    return {str(item) for item in seen} if isinstance(seen, list) else set()


def cases_trained_on(weights: Path, cases: Iterable[str]) -> frozenset[str] | None:
    """Return which of the cases a checkpoint was trained on, None where it does not tell.

    Raises:
        WeightsError: it cannot be read.
    """
    seen = digests_in(load_checkpoint(weights)[1].notes)
    return frozenset(case for case in cases if digest(case) in seen) if seen else None
