"""Pictures of the training panel in its states; kept where the environment variable SOFA_SCREENSHOTS names a folder.

With SOFA_SCREENSHOTS_RUN naming the folder of a training run, the finished state is that run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6 import QtWidgets
from training_panel_tools import TrainingPanel, trainingPanel

from training_tools import writeCase

#: Most of these states need a training, which loads PyTorch.
pytestmark = pytest.mark.slow

#: Width of Slicer's module panel on a laptop's screen.
WIDTH = 420
SECTIONS = ("cases", "add", "training", "advanced", "progress", "result")


@pytest.fixture
def panel(slicer_stand_in: Any, tmp_path: Path) -> Iterator[TrainingPanel]:
    with trainingPanel(slicer_stand_in, tmp_path) as panel:
        yield panel


@pytest.fixture
def take(panel: TrainingPanel, tmp_path: Path) -> Callable[..., None]:
    folder = Path(os.environ.get("SOFA_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def shoot(name: str, *closed: str) -> None:
        for section in SECTIONS:
            getattr(panel.ui, f"{section}CollapsibleButton").collapsed = section in closed
        host = panel.host._native
        host.show()
        for _ in range(3):
            QtWidgets.QApplication.processEvents()
            host.resize(WIDTH, host.sizeHint().height())
        QtWidgets.QApplication.processEvents()
        assert host.grab().save(str(folder / f"training-{name}.png"))
        assert host.minimumSizeHint().width() <= WIDTH, "the panel would be cut off at its right side"
        assert cutOff(panel) == []

    return shoot


def cutOff(panel: TrainingPanel) -> list[str]:
    """Buttons whose text does not fit into them."""
    buttons = {n: w._native for n, w in vars(panel.ui).items() if isinstance(w._native, QtWidgets.QPushButton)}
    visible = {name: button for name, button in buttons.items() if button.isVisible()}
    return [name for name, b in visible.items() if b.fontMetrics().horizontalAdvance(b.text()) > b.width()]


def test_empty(panel, take):
    take("empty")


def test_cases_with_problems(panel, take):
    dataset = panel.chooseDataset(prepared=False)
    writeCase(dataset, "Patient_2", 2, without="t1ce")
    writeCase(dataset, "Patient_3", 3, without="seg")
    panel.ui.checkButton.click()
    panel.wait(lambda: not panel.controller.busy)
    take("cases", "add", "advanced", "progress", "result")


def test_running_and_paused(panel, take):
    panel.train(steps=4)
    panel.wait(lambda: "left" in panel.ui.stageLabel.text and panel.controller.run.status.lastDice())
    take("running", "add", "advanced", "result")
    panel.ui.startButton.click()
    take("stopping", "add", "advanced", "result")
    panel.wait(lambda: not panel.controller.busy)
    take("paused", "add", "advanced")
    panel.ui.stopButton.click()
    assert panel.ui.startButton.text == "Start training" and not panel.ui.stopButton.enabled
    assert panel.ui.useResultButton.enabled, "what was learned stays and can be used"


def test_finished(panel, take):
    given = os.environ.get("SOFA_SCREENSHOTS_RUN")
    if given:
        panel.controller.openRun(Path(given))
        panel.wait(lambda: panel.controller.result is not None and panel.controller.preview is not None)
    else:
        panel.train(epochs=3)
        panel.wait(lambda: not panel.controller.busy)
    take("finished", "add", "advanced")


def test_a_training_that_was_killed(panel, take):
    panel.train(steps=4)
    panel.controller.run.child.end()
    panel.wait(lambda: not panel.controller.busy)
    take("killed", "add", "advanced", "progress", "result")
    assert panel.ui.startButton.text == "Resume"
    assert panel.said == (
        "The training ended unexpectedly; it was killed, perhaps for lack of memory. Resume goes on from its last "
        "checkpoint."
    )
    done = panel.controller.run.status.done
    panel.ui.startButton.click()
    panel.wait(lambda: panel.controller.run.status.done > done)
    assert panel.said == "" and panel.ui.startButton.text == "Pause"


def test_adding_a_case(panel, take):
    panel.chooseDataset(prepared=False)
    panel.takeSegmentedCase()
    take("add-case", "training", "advanced", "progress", "result")
