"""The cases of a dataset as rows of a table, read from what `SOFATrainingLib.checking` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sofa_engine.errors import InputError


class Mark(Enum):
    """What a row of the table looks like."""

    GOOD = "good"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class CaseRow:
    """One case.

    Attributes:
        case: its name.
        subject: the patient, whose cases stay together in training or in validation.
        errors: sentences that keep it out of training.
        warnings: sentences worth knowing.
        origin: what it would be prepared from (`sofa_training.cases.TrainingCase.origin`).
    """

    case: str
    subject: str
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    origin: str = ""

    @property
    def mark(self) -> Mark:
        """How serious the worst problem is."""
        if self.errors:
            return Mark.ERROR
        return Mark.WARNING if self.warnings else Mark.GOOD

    @property
    def problem(self) -> str:
        """All problems in words; empty where there are none."""
        return " ".join((*self.errors, *self.warnings))


def readRows(output: str) -> tuple[CaseRow, ...]:
    """Return the rows that a checking program printed.

    Raises:
        InputError: the program had something to say instead.
    """
    rows = []
    for event in _events(output):
        if "error" in event:
            raise InputError(event["error"])
        if "case" in event:
            problems = {kind: tuple(event[kind]) for kind in ("errors", "warnings")}
            rows.append(CaseRow(event["case"], event["subject"], origin=event["origin"], **problems))
    return tuple(rows)


def readProgress(output: str) -> tuple[int, int]:
    """Return how many cases are checked, and how many there are (0 while that is unknown)."""
    events = _events(output)
    found = next((event["found"] for event in events if "found" in event), 0)
    return sum("checked" in event for event in events), found


def usable(rows: Sequence[CaseRow]) -> tuple[CaseRow, ...]:
    """Return the cases that can be trained on."""
    return tuple(row for row in rows if row.mark is not Mark.ERROR)


def summary(rows: Sequence[CaseRow]) -> str:
    """Say in one sentence how many cases there are and how many can be used."""
    good, bad = len(usable(rows)), len(rows) - len(usable(rows))
    patients = len({row.subject for row in usable(rows)})
    noun = "case" if good == 1 else "cases"
    of = f" of {patients} patient{'s' if patients != 1 else ''}" if good else ""
    left = f"; {bad} {'is' if bad == 1 else 'are'} left out" if bad else ""
    return f"{good} {noun}{of} can be used{left}."


def _events(output: str) -> list[dict]:
    """Return the JSON objects among the lines; libraries may print lines of their own, and the last may be cut off."""
    events = []
    for line in output.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
