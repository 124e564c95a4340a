"""What somebody who drags a box in the browser waits for: time between pictures, and from letting go to the new one.

    python Testing/bench/bench_browser_drag.py [CASE_FOLDER] [--weights CHECKPOINT] [--drags 6] [--expert]

A real Chromium, the real server, the real network (the default checkpoint; the synthetic patient without a folder).
With --expert the answers are looked up in a BraTS case's mask instead, which leaves the network's own time out.
Pictures are counted in the page, as its views load them: "release to picture" ends with the first picture of the view
under the mouse after the button went up, "release to result" when the whole box is done and the table shows its volume.
The machine's load is printed with the figures: on a busy machine they measure the neighbours.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SOFASegment"), str(ROOT / "Testing" / "web"), str(ROOT / "Testing")]

from playwright.sync_api import sync_playwright  # noqa: E402

from sofa_web.config import ViewConfig  # noqa: E402
from take_screenshots import YELLOW, write_synthetic  # noqa: E402
from web_tools import CHROMIUM, Server, chromium_path  # noqa: E402
from web_visit import Visit  # noqa: E402

#: Notes when a picture of a view has been loaded, and when the mouse went up.
_COUNT = """() => {
    window.sofaPictures = [];
    window.sofaReleased = [];
    const view = document.querySelector(".sofa-views > div");
    view.addEventListener("load", () => window.sofaPictures.push(performance.now()), true);
    window.addEventListener("mouseup", () => window.sofaReleased.push(performance.now()), true);
    window.addEventListener("pointerup", () => window.sofaReleased.push(performance.now()), true);
}"""


def main(
    case: Annotated[Path | None, typer.Argument(help="Case folder; the synthetic patient where none is given.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint; the default one where none is given.")] = None,
    drags: Annotated[int, typer.Option(help="How often to drag, out and in by turns.")] = 6,
    expert: Annotated[bool, typer.Option("--expert", help="Look the answers up in the case's *seg* file.")] = False,
) -> None:
    """Drag the enhancing tumour's right face in the axial view and print what the page showed when."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = write_synthetic(Path(name) / "patient") if case is None else case
        options: dict[str, Any] = {"weights": weights}
        if expert:
            options = {"weights": next(folder.glob("*seg*.nii.gz")), "factory": "web_sessions:open_expert"}
        server = Server(ViewConfig(port=0, case=folder, **options))
        try:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM)
            guest = Visit(browser.new_page(viewport={"width": 1280, "height": 800}), server)
            _measure(guest, drags)
        finally:
            server.stop()


def _measure(guest: Visit, drags: int) -> None:
    guest.await_case()
    start = time.perf_counter()
    guest.page.click("[data-test=segment]")
    guest.wait("() => window.trame.state.get('phase') === 'ready'", seconds=1800)
    print(f"first pass, seen in the browser: {time.perf_counter() - start:.1f} s")
    guest.await_volumes()
    guest.show_only("Axial")
    guest.page.evaluate(_COUNT)
    between, first, result = [], [], []
    for n in range(drags):
        guest.quiet_picture()
        before = guest.volume("et")
        guest.page.evaluate("() => { window.sofaPictures.length = 0; window.sofaReleased.length = 0; }")
        guest.drag_right_face(YELLOW, 40 if n % 2 == 0 else -40, steps=30)
        guest.await_volume_other_than("et", before)
        done = guest.page.evaluate("performance.now()")
        pictures, released = guest.page.evaluate("[window.sofaPictures, window.sofaReleased]")
        up = released[0]
        moving = [t for t in pictures if t <= up]
        between += [later - earlier for earlier, later in pairwise(moving)]
        first += [next(t for t in pictures if t > up) - up]
        result += [done - up]
    load = os.getloadavg()[0]
    for title, values in (
        ("between pictures while dragging", between),
        ("release to picture", first),
        ("release to result", result),
    ):
        print(f"{title}: median {median(values):.0f} ms, longest {max(values):.0f} ms, {len(values)} values")
    print(f"processors: {os.cpu_count()}, load now: {load:.1f}, model: {guest.state('model')}")


if __name__ == "__main__":
    typer.run(main)
