"""Takes the pictures of the browser face for the documentation: `python Testing/web/take_screenshots.py`.

The patient is the built-in synthetic one; the answers are those of the checkpoint that SOFA uses by default, or of
another one. Run it anew whenever the default changes: the pictures then show what users will see.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import typer

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SOFASegment"), str(ROOT / "Testing")]

from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from sofa_engine.itk_images import to_itk  # noqa: E402
from sofa_engine.synthetic import synthetic_case  # noqa: E402
from sofa_web.config import ViewConfig  # noqa: E402
from web_tools import CHROMIUM, Server, chromium_path, until  # noqa: E402
from web_visit import Visit  # noqa: E402

YELLOW = (255, 217, 26)


def main(
    out: Annotated[Path, typer.Argument(help="Folder for web-*.png.")] = ROOT / "Resources" / "Screenshots",
    weights: Annotated[Path | None, typer.Option(help="Checkpoint; the default one where none is given.")] = None,
    case: Annotated[Path | None, typer.Option(help="Case folder; the synthetic patient where none is given.")] = None,
) -> None:
    """Write web-start, -segmented, -drag, -uncertain, -light, -narrow and -narrow-panel.png."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = write_synthetic(Path(name) / "patient") if case is None else case
        server = Server(ViewConfig(port=0, case=folder, weights=weights))
        try:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM)
            _take(Visit(browser.new_page(viewport={"width": 1360, "height": 860}), server), out)
        finally:
            server.stop()


def write_synthetic(folder: Path) -> Path:
    """Write the synthetic patient's four sequences and return their folder."""
    folder.mkdir()
    case, _truth = synthetic_case()
    for modality, image in case.images.items():
        voxels = to_itk(np.rint(image).astype(np.int16), case.geometry)
        sitk.WriteImage(voxels, str(folder / f"patient_{modality.value}.nii.gz"))
    return folder


def _take(guest: Visit, out: Path) -> None:
    def shoot(name: str) -> None:
        guest.page.mouse.move(5, 5)
        guest.quiet_picture()
        path = out / f"web-{name}.png"
        guest.page.screenshot(path=path)
        # 256 colours are a third of the bytes. Half of them follow the few colours of the page, which cover little.
        Image.open(path).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2).save(path, optimize=True)
        print(path)

    guest.await_case()
    shoot("start")
    guest.page.click("[data-test=segment]")
    guest.wait("() => window.trame.state.get('phase') === 'ready'", seconds=1800)
    until(lambda: guest.page.locator("[data-test=uncertain]").count(), 300)
    shoot("segmented")
    before = guest.volume("et")
    guest.show_only("Axial")
    guest.drag_right_face(YELLOW, -30)
    guest.await_volume_other_than("et", before)
    guest.button("Four views").click()
    shoot("drag")
    guest.page.locator("[data-test=uncertain]").first.click()
    seen = guest.quiet_picture()
    guest.page.get_by_label("Colour what the model is unsure of").click()
    guest.await_other_picture(seen)
    shoot("uncertain")
    guest.button("Dark or light").click()
    shoot("light")
    guest.page.get_by_label("Colour what the model is unsure of").click()
    guest.page.set_viewport_size({"width": 480, "height": 800})
    guest.page.wait_for_timeout(800)
    shoot("narrow")
    guest.button("Show or hide the panel").click()
    guest.page.wait_for_timeout(500)
    shoot("narrow-panel")


if __name__ == "__main__":
    typer.run(main)
