"""A server as its operator starts it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import nibabel
import psutil

from fakes import fake_case
from sofa_web.config import ViewConfig

T = TypeVar("T")
_TESTING = Path(__file__).resolve().parent
_PACKAGES = _TESTING.parent / "SOFASegment"
_MAIN = """
import os
from sofa_web.config import ViewConfig
from sofa_web.server import serve
serve(ViewConfig.model_validate_json(os.environ["SOFA_TEST_VIEW"]), lambda address: print(address, flush=True))
"""
#: Seconds for what takes a few on a machine of one's own; a busy one needs more: SOFA_TEST_PATIENCE=10.
PATIENCE = float(os.environ.get("SOFA_TEST_PATIENCE", "1"))
_START_S = 90 * PATIENCE
CHROMIUM = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BRATS_NAMES = {"t1": "t1", "t1c": "t1ce", "t2": "t2", "flair": "flair"}


def chromium_path() -> str | None:
    """The system's Chromium, or None, which makes Playwright look for its own."""
    return next(filter(None, map(shutil.which, _CHROMIUM_NAMES)), None)


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return result


def run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns; in a thread of its own, since Playwright keeps a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def write_case(folder: Path, name: str = "patient", seed: int = 0) -> Path:
    """Write the synthetic patient as four NIfTI files."""
    folder.mkdir(parents=True)
    case, _ = fake_case(seed=seed)
    for modality, image in case.images.items():
        path = folder / f"{name}_{BRATS_NAMES[modality.value]}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(image.T, case.geometry.matrix), path)
    return folder


class Server:
    """A gateway in a process of its own, with its engine and its visitors' processes."""

    def __init__(self, config: ViewConfig) -> None:
        path = os.pathsep.join(map(str, (_PACKAGES, _TESTING)))
        environment = {**os.environ, "PYTHONPATH": path, "SOFA_TEST_VIEW": _to_json(config)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _MAIN],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.said = ""
        threading.Thread(target=self._listen, daemon=True).start()
        self.address = (self.process.stdout.readline() or "").strip()
        assert self.address, self.said

    def _listen(self) -> None:
        for line in self.process.stderr:
            self.said += line

    @property
    def base(self) -> str:
        """The address without the token."""
        return self.address.partition("?")[0]

    def processes(self, module: str) -> list[psutil.Process]:
        """Children that run a module."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if module in " ".join(_command(child))]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _to_json(config: ViewConfig) -> str:
    import json

    return json.dumps({**config.model_dump(mode="json"), "token": config.token, "engine_token": config.engine_token})


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
