"""Time from letting go of a box to the updated segment, on a real case, in a real scene, through a real engine process.

    python Testing/bench/bench_release_to_segment.py CASE_FOLDER [--weights CHECKPOINT] [--drags 5]

Every drag is released while a preview of it is under way, as a hand does it. The time is split into

    engine    what the engine's process waited, computed and encoded
    transfer  what is left of the request: HTTP and decoding on both sides
    scene     what this process's main thread did with it: MRML nodes, segments, surfaces
    waiting   between threads
    drawing   one more rendering of the axial view; without a graphics card this is software's work

The first column is when the slice that the user looks at has its new voxels, the second when the whole box has.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "SOFASegment")]

from trame_slicer.core import SlicerApp  # noqa: E402
from trame_slicer.views.render_scheduler import DirectRendering, NoScheduleRendering  # noqa: E402

from mrml_engine import EngineBench  # noqa: E402
from mrml_tools import ThreadedScheduler, realVolumes  # noqa: E402
from mrml_views import sliceMouse  # noqa: E402
from sofa_engine.types import SUB_REGIONS, Modality, SubRegion  # noqa: E402
from sofa_service.launcher import LocalEngine  # noqa: E402


@dataclass
class Release:
    """One drag's times in milliseconds, from the release on."""

    slice: float
    whole: float
    engine: float
    transfer: float
    scene: float
    waiting: float
    drawing: float


class MeasuringScheduler(ThreadedScheduler):
    """Adds up the time that the main thread is busy with what arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = 0.0

    def post(self, function: Callable[[], object]) -> None:
        """Queue a function that is timed when it runs."""

        def timed() -> None:
            start = time.perf_counter()
            try:
                function()
            finally:
                self.busy += time.perf_counter() - start

        super().post(timed)


def release(bench: EngineBench, subRegion: SubRegion, millimetres: float, view: Any) -> Release:
    """Grow a box by its handles and let go in the middle of a preview."""
    live, roi, scheduler = bench.controller.live, bench.roi(subRegion), bench.scheduler
    done: list[float] = []

    def finished() -> None:
        done.append(time.perf_counter())

    bench.controller.historyChanged.connect(finished)
    first: list[float] = []
    show = live.view.preview
    bench.grab(roi)
    bench.grow(roi, millimetres / 2)
    pulled = time.monotonic() + 0.1
    scheduler.waitFor(lambda: time.monotonic() > pulled)
    bench.grow(roi, millimetres / 2)

    def showing(patch: Any) -> None:
        show(patch)
        first.append(time.perf_counter())

    live.view.preview = showing
    # Slicer draws when it has time; these views would draw after each change and hide what the changes cost.
    view.set_scheduled_render(NoScheduleRendering())
    scheduler.busy, start = 0.0, time.perf_counter()
    bench.letGo(roi)
    called = time.perf_counter() - start
    scheduler.waitFor(lambda: bool(done) or bool(bench.failures))
    if bench.failures:
        raise SystemExit(bench.failures[0])
    live.view.preview = show
    bench.controller.historyChanged.disconnect(finished)
    trip, scene = live.session.last_round_trip, 1000 * (scheduler.busy + called)
    whole = 1000 * (done[0] - start)
    drawn = time.perf_counter()
    view.render()
    drawing = 1000 * (time.perf_counter() - drawn)
    view.set_scheduled_render(DirectRendering())
    engine = trip.total_ms - trip.transfer_ms
    seen = 1000 * ((first[0] if first else done[0]) - start)
    # What the main thread does with one patch overlaps with the engine's work on the next.
    waiting = max(0.0, whole - trip.total_ms - scene)
    bench.run()
    return Release(seen, whole, engine, trip.transfer_ms, scene, waiting, drawing)


def measure(bench: EngineBench, view: Any, drags: int) -> None:
    """Print the medians of some drags of each sub-region's first box."""
    model = bench.controller.model
    print(f"model: {model.name} on {model.device}; medians of {drags} drags, milliseconds")
    print(f"{'':18}{'box':>14}" + "".join(f"{name:>10}" for name in Release.__dataclass_fields__))
    for subRegion in SUB_REGIONS:
        if not bench.boxes(subRegion):
            print(f"{subRegion.title:18}{'none':>14}")
            continue
        taken = [release(bench, subRegion, (4, -4)[n % 2], view) for n in range(drags)]
        columns = zip(*map(astuple, taken), strict=True)
        shape = "x".join(map(str, bench.boxes(subRegion)[0].shape))
        print(f"{subRegion.title:18}{shape:>14}" + "".join(f"{median(column):10.0f}" for column in columns))


def main(
    folder: Annotated[Path, typer.Argument(help="BraTS 2021 case folder.")],
    weights: Annotated[Path | None, typer.Option(help="Checkpoint; the one that ships where none is given.")] = None,
    drags: Annotated[int, typer.Option(min=1, help="Drags of each sub-region's box.")] = 5,
) -> None:
    """Time drags; prints medians."""
    app = SlicerApp()
    mouse = sliceMouse(app, "Red", 600)
    nodes, _truth = realVolumes(app.scene, folder)
    mouse.show(nodes[Modality.T1C])
    with LocalEngine(weights=weights, timeout_s=600) as engine:
        bench = EngineBench(app.scene, nodes, engine, MeasuringScheduler())
        start = time.perf_counter()
        bench.segment()
        print(f"first pass with its display, reading of the weights included: {time.perf_counter() - start:.1f} s")
        bench.controller.setSurfacesVisible(True)
        bench.controller.showTumour()
        measure(bench, mouse.view, drags)
        bench.close()


if __name__ == "__main__":
    typer.run(main)
