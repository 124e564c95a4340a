"""Dropping a case onto the panel, or onto Slicer's main window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import slicer
from slicer.i18n import tr as _

import qt
from SOFASegmentLib import case_files


class CaseDropFilter(qt.QObject):
    """An event filter that takes folders and image files dropped onto a widget."""

    def __init__(self, onDropped: Callable[[list[Path]], None]) -> None:
        """Remember whom to tell.

        Args:
            onDropped: called with the local paths, after the drop has ended.
        """
        qt.QObject.__init__(self)
        self.onDropped = onDropped

    def eventFilter(self, _target: object, event: object) -> bool:
        """Accept what holds local files; anything else is left to the widget."""
        if event.type() not in (qt.QEvent.DragEnter, qt.QEvent.Drop):
            return False
        paths = _localPaths(event.mimeData())
        if not paths:
            return False
        event.acceptProposedAction()
        if event.type() == qt.QEvent.Drop:
            # Loading may ask the user something, and the drag's source waits until this function returns.
            qt.QTimer.singleShot(0, lambda: self.onDropped(paths))
        return True


class CaseFileDialog:
    """What Slicer asks about files that are dropped onto its main window; offered beside its other readers.

    Slicer makes one of these for a module that has a class of its own name and "FileDialog"
    (`Base/QTGUI/qSlicerScriptedFileDialog`). It does not open a dialog.
    """

    def __init__(self, qSlicerFileDialog: object) -> None:
        """Say what is offered.

        Args:
            qSlicerFileDialog: Slicer's side of it.
        """
        self.qSlicerFileDialog = qSlicerFileDialog
        qSlicerFileDialog.fileType = "SOFACase"
        qSlicerFileDialog.description = _("Load T1, T1c, T2 and FLAIR into SOFA Brain Tumor Segmentation")
        qSlicerFileDialog.action = slicer.qSlicerFileDialog.Read
        self._paths: list[Path] = []

    def isMimeDataAccepted(self) -> None:
        """Offer SOFA for what looks like a case; asked while the files are still being dragged, so names must do."""
        paths = _localPaths(self.qSlicerFileDialog.mimeData())
        self.qSlicerFileDialog.acceptMimeData(case_files.looksLikeCase(paths))

    def dropEvent(self) -> None:
        """Remember what was dropped; Slicer calls `execDialog` when the drag's source no longer waits."""
        self._paths = _localPaths(self.qSlicerFileDialog.mimeData())
        self.qSlicerFileDialog.dropEvent().accept()

    def execDialog(self) -> None:
        """Show the module and load what was dropped."""
        paths, self._paths = self._paths, []
        if paths:
            slicer.util.selectModule("SOFASegment")
            slicer.modules.sofasegment.widgetRepresentation().self().inputs.loadFiles(paths)


def _localPaths(mimeData: object) -> list[Path]:
    return [Path(url.toLocalFile()) for url in mimeData.urls() if url.isLocalFile()]
