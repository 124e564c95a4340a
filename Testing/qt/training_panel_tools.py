"""A user in front of the training module's panel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from fakes import fake_case
from mrml_tools import addVolumes
from training_tools import prepareDataset, writeConfiguration, writeDataset, writeStart

ROOT = Path(__file__).resolve().parents[2]


class TrainingPanel:
    """The training module's panel and a user in front of it."""

    def __init__(self, standIn: Any, folder: Path) -> None:
        self.slicer, self.folder = standIn, folder
        self.segmentModule = standIn.load(ROOT / "SOFASegment" / "SOFASegment.py")
        self.module = standIn.load(ROOT / "SOFATraining" / "SOFATraining.py")
        self.host = self.module.widgetRepresentation()
        self.host.enter()

    @property
    def widget(self) -> Any:
        return self.host.self()

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def controller(self) -> Any:
        return self.widget.logic.controller

    @property
    def state(self) -> Any:
        return self.controller.state

    @property
    def said(self) -> str:
        return self.ui.messageLabel.text

    def wait(self, until: Callable[[], object], seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"nothing happened; the panel says: {self.said!r}"
            QtWidgets.QApplication.processEvents()
            time.sleep(0.01)

    def chooseDataset(self, *, prepared: bool = True) -> Path:
        """Choose a folder of two patients and have it checked."""
        dataset = writeDataset(self.folder / "cases")
        if prepared:
            prepareDataset(dataset, self.folder / "cases-training" / "prepared")
        self.ui.datasetPathLineEdit.currentPath = str(dataset)
        self.ui.checkButton.click()
        self.wait(lambda: not self.controller.busy)
        return dataset

    def chooseTiny(self, epochs: int) -> None:
        """Choose a network and settings with which an epoch takes a moment."""
        self.ui.startWeightsPathLineEdit.currentPath = str(writeStart(self.folder / "start.safetensors"))
        self.ui.configurationPathLineEdit.currentPath = str(writeConfiguration(self.folder / "settings.toml"))
        self.ui.partComboBox.currentIndex = 1
        self.ui.epochsSpinBox.value = epochs

    def train(self, epochs: int = 400, steps: int = 2) -> None:
        """Start a training and let it do some steps."""
        self.chooseDataset()
        self.chooseTiny(epochs)
        self.ui.startButton.click()
        self.wait(lambda: self.controller.training and self.controller.run.status.done >= steps)

    def load(self, seed: int) -> dict[Any, Any]:
        """Load a made-up patient; returns the volumes by sequence."""
        return addVolumes(slicer.mrmlScene, fake_case(seed=seed)[0])

    def chooseToSegment(self, nodes: dict[Any, Any]) -> None:
        """Choose volumes in the segmentation module and come back."""
        from SOFASegmentLib.scene_state import SceneState

        SceneState.fromScene(slicer.mrmlScene).setInputs(nodes)
        self.host.enter()

    def takeSegmentedCase(self) -> tuple[Any, dict[Any, Any]]:
        """Segment a made-up patient and take it over; returns the truth's node and the volumes by sequence."""
        from sofa_engine.types import Box, Modality
        from SOFASegmentLib.geometry import localGeometry
        from SOFASegmentLib.scene_state import SEGMENTATION, SceneState
        from SOFASegmentLib.segments import Segments, createSegmentationNode

        nodes, labels = self.load(0), fake_case()[1]
        self.chooseToSegment(nodes)
        truth = createSegmentationNode(nodes[Modality.T1C])
        Segments(truth, localGeometry(nodes[Modality.T1C])).write(Box((0, 0, 0), labels.shape), labels)
        SceneState.fromScene(slicer.mrmlScene).set(SEGMENTATION, truth)
        self.host.enter()
        self.ui.takeCaseButton.click()
        return truth, nodes

    def cells(self, name: str, row: int) -> list[str]:
        table = getattr(self.ui, name)
        return [table.item(row, column).text() for column in range(table.columnCount)]

    def closeWindow(self) -> bool:
        """Close Slicer's main window; False where it stays open."""
        event = QtGui.QCloseEvent()
        QtWidgets.QApplication.sendEvent(self.slicer.mainWindow, event)
        return event.isAccepted()


@contextmanager
def trainingPanel(standIn: Any, folder: Path) -> Iterator[TrainingPanel]:
    """Show the panel with nothing remembered; whatever it started is ended with it."""
    QtCore.QSettings().clear()
    panel = TrainingPanel(standIn, folder)
    try:
        yield panel
    finally:
        controller = panel.controller
        if controller.run is not None and controller.run.child is not None:
            controller.run.child.end()
        if controller.busy:
            controller.stop()
