"""One process beside Slicer and everything that it starts: its output goes to a file, and it can be found again."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sofa_engine.errors import SofaError

#: How long a process may take to end by itself before it is killed.
_TERMINATE_S = 3.0
_TAIL_BYTES = 20_000
#: How far the computer's clock may be set without a process being taken for another one: its time of birth follows.
_CLOCK_S = 300.0
#: Packages that the child imports; the two modules lie in two folders of a checkout and in one of an installation.
_PACKAGES = ("sofa_engine", "sofa_cli", "sofa_training", "SOFATrainingLib")


class Child:
    """A process that was started here, or one that an earlier Slicer or an earlier load of the module started."""

    def __init__(self, pid: int, created: float, output: Path, popen: subprocess.Popen[bytes] | None = None) -> None:
        """Name a process; `start` and `find` make instances."""
        self.pid, self.output = pid, output
        self._created = created
        self._popen = popen

    @staticmethod
    def start(arguments: Sequence[str], output: Path, note: Path | None = None) -> Child:
        """Start Python with arguments.

        Args:
            arguments: what follows the interpreter.
            output: file for all that it prints; an existing one is replaced.
            note: file that lets `find` find the process again.

        Raises:
            SofaError: there is no Python, or the files cannot be written.
        """
        import psutil

        from sofa_service.launcher import find_python

        # Neither a Ctrl-C in Slicer's terminal nor a closed terminal is meant for a training.
        apart = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            with output.open("wb") as file:
                popen = subprocess.Popen(
                    [find_python(), *arguments],
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    **apart,
                )
            created = psutil.Process(popen.pid).create_time()
            if note is not None:
                note.write_text(json.dumps({"pid": popen.pid, "created": created}), encoding="utf-8")
        except OSError as error:
            raise SofaError(f"The training cannot be started: {error.strerror or error} ({output.parent}).") from error
        except psutil.NoSuchProcess as error:
            raise SofaError(f"The training ended while starting; {output} may say why.") from error
        return Child(popen.pid, created, output, popen)

    @staticmethod
    def find(note: Path, output: Path) -> Child | None:
        """Return the process that a note names, if it still runs."""
        try:
            content = json.loads(note.read_text(encoding="utf-8"))
            child = Child(int(content["pid"]), float(content["created"]), output)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return child if child.running else None

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        if self._popen is not None:
            return self._popen.poll() is None
        return self._process() is not None

    def end(self) -> None:
        """End the process and everything that it started, at once; children first, since a launcher is no Python."""
        import psutil

        root = self._process()
        if root is not None:
            try:
                tree = [*root.children(recursive=True), root]
            except psutil.NoSuchProcess:
                tree = []
            for member in tree:
                _kill(member)
            psutil.wait_procs(tree, timeout=_TERMINATE_S)
        if self._popen is not None:
            self._popen.wait(timeout=_TERMINATE_S)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; return whether it has."""
        import psutil

        root = self._process()
        if root is not None:
            psutil.wait_procs([root], timeout=seconds)
        return not self.running

    def printed(self) -> str:
        """Return all that it printed."""
        try:
            return self.output.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def said(self) -> str:
        """Return the end of what it printed."""
        try:
            with self.output.open("rb") as file:
                file.seek(max(0, self.output.stat().st_size - _TAIL_BYTES))
                return file.read().decode("utf-8", errors="replace")
        except OSError:
            return ""

    def complaint(self) -> str:
        """Return the sentence that it ended with, or the last line of a traceback; empty where it did not complain."""
        lines = [line.strip() for line in self.said().splitlines() if line.strip()]
        own = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
        if own:
            return own[-1]
        return lines[-1] if any(line.startswith("Traceback ") for line in lines) else ""

    def _process(self) -> Any:
        import psutil

        if self._popen is not None and self._popen.poll() is not None:
            return None
        try:
            process = psutil.Process(self.pid)
            # Numbers of processes are used again, though not while a child of ours waits to be asked how it ended; the
            # time of birth tells two of them apart.
            same = self._popen is not None or abs(process.create_time() - self._created) < _CLOCK_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def _environment() -> dict[str, str]:
    """Return this process's environment, in which the child finds the packages that this one has."""
    folders = []
    for name in _PACKAGES:
        specification = importlib.util.find_spec(name)
        if specification is not None and specification.origin is not None:
            folders.append(str(Path(specification.origin).resolve().parents[1]))
    rest = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(dict.fromkeys([*folders, *filter(None, rest.split(os.pathsep))]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


def _kill(process: Any) -> None:
    import psutil

    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
