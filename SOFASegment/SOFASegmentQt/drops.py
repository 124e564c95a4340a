"""Dropping a case onto the panel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import qt


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
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if not paths:
            return False
        event.acceptProposedAction()
        if event.type() == qt.QEvent.Drop:
            # Loading may ask the user something, and the drag's source waits until this function returns.
            qt.QTimer.singleShot(0, lambda: self.onDropped(paths))
        return True
