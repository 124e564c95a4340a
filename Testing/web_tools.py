"""A server as its operator starts it, and a visitor with eyes and a mouse."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nibabel
import numpy as np
import psutil
from matplotlib import image as pictures

from fakes import fake_case
from sofa_web.config import ViewConfig

_TESTING = Path(__file__).resolve().parent
_PACKAGES = _TESTING.parent / "SOFASegment"
_MAIN = """
import os
from sofa_web.config import ViewConfig
from sofa_web.server import serve
serve(ViewConfig.model_validate_json(os.environ["SOFA_TEST_VIEW"]), lambda address: print(address, flush=True))
"""
_START_S = 90
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
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return result


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


class Visit:
    """A page in a browser."""

    def __init__(self, page: Any, server: Server) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.set_default_timeout(_START_S * 1000)
        page.goto(server.address)
        page.wait_for_selector("[data-test=segment]")

    def hosts(self) -> set[str]:
        return {urlsplit(url.removeprefix("blob:")).netloc for url in self.requests if not url.startswith("data:")}

    def wait(self, expression: str, *arguments: Any, seconds: float = 90) -> None:
        """Wait until a JavaScript expression is true."""
        self.page.wait_for_function(expression, arg=list(arguments), timeout=seconds * 1000)

    def state(self, name: str) -> Any:
        """What the page knows by a name of `sofa_web.page_state`."""
        return self.page.evaluate("(name) => window.trame.state.get(name)", name)

    def await_state(self, name: str, value: Any, seconds: float = 90) -> None:
        self.wait("([name, value]) => window.trame.state.get(name) === value", name, value, seconds=seconds)

    def await_case(self) -> None:
        self.wait("() => window.trame.state.get('case_name') && window.trame.state.get('grid_fits')")

    def segment(self) -> None:
        self.await_case()
        self.page.click("[data-test=segment]")
        self.await_volumes()

    def await_volumes(self) -> None:
        self.wait("() => !['–', ''].includes(document.querySelector('[data-test=volume-et]').innerText)")
        self.await_state("phase", "ready")

    def volume(self, region: str) -> float:
        return float(self.page.inner_text(f"[data-test=volume-{region}]"))

    def await_volume_other_than(self, region: str, volume: float) -> float:
        self.wait(
            "([region, before]) => { const now = parseFloat(document.querySelector(`[data-test=volume-${region}]`)"
            ".innerText); return !isNaN(now) && now !== before }",
            region,
            volume,
        )
        return self.volume(region)

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def open_panel(self, title: str) -> None:
        panel = self.page.get_by_role("button", name=title)
        if panel.get_attribute("aria-expanded") != "true":
            panel.click()
            self.page.wait_for_timeout(400)

    def show_only(self, layout: str) -> None:
        self.button(layout).click()
        self.page.wait_for_timeout(800)

    def picture(self) -> np.ndarray:
        """What the views show, uint8 (H, W, 3)."""
        return _pixels(self.page.locator(".sofa-views").screenshot())

    def quiet_picture(self) -> np.ndarray:
        """What the views show once nothing moves any more."""
        last = self.picture()
        for _ in range(40):
            self.page.wait_for_timeout(500)
            now = self.picture()
            if np.array_equal(now, last):
                return now
            last = now
        return last

    def box_edges(self, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """Left, right, top and bottom of the box of a colour in the picture, found by its lines."""
        near = (np.abs(self.quiet_picture().astype(int) - colour).max(axis=2)) < 40
        columns = np.flatnonzero(near.sum(axis=0) > 0.6 * near.sum(axis=0).max())
        rows = np.flatnonzero(near[:, columns[-1]])
        return int(columns[0]), int(columns[-1]), int(rows[0]), int(rows[-1])

    def drag(self, start: tuple[float, float], by: tuple[float, float], steps: int = 12, onStep: Any = None) -> None:
        """Press in the views at a point, move, let go."""
        origin = self.page.locator(".sofa-views").bounding_box()
        x, y = origin["x"] + start[0], origin["y"] + start[1]
        mouse = self.page.mouse
        mouse.move(x - 15, y - 15)
        mouse.move(x, y)
        self.page.wait_for_timeout(300)
        mouse.down()
        for step in range(1, steps + 1):
            mouse.move(x + by[0] * step / steps, y + by[1] * step / steps)
            self.page.wait_for_timeout(30)
            if onStep is not None:
                onStep()
        mouse.up()

    def drag_right_face(self, colour: tuple[int, int, int], pixels: int, **more: Any) -> None:
        """Take the handle in the middle of a box's right edge and move it."""
        _left, right, top, bottom = self.box_edges(colour)
        self.drag((right, (top + bottom) / 2), (pixels, 0), **more)

    def download(self, title: str) -> tuple[str, bytes]:
        self.open_panel("Export")
        with self.page.expect_download() as waiting:
            self.page.get_by_role("button", name=title, exact=True).click()
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def nifti(content: bytes) -> nibabel.Nifti1Image:
    import gzip

    return nibabel.Nifti1Image.from_bytes(gzip.decompress(content))


def _pixels(png: bytes) -> np.ndarray:
    return np.rint(255 * pictures.imread(io.BytesIO(png), format="png")[..., :3]).astype(np.uint8)


def _to_json(config: ViewConfig) -> str:
    import json

    return json.dumps({**config.model_dump(mode="json"), "token": config.token, "engine_token": config.engine_token})


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def visit_id(url: str) -> str:
    return re.search(r"/v/([^/]+)/", url)[1]
