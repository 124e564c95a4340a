"""Where a run stands, read from the JSON lines that it writes; only what is new is read each time."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sofa_engine.progress import Progress

LOG = "log.jsonl"
#: A curve has at most about so many points, however long the run is; neighbours are averaged.
_POINTS = 400
LOSSES = ("loss", "first", "second")
REGIONS = ("NCR", "ED", "ET", "TC", "WT")


@dataclass
class RunStatus:
    """What a run has said so far.

    Attributes:
        starts: how often it was started or resumed.
        epochs, perEpoch: how many epochs there will be, and iterations in each.
        done: iterations that are done.
        remaining_s: estimated seconds left, None while unknown.
        speed: slices a second.
        facts: training_cases, validation_cases, device, arrangement, features_gb, and validation_cases_seen where the
            start was trained on some of these.
        measuring: whether an epoch is done and its validation cases are, perhaps, being segmented.
        ended: the last event's values where the run has ended ("reason", "failed", "best"), else None.
    """

    starts: int = 0
    epochs: int = 0
    perEpoch: int = 1
    done: int = 0
    remaining_s: float | None = None
    speed: float | None = None
    loss: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] | None = None
    measuring: bool = False
    _bins: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    _count: int = 0
    _validations: dict[int, dict[str, float]] = field(default_factory=dict)

    def take(self, event: dict[str, Any]) -> None:
        """Take over one event of the log."""
        self.measuring = False
        match event.get("event"):
            case "start":
                self.starts += 1
                self.ended = self.remaining_s = self.speed = None
                length = event["epochs"], max(1, event["iterations_per_epoch"])
                # A run may be resumed with other batches, which are counted anew.
                self._count += length != (self.epochs, self.perEpoch)
                self.epochs, self.perEpoch = length
                known = (
                    "training_cases",
                    "validation_cases",
                    "validation_cases_seen",
                    "device",
                    "arrangement",
                    "features_gb",
                )
                self.facts = {name: event.get(name) for name in known}
            case "step":
                self._step(event)
            case "validation":
                self._validations[event["epoch"]] = dict(event["dice"])
            case "end":
                self.ended = event

    def _step(self, event: dict[str, Any]) -> None:
        number = event["epoch"] * self.perEpoch + event["iteration"]
        self.done = number + 1
        self.measuring = self.done % self.perEpoch == 0 and bool(self.facts.get("validation_cases"))
        self.remaining_s, self.speed, self.loss = event["remaining_s"], event["slices_per_second"], event["loss"]
        values = [event.get(name) for name in LOSSES]
        if any(value is None for value in values):
            return  # the log has null for what is no number
        width = max(1, math.ceil(self.epochs * self.perEpoch / _POINTS))
        sums = self._bins.setdefault((self._count, number // width), [0.0] * (2 + len(LOSSES)))
        for index, value in enumerate((1.0, self.done / self.perEpoch, *values)):
            sums[index] += value

    @property
    def progress(self) -> Progress:
        """How far the run is, with its loss in words."""
        total = max(1, self.epochs * self.perEpoch)
        if self.measuring:
            stage = f"Epoch {self.done // self.perEpoch} of {self.epochs} · measuring the validation cases"
            return Progress(stage, min(1.0, self.done / total), self.remaining_s or None)
        epoch = min(self.epochs, self.done // self.perEpoch + 1)
        loss = "" if self.loss is None else f" · loss {self.loss:.3f}"
        return Progress(f"Epoch {epoch} of {self.epochs}{loss}", min(1.0, self.done / total), self.remaining_s)

    def losses(self) -> list[list[float]]:
        """Return the points of the loss curves: epochs passed, loss, first pass, prompted pass."""
        rows = [self._bins[key] for key in sorted(self._bins)]
        return [[value / row[0] for value in row[1:]] for row in rows]

    def dice(self) -> list[list[float]]:
        """Return the points of the Dice curves: epoch, then one value per region of `REGIONS`, NaN where absent."""
        return [
            [float(epoch), *(self._validations[epoch].get(region, math.nan) for region in REGIONS)]
            for epoch in sorted(self._validations)
        ]

    def lastDice(self) -> list[float]:
        """Return the newest validation, one value per region of `REGIONS`; empty before the first."""
        rows = self.dice()
        return rows[-1][1:] if rows else []

    def bestDice(self) -> list[float]:
        """Return the validation whose weights are kept as the best: the highest mean, the first of equals."""
        rows = [row[1:] for row in self.dice()]

        def mean(values: list[float]) -> float:
            known = [value for value in values if not math.isnan(value)]
            return sum(known) / max(1, len(known))

        return max(rows, key=mean) if rows else []


class LogFollower:
    """Reads a run's log as it grows."""

    def __init__(self, folder: Path) -> None:
        """Follow the run in a folder; nothing is read yet."""
        self._path = folder / LOG
        self._inode, self._offset = -1, 0
        self.status = RunStatus()

    def read(self) -> bool:
        """Take over what is new; return whether there was anything. May be called on any one thread."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                # A resumed run writes its log anew, without what will happen again.
                if found.st_ino != self._inode or found.st_size < self._offset:
                    self._inode, self._offset, self.status = found.st_ino, 0, RunStatus()
                file.seek(self._offset)
                whole, _, _cut = file.read().rpartition(b"\n")
        except OSError:
            return False
        if not whole:
            return False
        self._offset += len(whole) + 1
        for line in whole.splitlines():
            try:
                self.status.take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue  # a line of another version is no reason to lose the others
        return True
