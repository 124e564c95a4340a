"""Asks before Slicer ends together with a training."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

import qt
from SOFATrainingLib.controller import TrainingController


class QuitGuard(qt.QObject):
    """An event filter on the main window."""

    def __init__(self, controller: TrainingController) -> None:
        """Remember the training.

        Args:
            controller: of the training.
        """
        qt.QObject.__init__(self)
        self.controller = controller
        self.window = slicer.util.mainWindow()
        if self.window is not None:
            self.window.installEventFilter(self)

    def close(self) -> None:
        """Ask no more."""
        if self.window is not None:
            self.window.removeEventFilter(self)
        self.window = None

    def eventFilter(self, _target: object, event: object) -> bool:
        """Keep the window open where the user prefers to go on training."""
        if event.type() != qt.QEvent.Close or not self.controller.training:
            return False
        question = _("A training is running. Quitting pauses it with a checkpoint, from which it can be resumed. Quit?")
        if not slicer.util.confirmYesNoDisplay(question, _("Quit Slicer")):
            event.ignore()
            return True
        with slicer.util.WaitCursor():
            self.controller.endWithSlicer()
        return False
