"""Between widgets and what the scene remembers, for those that parameterNodeWrapper has no connector for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from SOFATrainingLib.state import TrainingState

_PATHS = ("dataset", "startWeights", "configuration", "results")


class SettingsBinding:
    """Paths and the number of epochs. A ctkPathLineEdit is only connected to paths, which cannot be empty."""

    def __init__(self, ui: object, getState: Callable[[], TrainingState | None]) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            getState: what the scene remembers, None while it is closing.
        """
        self._ui, self._getState, self._showing = ui, getState, False
        for name in _PATHS:
            self._widget(name).connect("currentPathChanged(QString)", self._writer(name))
        ui.epochsSpinBox.connect("valueChanged(int)", self._writeEpochs)

    def update(self) -> None:
        """Show what the scene remembers."""
        state = self._getState()
        if state is None:
            return
        self._showing = True
        try:
            for name in _PATHS:
                text = state.node.GetParameter(name) or ""
                if self._widget(name).currentPath != text:
                    self._widget(name).currentPath = text
            if self._ui.epochsSpinBox.value != state.epochs:
                self._ui.epochsSpinBox.value = state.epochs
        finally:
            self._showing = False

    def _writer(self, name: str) -> Callable[[str], None]:
        def write(path: str) -> None:
            state = self._getState()
            if state is not None and not self._showing:
                setattr(state, name, Path(path.strip()) if path.strip() else None)

        return write

    def _writeEpochs(self, epochs: int) -> None:
        state = self._getState()
        if state is not None and not self._showing:
            state.epochs = epochs

    def _widget(self, name: str) -> object:
        return getattr(self._ui, f"{name}PathLineEdit")
