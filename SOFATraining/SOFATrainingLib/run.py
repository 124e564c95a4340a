"""One run of `sofa train` as seen from Slicer: started or found again, followed, paused, stopped."""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sofa_training.stopping import STOP_FILE
from SOFATrainingLib.card import readAbout
from SOFATrainingLib.child import Child
from SOFATrainingLib.follow import LogFollower, RunStatus
from SOFATrainingLib.preview import FILE as PREVIEW_FILE
from SOFATrainingLib.preview import Preview, readPreview

_NOTE, _OUTPUT, _CONFIG, _CHECKPOINT = "process.json", "output.txt", "config.toml", "last.pt"
_FEATURES = "embeddings"
#: Packages that a run is found and shown with and that do not come with Slicer.
_NEEDED = ("psutil", "pydantic", "safetensors", "tomli_w")
#: How long a run that is to stop may take to write its checkpoint before it is ended with all that it started.
_GRACE_S = 20.0
_GRACE_AT_EXIT_S = 8.0


class Intent(Enum):
    """Why a run is asked to end."""

    PAUSE = "pause"
    STOP = "stop"


class Ending(Enum):
    """How a run ended."""

    FINISHED = "finished"
    ASKED = "asked"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True)
class News:
    """What a look found: whether the log grew, and a new preview."""

    grew: bool
    preview: Preview | None


def canShowRuns() -> bool:
    """Whether the packages are installed that a run is found and shown with; looks without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)


class TrainingRun:
    """A run's folder, its log, and its process while there is one.

    Attributes:
        folder: of the run.
        child: the process, None where none was started or found.
        intent: why it was asked to end, None where it was not.
    """

    def __init__(self, folder: Path) -> None:
        """Name a run; nothing is read or started yet."""
        self.folder = folder
        self.child: Child | None = None
        self.intent: Intent | None = None
        self._follower = LogFollower(folder)
        self._startsBefore = 0
        self._deadline = 0.0
        self._previewed = 0.0
        self._prepared: Path | None = None

    @property
    def status(self) -> RunStatus:
        """Where it stands."""
        return self._follower.status

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.folder / _CONFIG).is_file() or (self.folder / _NOTE).is_file()

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from, and going on need not end where it failed."""
        return self.remedy != {} and (self.folder / _CHECKPOINT).is_file()

    @property
    def remedy(self) -> Mapping[str, Any] | None:
        """Return settings by dotted key that a failed run needs to go on; empty where none helps, None without need."""
        return (self.status.ended or {}).get("remedy")

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.child is not None and self.child.running

    def launch(self, arguments: Sequence[str]) -> None:
        """Start or resume it.

        Raises:
            SofaError: it cannot be started.
        """
        self.intent, self._startsBefore = None, self.status.starts
        self.child = Child.start(arguments, self.folder / _OUTPUT, self.folder / _NOTE)
        atexit.register(self._endAtExit)

    def find(self) -> bool:
        """Look for a process that an earlier Slicer started, and read the log; return whether it still runs."""
        self.child = Child.find(self.folder / _NOTE, self.folder / _OUTPUT)
        if self.child is not None:
            atexit.register(self._endAtExit)
        self._follower.read()
        return self.child is not None

    def look(self) -> News:
        """Read what is new, and see to it that a run ends that was asked to. Called in the background."""
        if self.intent is not None and self.running:
            # A run that is just starting takes an earlier request for an old one and removes it.
            (self.folder / STOP_FILE).touch()
            if self.intent is Intent.STOP and time.monotonic() > self._deadline:
                self.child.end()
        return News(self._follower.read(), self._newPreview())

    def ask(self, intent: Intent) -> None:
        """Ask it to end after its current iteration, with a checkpoint."""
        self.intent, self._deadline = intent, time.monotonic() + _GRACE_S
        if self.running:
            (self.folder / STOP_FILE).touch()

    def ending(self) -> tuple[Ending, str]:
        """Say how the process ended, once it has, with a sentence where something went wrong."""
        atexit.unregister(self._endAtExit)
        (self.folder / STOP_FILE).unlink(missing_ok=True)
        ended = self.status.ended if self.status.starts > self._startsBefore else None
        if ended is None:
            if self.intent is not None:
                return Ending.ASKED, ""
            complaint = "" if self.child is None else self.child.complaint()
            return Ending.LOST, complaint
        if ended.get("failed"):
            return Ending.FAILED, str(ended["reason"])
        return (Ending.ASKED if ended["reason"] == "stopped" else Ending.FINISHED), ""

    def endNow(self, seconds: float) -> None:
        """Ask it to pause and wait so long; then end it with everything that it started. One to be stopped stops."""
        if not self.running:
            return
        self.ask(self.intent or Intent.PAUSE)
        until = time.monotonic() + seconds
        while not self.child.wait(0.5) and time.monotonic() < until:
            (self.folder / STOP_FILE).touch()
        self.child.end()
        (self.folder / STOP_FILE).unlink(missing_ok=True)
        self._follower.read()

    def forgetFeatures(self) -> None:
        """Remove what a run that is over keeps of a frozen encoder; gigabytes, so called in the background."""
        shutil.rmtree(self.folder / _FEATURES, ignore_errors=True)

    def showPreviewAgain(self) -> None:
        """Let the next look return the preview although it has been seen: the scene is another one."""
        self._previewed = 0.0

    def _endAtExit(self) -> None:
        """End with Slicer; after this the checkpoint is what the run goes on from."""
        self.endNow(_GRACE_AT_EXIT_S)

    def _newPreview(self) -> Preview | None:
        try:
            written = (self.folder / PREVIEW_FILE).stat().st_mtime
        except OSError:
            return None
        if written == self._previewed:
            return None
        self._previewed = written
        if self._prepared is None:
            self._prepared = Path(str(readAbout(self.folder).get("prepared", "")))
        return readPreview(self.folder, self._prepared)
