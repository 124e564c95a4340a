"""A real scene with real nodes, and slice views that are rendered offscreen, without any Slicer application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed (pip install 'sofa-brain-tumor[app]')")
pytest.importorskip("trame_slicer", reason="trame-slicer is not installed (pip install 'sofa-brain-tumor[app]')")

from fakes import ThresholdPredictor, fake_case  # noqa: E402
from mrml_tools import Bench, addVolumes, readVolume  # noqa: E402
from sofa_engine.geometry import Geometry  # noqa: E402
from sofa_engine.types import Modality  # noqa: E402
from trame_slicer.core import SlicerApp  # noqa: E402


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
    bench = Bench(scene, addVolumes(scene, case), ThresholdPredictor)
    yield bench
    bench.controller.close()


@pytest.fixture
def benchOn(scene: Any) -> Iterator[Callable[..., Bench]]:
    """A bench whose volumes lie on any grid: `benchOn(matrix, resample=..., transform=...)`."""
    made: list[Bench] = []

    def make(geometry: Geometry | None = None, **kwargs: Any) -> Bench:
        case, _ = fake_case()
        made.append(Bench(scene, addVolumes(scene, case, geometry, **kwargs), ThresholdPredictor))
        return made[-1]

    yield make
    for bench in made:
        bench.controller.close()


@pytest.fixture
def realBench(scene: Any, brats_case: Path) -> Iterator[Bench]:
    """A real glioma, cropped around the tumour for speed."""
    nodes = {}
    for modality, ending in {"t1": "t1", "t1c": "t1ce", "t2": "t2", "flair": "flair"}.items():
        path = brats_case / f"{brats_case.name}_{ending}.nii.gz"
        nodes[Modality(modality)] = readVolume(scene, path, np.s_[30:125, 40:210, 50:200])
    bench = Bench(scene, nodes, ThresholdPredictor)
    yield bench
    bench.controller.close()


@pytest.fixture
def axialView(app: SlicerApp) -> Any:
    """A slice view that is rendered offscreen; nothing in it is a stand-in."""
    from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition, ViewProps, ViewType

    app.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
    view = app.view_manager.create_view(
        ViewLayoutDefinition("Red", ViewType.SLICE_VIEW, ViewProps(orientation="Axial", label="R", color="#F34A33"))
    )
    view.update_size(500, 500)
    yield view
    view.finalize()
