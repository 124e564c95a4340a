"""Slicer's dialogs around files, without windows: DICOM export, and what is asked when files are dropped."""

from __future__ import annotations

import enum
from typing import Any, ClassVar

from PySide6 import QtCore, QtGui
from PySide6.QtCore import Property


class qSlicerDICOMExportDialog(QtCore.QObject):
    """Remembers which subject hierarchy item it was opened on, instead of opening."""

    opened: ClassVar[list[int]] = []

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def execDialog(self, item: int) -> bool:
        self.opened.append(item)
        return False


class qSlicerFileDialog(QtCore.QObject):
    class IOAction(enum.Enum):
        Read = 0
        Write = 1

    Read = IOAction.Read


class qSlicerStandardFileDialog(qSlicerFileDialog):
    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._words: dict[str, Any] = {"description": "", "fileType": "", "action": 0}

    def _word(kind: type, name: str) -> Property:  # noqa: N805
        return Property(kind, lambda self: self._words[name], lambda self, value: self._words.update({name: value}))

    description, fileType, action = _word(str, "description"), _word(str, "fileType"), _word(int, "action")


class qSlicerScriptedFileDialog(qSlicerStandardFileDialog):
    """Asks a Python class about what is dropped onto the main window, as qSlicerIOManager and its base classes do."""

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._python, self._mime, self._drop, self._accepted = None, None, None, False

    def usePython(self, instance: Any) -> None:
        self._python = instance

    def mimeData(self) -> Any:
        return self._mime

    def dropEvent(self) -> Any:
        return self._drop

    def acceptMimeData(self, accept: bool) -> None:
        self._accepted = accept

    def isAccepted(self, mime: QtCore.QMimeData) -> bool:
        self._mime, self._accepted = mime, False
        self._python.isMimeDataAccepted()
        return self._accepted

    def take(self, event: QtGui.QDropEvent) -> None:
        """Hand over a drop; a dialog that accepted it is executed once the drag's source has been let go."""
        self._drop, self._mime = event, event.mimeData()
        self._python.dropEvent()
        self._drop = self._mime = None
        if event.isAccepted():
            QtCore.QTimer.singleShot(0, self._python.execDialog)
