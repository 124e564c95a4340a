"""A user in front of the module's panel."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from fakes import ThresholdPredictor, fake_case

ROOT = Path(__file__).resolve().parents[2]
#: Where the module is loaded from: the tree, or what an installation of the extension holds.
MODULES = Path(os.environ.get("SOFA_MODULES", ROOT / "SOFASegment"))
SUB_REGIONS = ("ncr", "ed", "et")


class EndlessPredictor(ThresholdPredictor):
    """Encodes until it is cancelled, saying meanwhile that it is half way."""

    def encode(self, images, modalities, spacing=(1.0, 1.0, 1.0), *, progress=None, cancel=None):
        from sofa_engine.progress import Progress

        while True:
            cancel.check()
            progress(Progress("Encoding slices", 0.55, 12.0))
            time.sleep(0.01)


class Panel:
    """The module's panel and a user in front of it."""

    def __init__(self, standIn: Any) -> None:
        self.slicer = standIn
        self.module = standIn.load(MODULES / "SOFASegment.py")
        self.host = self.module.widgetRepresentation()
        self.host.enter()
        self.useSessions(self.quick)

    @property
    def widget(self) -> Any:
        return self.host.self()

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def controller(self) -> Any:
        return self.widget.logic.controller

    @staticmethod
    def quick(case: Any, _progress: Any, _cancel: Any) -> Any:
        from sofa_engine.session import SegmentationSession

        return SegmentationSession(case, ThresholdPredictor())

    @staticmethod
    def endless(case: Any, _progress: Any, _cancel: Any) -> Any:
        from sofa_engine.session import SegmentationSession

        return SegmentationSession(case, EndlessPredictor())

    def useSessions(self, openSession: Callable[..., Any]) -> None:
        """Compute in this process instead of an engine process."""
        self.openSession = openSession
        self.widget.logic.engine.openSession = openSession
        if self.controller is not None:
            self.controller._openSession = openSession

    def addCase(self, *names: str, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> dict[str, Any]:
        """Put volumes into the scene, named by their sequence."""
        from mrml_tools import addVolumes
        from sofa_engine.types import Modality

        chosen = tuple(Modality(name) for name in names or ("t1", "t1c", "t2", "flair"))
        nodes = addVolumes(slicer.mrmlScene, fake_case(chosen, spacing=spacing)[0])
        return {modality.value: node for modality, node in nodes.items()}

    def choose(self, nodes: dict[str, Any]) -> None:
        for name, node in nodes.items():
            getattr(self.ui, f"{name}Selector").setCurrentNode(node)

    def wait(self, until: Callable[[], object], seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"nothing happened; the panel says: {self.said!r}"
            QtWidgets.QApplication.processEvents()
            time.sleep(0.005)

    def segment(self) -> None:
        self.ui.segmentButton.click()
        self.wait(lambda: self.controller.insights is not None)

    def press(self, keys: str) -> None:
        """Press a key on Slicer's main window; Qt delivers it only to a window that is shown and active."""
        window = self.slicer.mainWindow or self.host._native
        found = [s for s in window.findChildren(QtGui.QShortcut) if s.key().toString() == keys and s.isEnabled()]
        for shortcut in found:
            shortcut.activated.emit()

    @staticmethod
    def mime(*paths: Path) -> QtCore.QMimeData:
        """What is dropped: files, or a text where there are none."""
        mime = QtCore.QMimeData()
        mime.setText("not a file")
        if paths:
            mime.setUrls([QtCore.QUrl.fromLocalFile(str(path)) for path in paths])
        return mime

    def drop(self, *paths: Path) -> bool:
        """Drop files onto the panel; True where the panel took them."""
        mime = self.mime(*paths)
        target = self.ui.inputsCollapsibleButton._native.parentWidget()
        button, modifier = QtCore.Qt.LeftButton, QtCore.Qt.NoModifier
        enter = QtGui.QDragEnterEvent(QtCore.QPoint(5, 5), QtCore.Qt.CopyAction, mime, button, modifier)
        enter.ignore()
        QtWidgets.QApplication.sendEvent(target, enter)
        if enter.isAccepted():
            event = QtGui.QDropEvent(QtCore.QPointF(5, 5), QtCore.Qt.CopyAction, mime, button, modifier)
            QtWidgets.QApplication.sendEvent(target, event)
        return enter.isAccepted()

    def volume(self, name: str) -> float:
        return float(getattr(self.ui, f"{name}VolumeLabel").text)

    @property
    def said(self) -> str:
        return self.ui.messageLabel.text


def drag(panel: Panel, name: str, millimetres: float) -> None:
    roi = boxes(panel, name)[0]
    roi.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointStartInteractionEvent)
    roi.SetSize(*(size + millimetres for size in roi.GetSize()))
    roi.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)


def boxes(panel: Panel, name: str) -> list[Any]:
    from sofa_engine.types import SubRegion

    return panel.controller.state.boxNodes(SubRegion(name))


def writeCase(folder: Path) -> Path:
    """Write the synthetic patient's four sequences as NIfTI files."""
    folder.mkdir()
    case = fake_case()[0]
    for modality, image in case.images.items():
        nibabel.save(nibabel.Nifti1Image(image.T, case.geometry.matrix), folder / f"patient_{modality.value}.nii.gz")
    return folder
