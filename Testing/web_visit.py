"""A visitor with eyes, a mouse and a keyboard: one page of the browser face in a real Chromium."""

from __future__ import annotations

import base64
import gzip
import io
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nibabel
import numpy as np
from matplotlib import image as pictures

from web_tools import PATIENCE, Server, until

_DROP = """files => {
    const carried = new DataTransfer();
    for (const [name, content] of files) {
        const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
        carried.items.add(new File([bytes], name));
    }
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""


class Visit:
    """A page in a browser."""

    def __init__(self, page: Any, server: Server) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.set_default_timeout(90_000 * PATIENCE)
        page.goto(server.address)
        page.wait_for_selector("[data-test=segment]")

    def hosts(self) -> set[str]:
        return {urlsplit(url.removeprefix("blob:")).netloc for url in self.requests if not url.startswith("data:")}

    def wait(self, expression: str, *arguments: Any, seconds: float = 90) -> None:
        """Wait until a JavaScript expression is true."""
        self.page.wait_for_function(expression, arg=list(arguments), timeout=seconds * PATIENCE * 1000)

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

    def await_other_picture(self, seen: np.ndarray) -> np.ndarray:
        """What the views show once it is no longer what was seen, and nothing moves any more."""
        until(lambda: np.any(self.picture() != seen))
        return self.quiet_picture()

    def await_picture(self, condition: Any) -> np.ndarray:
        """What the views show once it satisfies a condition, and nothing moves any more."""
        until(lambda: condition(self.picture()))
        return self.quiet_picture()

    def choose(self, label: str, title: str) -> None:
        """Choose from a list by what it and the choice are called."""
        self.page.locator(".v-select", has=self.page.get_by_label(label, exact=True)).click()
        self.page.locator(".v-overlay--active .v-list-item").get_by_text(title, exact=True).click()
        self.page.locator(".v-overlay--active").wait_for(state="detached")

    def slider(self, name: str) -> Any:
        return self.page.get_by_role("slider", name=name, exact=True)

    def position(self, view: str) -> float:
        """Where the slice of a view lies, in millimetres."""
        return float(self.slider(f"{view} slice position in millimetres").get_attribute("aria-valuenow"))

    def await_other_position(self, view: str, before: float) -> float:
        until(lambda: self.position(view) != before)
        return self.position(view)

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

    def drop(self, files: dict[str, bytes]) -> None:
        """Drop files on the page, by name."""
        self.page.evaluate(_DROP, [[name, base64.b64encode(content).decode()] for name, content in files.items()])

    def say_yes(self) -> None:
        """Go on although a result that was not exported will be lost."""
        question = self.page.locator("[data-test=question]")
        question.get_by_role("button").last.click()
        question.wait_for(state="detached")

    def download(self, title: str) -> tuple[str, bytes]:
        self.open_panel("Export")
        with self.page.expect_download() as waiting:
            self.page.get_by_role("button", name=title, exact=True).click()
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def nifti(content: bytes) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(content))


def _pixels(png: bytes) -> np.ndarray:
    return np.rint(255 * pictures.imread(io.BytesIO(png), format="png")[..., :3]).astype(np.uint8)


def visit_id(url: str) -> str:
    return re.search(r"/v/([^/]+)/", url)[1]
