"""A real scene with real nodes, and slice views that are rendered offscreen, without any Slicer application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed (pip install 'sofa-brain-tumor[app]')")
pytest.importorskip("trame_slicer", reason="trame-slicer is not installed (pip install 'sofa-brain-tumor[app]')")

from trame_slicer.core import SlicerApp

from expert_predictor import ExpertPredictor
from fakes import ThresholdPredictor, fake_case
from mrml_tools import Bench, addVolumes, realVolumes
from mrml_views import SliceMouse, sliceMouse
from sofa_engine.geometry import Geometry


@pytest.fixture
def app() -> Iterator[SlicerApp]:
    app = SlicerApp()
    # Scripts in Slicer reach for slicer.mrmlScene; this package must not, so it stays unset here.
    yield app
    app.scene.Clear(True)


@pytest.fixture
def scene(app: SlicerApp) -> Any:
    return app.scene


@pytest.fixture
def bench(scene: Any) -> Iterator[Bench]:
    """A scene with the synthetic patient's four volumes chosen, and a controller that runs when told to."""
    case, _ = fake_case()
    bench = Bench(scene, addVolumes(scene, case), lambda _case: ThresholdPredictor())
    yield bench
    bench.controller.close()


@pytest.fixture
def benchOn(scene: Any) -> Iterator[Callable[..., Bench]]:
    """A bench whose volumes lie on any grid: `benchOn(matrix, resample=..., transform=...)`."""
    made: list[Bench] = []

    def make(geometry: Geometry | None = None, **kwargs: Any) -> Bench:
        case, _ = fake_case()
        made.append(Bench(scene, addVolumes(scene, case, geometry, **kwargs), lambda _case: ThresholdPredictor()))
        return made[-1]

    yield make
    for bench in made:
        bench.controller.close()


@pytest.fixture
def realBench(scene: Any, brats_case: Path) -> Iterator[Bench]:
    """A real glioma, cropped around the tumour for speed, and a predictor that looks up the expert's mask."""
    nodes, truth = realVolumes(scene, brats_case, np.s_[40:125, 50:200, 60:190])
    bench = Bench(scene, nodes, lambda case: ExpertPredictor(case, truth))
    yield bench
    bench.controller.close()


@pytest.fixture
def axialView(app: SlicerApp) -> Iterator[SliceMouse]:
    """An axial view that is rendered offscreen, with a mouse."""
    mouse = sliceMouse(app, "Red", 400)
    yield mouse
    mouse.view.finalize()


@pytest.fixture
def coronalView(app: SlicerApp) -> Iterator[SliceMouse]:
    """A coronal view that is rendered offscreen, with a mouse."""
    mouse = sliceMouse(app, "Green", 400)
    yield mouse
    mouse.view.finalize()
