"""What a run says of itself: `log.jsonl` for programs, TensorBoard for eyes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sofa_engine.errors import OutputError

FILE = "log.jsonl"


class RunLog:
    """Appends events; each is a JSON object with "event" ("start", "step", "validation", "end") and its values."""

    def __init__(self, folder: Path, *, resume_at: tuple[int, int] | None = None, due: bool = False) -> None:
        """Open the log of a run.

        Args:
            folder: of the run.
            resume_at: (epoch, iteration) that a resumed run goes on with; what was logged beyond it is dropped,
                since it happens again.
            due: whether the epoch before that is to be validated yet.
        """
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow to import, and only a run needs it

        self._path = folder / FILE
        kept: list[str] = []
        if resume_at is not None and self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _before(line, resume_at, due=due)]
        steps = [json.loads(line).get("step", 0) for line in kept]
        try:
            part = self._path.with_name(FILE + ".part")
            part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            part.replace(self._path)
            self._file = self._path.open("a", buffering=1)
            self._board = SummaryWriter(folder / "tensorboard", purge_step=max(steps, default=0))
        except OSError as error:
            raise OutputError(f"The log of the run cannot be written to {folder} ({error.strerror}).") from error

    def write(self, event: str, **values: Any) -> None:
        """Append one event and mirror its numbers to TensorBoard under its step.

        Raises:
            OutputError: the disk is full.
        """
        safe = {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in values.items()}
        try:
            self._file.write(json.dumps({"event": event, **safe}) + "\n")
            for name, value in _numbers(safe):
                self._board.add_scalar(f"{event}/{name}", value, int(values.get("step", 0)))
        except OSError as error:
            raise OutputError(f"The log {self._path} cannot be written ({error.strerror}); the run stopped.") from error

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the events of a run; a last line that is being written is left out."""
    events = []
    for line in (folder / FILE).read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events


def _before(line: str, place: tuple[int, int], *, due: bool) -> bool:
    """Whether an event happened before the batch that a resumed run goes on with."""
    try:
        event = json.loads(line)
    except ValueError:
        return False  # cut off by the kill
    if event["event"] == "validation":
        return event["epoch"] <= place[0] - due  # its epoch counts those that were completed
    return event["event"] == "start" or (event["event"] == "step" and (event["epoch"], event["iteration"]) < place)


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name not in ("step", "epoch", "iteration"):
            yield f"{prefix}{name}", float(value)
