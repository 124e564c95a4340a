"""What the user watches while it learns: the slice and the curves, drawn offscreen.

With SOFA_SCREENSHOTS naming a folder the picture is kept there; with SOFA_SCREENSHOTS_RUN naming a folder of a training
run, that run is shown instead of a made-up one.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrml_views import picture, savePicture, sliceMouse
from plot_pictures import plotPicture
from sofa_engine.types import SUB_REGIONS
from SOFASegmentLib import ManualScheduler
from SOFASegmentLib.appearance import COLOURS
from SOFATrainingLib import state as roles
from SOFATrainingLib.controller import TrainingController
from SOFATrainingLib.state import TrainingState
from training_tools import prepareDataset, writeDataset

_REGIONS = {"NCR": 0.55, "ED": 0.72, "ET": 0.8, "TC": 0.7, "WT": 0.82}


def madeUpRun(folder: Path, epochs: int = 30, perEpoch: int = 20) -> Path:
    """Write the log of a run that learns."""
    rng = np.random.default_rng(0)
    events: list[dict[str, Any]] = [
        {"event": "start", "step": 0, "epochs": epochs, "iterations_per_epoch": perEpoch, "device": "cpu"}
    ]
    for step in range(epochs * perEpoch):
        passed = step / perEpoch
        loss = 0.5 + 1.4 * np.exp(-passed / 8) + rng.normal(0, 0.12)
        place = {"step": step, "epoch": step // perEpoch, "iteration": step % perEpoch}
        speed = {"remaining_s": float(epochs * perEpoch - step), "slices_per_second": 4.0}
        events.append({"event": "step", **place, **speed, "loss": loss, "first": 0.55 * loss, "second": 0.45 * loss})
        if (step + 1) % (2 * perEpoch) == 0:
            rise = 1 - np.exp(-(passed + 1) / 9)
            dice = {name: float(best * rise + rng.normal(0, 0.012)) for name, best in _REGIONS.items()}
            score = float(np.mean(list(dice.values())))
            events.append({"event": "validation", "step": step, "epoch": step // perEpoch + 1, "score": score,
                           "best": score, "dice": dice})  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    (folder / "config.toml").write_text("", encoding="utf-8")
    return folder


def madeUpPreview(run: Path, dataset: Path) -> None:
    """Leave a preview in a run: one patient's slice, and a prediction that is nearly right."""
    prepared = prepareDataset(writeDataset(dataset), dataset.parent / "prepared")
    from sofa_training.prepared import read_prepared

    case = read_prepared(next(iter(sorted(prepared.glob("*.npz")))), mapped=False)
    index = int(np.count_nonzero(case.truth, axis=(1, 2)).argmax())
    found = np.roll(case.truth[index], (1, 2), (0, 1))
    np.savez(run / "preview.npz", case=case.name, index=index, image=case.images[3, index],
             truth=case.truth[index], found=found)  # fmt: skip
    (run / "card.json").write_text(json.dumps({"prepared": str(prepared)}), encoding="utf-8")


@pytest.fixture
def watched(scene: Any, tmp_path: Path):
    """A scene that shows a run, as "Open run" does."""
    given = os.environ.get("SOFA_SCREENSHOTS_RUN")
    run = Path(given) if given else madeUpRun(tmp_path / "run")
    if not given:
        madeUpPreview(run, tmp_path / "cases")
    scheduler = ManualScheduler()
    controller = TrainingController(scheduler)
    state = TrainingState.fromScene(scene)
    controller.follow(state)
    controller.openRun(run)
    end = time.monotonic() + 60
    while controller.preview is None:
        assert time.monotonic() < end
        scheduler.step()
        time.sleep(0.01)
    yield controller
    controller.close()


def near(pixels: np.ndarray, colour: tuple[float, ...], within: int = 30) -> int:
    """How many pixels have about this colour."""
    return int((np.abs(pixels.astype(int) - np.round(255 * np.array(colour))).max(axis=2) < within).sum())


def test_slice_and_curves_show_what_was_learned(watched: TrainingController, app: Any, tmp_path: Path):
    state = watched.state
    mouse = sliceMouse(app, "Red", 720)
    try:
        mouse.show(state.get(roles.PREVIEW_VOLUME))
        sliceNode = mouse.view.get_view_node()
        sliceNode.RotateToVolumePlane(state.get(roles.PREVIEW_VOLUME))
        mouse.view.fit_view_to_content()
        shown = picture(mouse.view)
    finally:
        mouse.view.finalize()
    loss, dice = (plotPicture(state.get(role)) for role in (roles.LOSS_CHART, roles.DICE_CHART))
    folder = Path(os.environ.get("SOFA_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    savePicture(folder / "training-views.png", np.hstack([shown, np.vstack([loss, dice])]))

    for subRegion in SUB_REGIONS:
        assert near(dice, COLOURS[subRegion]) > 100, subRegion
    assert near(loss, (0.25, 0.50, 0.85)) > 100 and near(loss, (0.90, 0.50, 0.15)) > 100
    legend = dice[24:130, 470:558]
    lines = [near(legend[:, 40:], COLOURS[subRegion]) for subRegion in SUB_REGIONS]
    assert max(lines) == 0, "the legend covers no curve"
    saturated = shown.max(axis=2).astype(int) - shown.min(axis=2) > 60
    assert saturated.sum() > 1000, "truth and prediction are painted over the image"
