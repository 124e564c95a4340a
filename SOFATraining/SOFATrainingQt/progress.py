"""The section that shows how the run goes: curves, Dice so far, the case that is looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

import qt
from SOFATrainingQt.result import seenWarning

if TYPE_CHECKING:
    from SOFATrainingLib.controller import TrainingController
    from SOFATrainingLib.follow import RunStatus
    from SOFATrainingLib.preview import Preview

_ROW_PX = 24


class ProgressSection:
    """Curves, the small table, facts about the run, runs of before."""

    def __init__(self, ui: object, controller: TrainingController, prepare: Callable[[], bool]) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            controller: of the training.
            prepare: makes sure that a run can be shown and gone on with; False where the user declined.
        """
        self._ui, self._controller, self._prepare = ui, controller, prepare
        ui.diceTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        ui.diceTable.verticalHeader().setDefaultSectionSize(_ROW_PX)
        ui.curvesButton.connect("clicked(bool)", self.onCurves)
        ui.openRunButton.connect("clicked()", self.onOpenRun)
        controller.statusChanged.connect(self._onStatus)
        controller.previewChanged.connect(self._onPreview)
        self.update()

    def close(self) -> None:
        """Stop listening."""
        self._controller.statusChanged.disconnect(self._onStatus)
        self._controller.previewChanged.disconnect(self._onPreview)

    def update(self) -> None:
        """Show what there is to look at."""
        controller = self._controller
        self._ui.curvesButton.enabled = controller.run is not None and controller.state is not None
        self._ui.curvesButton.checked = controller.curvesShown()
        self._ui.openRunButton.enabled = not controller.busy and controller.state is not None
        if controller.run is None:
            self._ui.factsLabel.text = _("Numbers and curves appear when a training runs.")
        self._ui.previewLabel.visible = controller.run is not None and bool(self._ui.previewLabel.text)

    def onCurves(self, shown: bool) -> None:
        """Show the curves in the views, or what was there before."""
        self._controller.setCurvesShown(shown)
        self.update()

    def onOpenRun(self) -> None:
        """Ask for the folder of a run and show it."""
        state = self._controller.state
        place = str(state.results) if state is not None and state.results is not None else str(Path.home())
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Choose a training run"), place)
        if folder and self._prepare():
            self._controller.openRun(Path(folder))

    def _onStatus(self, status: RunStatus) -> None:
        last, best = status.lastDice(), status.bestDice()
        for column in range(self._ui.diceTable.columnCount):
            self._setCell(0, column, last[column] if last else math.nan)
            self._setCell(1, column, best[column] if best else math.nan)
        facts = status.facts
        validating = facts.get("validation_cases") or 0
        text = _("Cases: {training} for training, {validating} for validation; on {device}.").format(
            training=facts.get("training_cases", "?"), validating=validating, device=facts.get("device", "?")
        )
        if not validating and facts:
            text += " " + _("With cases of another patient there would be a validation.")
        if facts.get("validation_cases_seen"):
            text += " " + seenWarning(facts["validation_cases_seen"], validating)
        if status.speed is not None:
            text += " " + _("{speed:.1f} slices a second.").format(speed=status.speed)
        self._ui.factsLabel.text = text

    def _onPreview(self, preview: Preview) -> None:
        self._ui.previewLabel.text = _("In the view: {case}, slice {index}; truth as lines, prediction filled.").format(
            case=preview.case, index=preview.index
        )
        self._ui.previewLabel.visible = True

    def _setCell(self, row: int, column: int, value: float) -> None:
        item = qt.QTableWidgetItem("–" if math.isnan(value) else f"{value:.3f}")
        item.setTextAlignment(qt.Qt.AlignCenter)
        self._ui.diceTable.setItem(row, column, item)
