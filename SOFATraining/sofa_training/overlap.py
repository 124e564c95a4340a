"""Validation cases that a run's weights have been trained on before, which makes their numbers worthless."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sofa_training.prepared import PreparedCase
from sofa_training.seen import digest

#: Key of their number among a run's facts and in a checkpoint's notes; absent where there is none.
VALIDATION_SEEN = "validation_cases_seen"


def seen_in_validation(seen: Collection[str], validating: Sequence[PreparedCase]) -> dict[str, int]:
    """Return what a run has to say about validation cases among those that its start was trained on.

    Args:
        seen: digests of the cases that the weights have seen, those of the start among them; the run's own training
            cases are never its validation cases.
        validating: validation cases.

    Returns:
        Their number under `VALIDATION_SEEN`, or nothing where there is none.
    """
    count = sum(digest(case.name) in seen for case in validating)
    return {VALIDATION_SEEN: count} if count else {}
