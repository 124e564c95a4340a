"""Time from letting go of a box to the updated segment on a real glioma, split into engine and scene.

    python Testing/bench/bench_release_to_segment.py CASE_FOLDER [--shots FOLDER] [--weights CHECKPOINT]

Without a checkpoint the predictor looks up the expert's mask of a BraTS 2021 case, so that "engine" is all of the
session but the network's own time; with one the network runs in this process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "SOFASegment")]

from trame_slicer.core import SlicerApp  # noqa: E402

from expert_predictor import ExpertPredictor  # noqa: E402
from mrml_tools import Bench, realVolumes  # noqa: E402
from mrml_views import picture, savePicture, sliceMouse, threeDView  # noqa: E402
from sofa_engine.loading import load_predictor  # noqa: E402
from sofa_engine.types import Modality, SubRegion  # noqa: E402


class _Stopwatch:
    """Adds up the time that passes inside the session's iterator of patches."""

    def __init__(self, session: Any) -> None:
        self.seconds = 0.0
        self._refine = session.refine
        session.refine = self

    def __call__(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        start = time.perf_counter()
        for patch in self._refine(*args, **kwargs):
            self.seconds += time.perf_counter() - start
            yield patch
            start = time.perf_counter()
        self.seconds += time.perf_counter() - start


def _timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(
    folder: Annotated[Path, typer.Argument(help="BraTS 2021 case folder.")],
    shots: Annotated[Path | None, typer.Option(help="Where the pictures of the four views go.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint; the expert's mask where none is given.")] = None,
) -> None:
    """Time drags on a rendered scene."""
    app = SlicerApp()
    nodes, truth = realVolumes(app.scene, folder)
    bench = Bench(
        app.scene, nodes, lambda case: ExpertPredictor(case, truth) if weights is None else load_predictor(weights)
    )
    print(f"first pass and its display: {_timed(bench.segment):.2f} s")
    watch = _Stopwatch(bench.session)
    for subRegion in SubRegion:
        engine, scene = [], []
        for millimetres in (4, -4, 4, -4, 4):
            roi = bench.roi(subRegion)
            bench.grab(roi)
            bench.grow(roi, millimetres)
            watch.seconds = 0.0
            done: list[float] = []
            bench.controller.labelsChanged.connect(lambda _, done=done: done.append(time.perf_counter()))
            start = time.perf_counter()
            bench.letGo(roi)
            bench.run()
            engine.append(watch.seconds)
            scene.append(done[0] - start - watch.seconds)
        (box,) = bench.boxes(subRegion)
        print(
            f"{subRegion.title}, box of {' x '.join(map(str, box.shape))} voxels: "
            f"engine {1000 * median(engine):.0f} ms, scene {1000 * median(scene):.0f} ms"
        )
    if shots is not None:
        _pictures(app, bench, nodes, shots)


def _pictures(app: SlicerApp, bench: Bench, nodes: Any, folder: Path) -> None:
    """Draw the four views before and after a drag by the mouse in the axial view."""
    bench.controller.resetBox(SubRegion.ET)
    bench.run()
    mice = {name: sliceMouse(app, name, 460) for name in ("Red", "Green", "Yellow")}
    room = threeDView(app, 460)
    roi = bench.roi(SubRegion.ET)
    for mouse in mice.values():
        mouse.show(nodes[Modality.T1C])
        mouse.view.get_view_node().JumpSlice(*roi.GetCenterWorld())
        mouse.view.zoom(0.35)
        mouse.view.get_view_node().JumpSliceByCentering(*roi.GetCenterWorld())
        mouse.view.render()
    bench.controller.setSurfacesVisible(True)
    room.fit_view_to_content()

    def save(name: str) -> None:
        for mouse in mice.values():
            mouse.moveTo(5, 5)
        red, green, yellow = (picture(mouse.view) for mouse in mice.values())
        savePicture(folder / name, np.vstack([np.hstack([red, picture(room)]), np.hstack([green, yellow])]))

    save("four_views_before.png")
    mice["Red"].dragFace(roi, axis=0, sign=1, millimetres=14, onStep=bench.run)
    mice["Red"].dragFace(roi, axis=1, sign=-1, millimetres=-20, onStep=bench.run)
    bench.run()
    save("four_views_after.png")


if __name__ == "__main__":
    typer.run(main)
