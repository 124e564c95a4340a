"""Takes the pictures of the browser face for the documentation: `python Testing/web/take_screenshots.py`.

The patient is synthetic, and the answers are looked up in its known truth: the pictures show the page, not a model.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SOFASegment"), str(ROOT / "Testing")]

from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from sofa_engine.itk_images import to_itk  # noqa: E402
from sofa_engine.synthetic import synthetic_case  # noqa: E402
from sofa_web.config import ViewConfig  # noqa: E402
from web_tools import CHROMIUM, Server, chromium_path  # noqa: E402
from web_visit import Visit  # noqa: E402

YELLOW = (255, 217, 26)


def main(out: Path = ROOT / "Resources" / "Screenshots") -> None:
    """Write web-*.png."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name) / "patient"
        folder.mkdir()
        case, truth = synthetic_case()
        for modality, image in case.images.items():
            sitk.WriteImage(to_itk(image, case.geometry), str(folder / f"patient_{modality.value}.nii.gz"))
        sitk.WriteImage(to_itk(truth, case.geometry), str(Path(name) / "truth.nii.gz"))
        config = {"port": 0, "case": folder, "weights": Path(name) / "truth.nii.gz"}
        server = Server(ViewConfig(factory="web_sessions:open_expert", **config))
        try:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM)
            _take(Visit(browser.new_page(viewport={"width": 1360, "height": 860}), server), out)
        finally:
            server.stop()


def _take(guest: Visit, out: Path) -> None:
    def shoot(name: str) -> None:
        guest.quiet_picture()
        guest.page.mouse.move(5, 5)
        path = out / f"web-{name}.png"
        guest.page.screenshot(path=path)
        # 256 colours are a third of the bytes, and nobody sees the difference.
        Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)

    guest.segment()
    shoot("segmented")
    guest.show_only("Axial")
    guest.drag_right_face(YELLOW, 50)
    guest.button("Four views").click()
    guest.page.get_by_label("Colour what the model is unsure of").click()
    guest.page.locator("[data-test=uncertain]").first.click()
    guest.button("Dark or light").click()
    shoot("uncertain")
    guest.page.get_by_label("Colour what the model is unsure of").click()
    guest.page.set_viewport_size({"width": 480, "height": 800})
    guest.page.wait_for_timeout(800)
    shoot("narrow")
    guest.button("Show or hide the panel").click()
    guest.page.wait_for_timeout(500)
    shoot("narrow-panel")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
