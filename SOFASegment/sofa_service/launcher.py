"""Starts an engine as a child process, notices its death, and ends its whole tree.

Token and options go through the child's environment, never its command line. The child ends by itself when this
process does, even by kill -9.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

import sofa_service
from sofa_engine.errors import CancelledError
from sofa_engine.progress import CancelToken
from sofa_service.client import EngineClient
from sofa_service.config import CONFIG_VARIABLE, ParentProcess, ServeConfig
from sofa_service.connection import Connection
from sofa_service.errors import EngineLostError, StartError

_POLL_S = 0.05
_TERMINATE_S = 3.0
_LOG_TAIL = 2000


class LocalEngine:
    """One engine on this computer, for one face.

    Example:
        >>> with LocalEngine() as engine:
        ...     session = engine.client().open(case)

    Attributes:
        url: where it listens, once started.
        token: what opens it.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        weights: Path | None = None,
        factory: str | None = None,
        python: str | None = None,
        token: str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
        **options: object,
    ) -> None:
        """Describe an engine; `start` starts it.

        Args:
            device: "auto", "cpu", "cuda:0", "mps".
            weights: a checkpoint; None is the one that ships with SOFA.
            factory: see `ServeConfig.factory`.
            python: interpreter that has torch; found if None.
            token: what opens the engine; None makes a new one at every start.
            environment: variables of the child beside this process's own.
            timeout_s: how long the start may take.
            options: further fields of `ServeConfig`.
        """
        self._python = python
        self._fixed_token = token
        self._environment = dict(environment or {})
        self._timeout_s = timeout_s
        self._options = {"device": device, "weights": weights, "port": 0, **options}
        if factory is not None:
            self._options["factory"] = factory
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._client: EngineClient | None = None
        self.url = ""
        self.token = ""

    def __enter__(self) -> LocalEngine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Return the child's process id; None when none was started."""
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, cancel: CancelToken | None = None) -> None:
        """Start the child and wait until it answers; does nothing while it runs.

        Raises:
            StartError: no Python was found, or the engine ended or did not answer in time.
            CancelledError: the token was cancelled; nothing is left running.
        """
        with self._lock:
            if self.alive:
                return
            self._folder = Path(tempfile.mkdtemp(prefix="sofa-engine-"))
            self.token = self._fixed_token or secrets.token_urlsafe(32)
            try:
                self._process = self._spawn(self._folder)
                atexit.register(self.stop)
                self.url = self._await_ready(self._folder, cancel)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the child and everything that it started; its memory, the GPU's too, is free afterwards."""
        with self._lock:
            atexit.unregister(self.stop)
            if self._client is not None:
                self._client.close()
                self._client = None
            if self._process is not None:
                _end_tree(self._process)
                self._process = None
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def restart(self) -> None:
        """End what is left of the child and start a new one; clients are kept."""
        with self._lock:
            client, self._client = self._client, None
            self.stop()
            self.start()
            self._client = client

    def client(self) -> EngineClient:
        """Return the client of this engine, starting the engine where needed; it survives the engine's death."""
        with self._lock:
            self.start()
            if self._client is None or self._client.connection.closed:
                self._client = EngineClient(self.url, self.token, revive=self._revive)
            return self._client

    def log_tail(self) -> str:
        """Return the end of what the engine wrote, for a report to the developers."""
        path = None if self._folder is None else self._folder / "engine.log"
        if path is None or not path.is_file():
            return ""
        return path.read_text(errors="replace")[-_LOG_TAIL:].strip()

    def _revive(self) -> tuple[str, str]:
        self.restart()
        return self.url, self.token

    def _spawn(self, folder: Path) -> subprocess.Popen[bytes]:
        config = ServeConfig.model_validate(
            {
                **self._options,
                "token": self.token,
                "ready_file": folder / "ready.json",
                "parent": ParentProcess.this(),
            }
        )
        environment = {
            # What PyTorch cannot do on an Apple GPU it then does on the CPU; read when torch is imported.
            "PYTORCH_ENABLE_MPS_FALLBACK": "1",
            **os.environ,
            **self._environment,
            CONFIG_VARIABLE: config.model_dump_json(),
            "PYTHONPATH": _search_path(),
        }
        python = self._python or find_python()
        log = (folder / "engine.log").open("wb")
        try:
            return subprocess.Popen(
                [python, "-m", "sofa_service"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as exc:
            raise StartError(f"The engine cannot be started with {python}: {exc.strerror or exc}.") from exc
        finally:
            log.close()

    def _await_ready(self, folder: Path, cancel: CancelToken | None) -> str:
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            if cancel is not None and cancel.cancelled:
                raise CancelledError
            if not self.alive:
                raise StartError(self._failure())
            url = _announced(folder / "ready.json")
            if url is not None and self._answers(url):
                return url
            time.sleep(_POLL_S)
        raise StartError(f"The engine did not answer within {self._timeout_s:.0f} seconds; try again or free memory.")

    def _answers(self, url: str) -> bool:
        connection = Connection(url, self.token)
        try:
            connection.hello()
        except EngineLostError:
            return False
        finally:
            connection.close()
        return True

    def _failure(self) -> str:
        """Pass on the engine's own sentence if it had one, else the last line of its log."""
        lines = self.log_tail().splitlines() or ["it wrote nothing"]
        own = [line.removeprefix("SOFA: ") for line in lines if line.startswith("SOFA: ")]
        return own[-1] if own else f"The engine ended while starting: {lines[-1]}"


def find_python() -> str:
    """Return the Python interpreter for the engine: Slicer's PythonSlicer inside Slicer, else this one.

    Inside Slicer `sys.executable` is the application or missing, and starting it would open a second Slicer.

    Raises:
        StartError: there is none.
    """
    executable = Path(sys.executable or "")
    if executable.name.lower().startswith("python"):
        return str(executable)
    home = os.environ.get("SLICER_HOME", "")
    places = os.pathsep.join(str(p) for p in (Path(home) / "bin", executable.parent, executable.parent / "bin") if p)
    found = shutil.which("PythonSlicer", path=places) or shutil.which("PythonSlicer")
    if found is None:
        raise StartError("PythonSlicer was not found beside Slicer; reinstall Slicer or connect to a remote engine.")
    return found


def _search_path() -> str:
    """Return a PYTHONPATH on which the child finds this very package before any other."""
    own = str(Path(sofa_service.__file__).resolve().parents[1])
    rest = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(part for part in (own, rest) if part)


def _announced(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError):
        return None


def _end_tree(process: subprocess.Popen[bytes]) -> None:
    """Terminate, then kill; children first, because a launcher such as PythonSlicer is not the Python process."""
    try:
        root = psutil.Process(process.pid)
        tree = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        tree = []
    for member in tree:
        _signal(member, kill=False)
    _, alive = psutil.wait_procs(tree, timeout=_TERMINATE_S)
    for member in alive:
        _signal(member, kill=True)
    process.wait(timeout=_TERMINATE_S)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.NoSuchProcess:
        return
