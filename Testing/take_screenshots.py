"""Take the pictures of SOFASegment anew, on a real case, with the checkpoint that ships.

    python Testing/take_screenshots.py ../shared/data/brats2021/BraTS2021_00000      # or: make screenshots CASE=...

Writes into Resources/Screenshots: `four-views-before.png` and `four-views-after.png` (slice views and 3D with segments
and boxes, before and after one box was dragged by the mouse to the extent of the expert's mask), `SOFASegment.png` (the
first of them, for README), and `panel.png`, which a test of the panel takes (`Testing/qt/test_screenshots.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import slicer
import typer
from PIL import Image

_TESTING = Path(__file__).resolve().parent
sys.path[:0] = [str(_TESTING), str(_TESTING.parent / "SOFASegment")]

from trame_slicer.core import SlicerApp  # noqa: E402

from mrml_engine import EngineBench  # noqa: E402
from mrml_tools import ThreadedScheduler, realVolumes  # noqa: E402
from mrml_views import picture, sliceMouse, threeDView  # noqa: E402
from sofa_engine.types import SUB_REGIONS, Box, Modality, SubRegion  # noqa: E402
from sofa_service.launcher import LocalEngine  # noqa: E402
from SOFASegmentLib.geometry import placeRoi  # noqa: E402

_SCREENSHOTS = _TESTING.parent / "Resources" / "Screenshots"
_VIEW_PX = 440
#: A slow machine starts an engine slowly.
_START_S = 600
#: Enough to tell grey values apart, and a quarter of the size.
_COLOURS = 200


class FourViews:
    """The layout that Slicer opens with: axial and 3D above, coronal and sagittal below."""

    def __init__(self, app: SlicerApp) -> None:
        self.slices = {name: sliceMouse(app, name, _VIEW_PX) for name in ("Red", "Green", "Yellow")}
        self.room = threeDView(app, _VIEW_PX)

    def show(self, volumeNode: Any) -> None:
        """Show a volume, before there are segments and boxes: what these views draw later is blended with it."""
        for mouse in self.slices.values():
            mouse.show(volumeNode)

    def lookAt(self, ras: tuple[float, float, float]) -> None:
        """Turn to a point, near enough to see the borders around it."""
        for mouse in self.slices.values():
            mouse.view.zoom(0.3)
            mouse.view.get_view_node().JumpSliceByCentering(*ras)
            mouse.view.get_view_node().JumpSlice(*ras)
        self.room.fit_view_to_content()

    def save(self, path: Path) -> None:
        """Write one picture of all four."""
        for mouse in self.slices.values():
            mouse.moveTo(5, 5)
        red, green, yellow = (picture(mouse.view) for mouse in self.slices.values())
        save(np.vstack([np.hstack([red, picture(self.room)]), np.hstack([green, yellow])]), path)


def save(pixels: np.ndarray, path: Path) -> None:
    """Write a small PNG."""
    image = Image.fromarray(np.ascontiguousarray(pixels)).quantize(_COLOURS, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1024} KiB")


def worstBox(bench: EngineBench, truth: np.ndarray) -> tuple[SubRegion, Box]:
    """Return the sub-region whose box overlaps least with that of the expert's mask, and the expert's box."""

    def overlap(found: Box, expert: Box) -> float:
        common = found.intersection(expert)
        shared = 0 if common is None else np.prod(common.shape)
        return float(shared / (np.prod(found.shape) + np.prod(expert.shape) - shared))

    candidates = []
    for subRegion in SUB_REGIONS:
        boxes, expert = bench.boxes(subRegion), Box.of_mask(truth == subRegion.label)
        if len(boxes) == 1 and expert is not None:
            candidates.append((overlap(boxes[0], expert), subRegion, expert))
    if not candidates:
        raise SystemExit("No sub-region has exactly one box and an expert's mask; choose another case.")
    return min(candidates)[1:]


def dragTo(bench: EngineBench, views: FourViews, subRegion: SubRegion, wanted: Box) -> None:
    """Drag the faces of a box to where another box has them: four in the axial view, two in the coronal."""
    goal = bench.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    placeRoi(goal, wanted, bench.controller.live.grids.working)
    roi = bench.roi(subRegion)
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)):
        faces = []
        for node in (goal, roi):
            matrix = slicer.util.arrayFromVTKMatrix(node.GetObjectToNodeMatrix())
            faces.append(matrix[:3, 3] + sign * matrix[:3, axis] * node.GetSize()[axis] / 2)
        millimetres = float((faces[0] - faces[1]) @ (sign * matrix[:3, axis]))
        if abs(millimetres) >= 1:
            mouse = views.slices["Green" if axis == 2 else "Red"]
            mouse.dragFace(roi, axis=axis, sign=sign, millimetres=millimetres, steps=2)
            bench.run()
    bench.scene.RemoveNode(goal)


def takeViews(bench: EngineBench, views: FourViews, truth: np.ndarray, folder: Path) -> None:
    """Take the four views before and after a drag."""
    bench.controller.setSurfacesVisible(True)
    subRegion, wanted = worstBox(bench, truth)
    views.lookAt(bench.roi(subRegion).GetCenterWorld())
    views.save(folder / "four-views-before.png")
    views.save(folder / "SOFASegment.png")
    dragTo(bench, views, subRegion, wanted)
    print(f"dragged: {subRegion.title}, {' x '.join(map(str, wanted.shape))} voxels wanted")
    views.save(folder / "four-views-after.png")


def takePanel(case: Path, folder: Path) -> None:
    """Let the panel's test take its picture of the same case."""
    with tempfile.TemporaryDirectory() as shots:
        chosen = f"{_TESTING / 'qt' / 'test_screenshots.py'}::test_a_real_case"
        environment = {**os.environ, "SOFA_SCREENSHOTS": shots, "SOFA_CASE": str(case.resolve())}
        subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "0", chosen], check=True, env=environment)
        save(np.asarray(Image.open(Path(shots) / "panel.png").convert("RGB")), folder / "panel.png")


def main(
    case: Annotated[Path, typer.Argument(help="BraTS 2021 case folder, with the expert's mask.")],
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = _SCREENSHOTS,
    panel: Annotated[bool, typer.Option(help="Whether to take the panel's picture, too.")] = True,
) -> None:
    """Take all pictures."""
    app = SlicerApp()
    views = FourViews(app)
    nodes, truth = realVolumes(app.scene, case)
    views.show(nodes[Modality.T1C])
    with LocalEngine(timeout_s=_START_S) as engine:
        bench = EngineBench(app.scene, nodes, engine, ThreadedScheduler())
        bench.segment()
        takeViews(bench, views, truth, out)
        bench.close()
    if panel:
        takePanel(case, out)


if __name__ == "__main__":
    typer.run(main)
