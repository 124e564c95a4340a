"""Keys that work while the module is shown, and only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import qt


class Shortcuts:
    """Keyboard shortcuts of the panel.

    Undo and redo have the keys that Segment Editor gives them. Slicer's main window has Ctrl+Z and Ctrl+Y as well, and
    Qt calls a key that two own ambiguous; while the module is shown the key is the module's.
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        """Remember what each key does.

        Args:
            actions: key sequences ("Ctrl+Z") and what they do.
        """
        self._actions = dict(actions)
        self._shortcuts: list = []

    def activate(self, parent: object) -> None:
        """Make the keys work anywhere in `parent`'s window."""
        self.deactivate()
        for keys, action in self._actions.items():
            shortcut = qt.QShortcut(parent)
            shortcut.setKey(qt.QKeySequence(keys))
            shortcut.connect("activated()", action)
            shortcut.connect("activatedAmbiguously()", action)
            self._shortcuts.append(shortcut)

    def deactivate(self) -> None:
        """Give the keys back."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []
