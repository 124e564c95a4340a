"""The section with the folder of cases and the table of what is in it and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

import qt
from SOFATrainingLib.cases import CaseRow, Mark, summary

if TYPE_CHECKING:
    from SOFATrainingLib.controller import TrainingController

_MARKS = {Mark.GOOD: ("✓", "#2a8c4a"), Mark.WARNING: ("!", "#c77700"), Mark.ERROR: ("✕", "#c62828")}
_ROW_PX = 22


class CasesSection:
    """Folder, table, Check cases."""

    def __init__(self, ui: object, controller: TrainingController, prepare: Callable[[], bool]) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            controller: of the training.
            prepare: makes sure that files can be read; False where the user declined.
        """
        self._ui, self._controller, self._prepare = ui, controller, prepare
        self._shown: tuple[CaseRow, ...] = ()
        table = ui.casesTable
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setStretchLastSection(True)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(_ROW_PX)
        ui.checkButton.connect("clicked()", self.onCheck)
        controller.casesChanged.connect(self._onCases)
        self.update()

    def close(self) -> None:
        """Stop listening."""
        self._controller.casesChanged.disconnect(self._onCases)

    def update(self) -> None:
        """Show what can be done, and nothing of another folder."""
        state = self._controller.state
        dataset = None if state is None else state.dataset
        self._ui.checkButton.enabled = dataset is not None and not self._controller.busy
        self._ui.datasetPathLineEdit.enabled = state is not None and not self._controller.busy
        checked = dataset is not None and dataset == self._controller.checkedDataset
        self._fill(self._controller.rows if checked else ())
        if dataset is None:
            self._ui.casesLabel.text = _("Choose the folder with the cases to train on.")
        elif not checked:
            self._ui.casesLabel.text = _("Not checked yet; Start training does it too.")
        else:
            self._ui.casesLabel.text = summary(self._controller.rows)

    def onCheck(self) -> None:
        """Look at every case."""
        if self._prepare():
            self._controller.check()

    def _onCases(self, _rows: tuple[CaseRow, ...]) -> None:
        self.update()

    def _fill(self, rows: tuple[CaseRow, ...]) -> None:
        if rows == self._shown:
            return
        self._shown = rows
        table = self._ui.casesTable
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            text, colour = _MARKS[row.mark]
            mark = qt.QTableWidgetItem(text)
            mark.setForeground(qt.QBrush(qt.QColor(colour)))
            mark.setTextAlignment(qt.Qt.AlignCenter)
            problem = qt.QTableWidgetItem(row.problem)
            problem.setToolTip(row.problem)
            cells = (mark, qt.QTableWidgetItem(row.case), qt.QTableWidgetItem(row.subject), problem)
            for column, cell in enumerate(cells):
                table.setItem(number, column, cell)
