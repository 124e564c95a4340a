"""The section that helps to judge a result: confidence, uncertain slices, attention, volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

import qt
from sofa_engine.types import MODALITIES, SUB_REGIONS
from SOFASegmentLib.appearance import COLOURS, titleOf
from SOFASegmentLib.controller import Phase
from SOFASegmentLib.scene_state import ATTENTION_CHART, VOLUMES_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from SOFASegmentLib.controller import SegmentController
    from SOFASegmentLib.insights import Insights

#: Height of a line of the tables, which are as high as their lines.
_ROW_PX = 22


class UnderstandSection:
    """Overlay, list of slices, attention and volumes, as the controller has them."""

    def __init__(self, ui: object, iconOf: Callable[[str], Any]) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            iconOf: returns the QIcon of a name.
        """
        self._ui = ui
        self._controller: SegmentController | None = None
        ui.previousSliceButton.icon, ui.nextSliceButton.icon = iconOf("previous"), iconOf("next")
        for table in (ui.uncertainTable, ui.attentionTable):
            table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        for table in (ui.uncertainTable, ui.attentionTable, ui.volumesTableView):
            table.verticalHeader().setDefaultSectionSize(_ROW_PX)
            table.verticalHeader().setSectionResizeMode(qt.QHeaderView.Fixed)
        ui.uncertainTable.verticalHeader().setVisible(False)
        ui.volumesTableView.verticalHeader().setVisible(False)
        ui.volumesTableView.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        ui.volumesTableView.horizontalHeader().setStretchLastSection(True)
        ui.confidenceCheckBox.connect("toggled(bool)", self.onConfidence)
        ui.uncertainTable.connect("cellClicked(int,int)", self.onSliceClicked)
        ui.previousSliceButton.connect("clicked()", self.onPreviousSlice)
        ui.nextSliceButton.connect("clicked()", self.onNextSlice)
        ui.attentionChartButton.connect("clicked()", self.onShowChart)
        self.update()

    def follow(self, controller: SegmentController) -> None:
        """Show this controller from now on."""
        self.unfollow()
        self._controller = controller
        controller.insightsChanged.connect(self._onInsights)
        self.update()

    def unfollow(self) -> None:
        """Stop listening."""
        if self._controller is not None:
            self._controller.insightsChanged.disconnect(self._onInsights)
        self._controller = None
        self.update()

    def update(self) -> None:
        """Show what the controller has."""
        controller = self._controller
        ready = controller is not None and controller.phase is Phase.READY
        insights = controller.insights if ready else None
        self._ui.confidenceCheckBox.enabled = ready
        # While a case is segmented again too: unchecking is what the user does to have it taken away.
        self._ui.confidenceCheckBox.checked = controller is not None and controller.confidenceVisible()
        for name in ("previousSliceButton", "nextSliceButton", "attentionChartButton"):
            getattr(self._ui, name).enabled = insights is not None
        self._fillSlices(insights)
        self._fillAttention(insights)
        state = None if controller is None else controller.state
        self._ui.volumesTableView.setMRMLTableNode(state.get(VOLUMES_TABLE) if insights is not None else None)

    def onConfidence(self, visible: bool) -> None:
        """Lay the confidence over the slice views, or take it away."""
        if self._controller is not None and visible != self._controller.confidenceVisible():
            self._controller.setConfidenceVisible(visible)

    def onSliceClicked(self, row: int, _column: int) -> None:
        """Bring the slice of a row before the user's eyes."""
        insights = None if self._controller is None else self._controller.insights
        if insights is not None and row < len(insights.uncertainSlices):
            self._controller.jumpToSlice(insights.uncertainSlices[row].slice_index)

    def onPreviousSlice(self) -> None:
        """Go to the uncertain slice before."""
        if self._controller is not None:
            self._controller.nextUncertainSlice(-1)

    def onNextSlice(self) -> None:
        """Go to the next uncertain slice."""
        if self._controller is not None:
            self._controller.nextUncertainSlice(1)

    def onShowChart(self) -> None:
        """Show the attention chart in a layout with a plot view."""
        chart = None if self._controller is None else self._controller.state.get(ATTENTION_CHART)
        if chart is not None and slicer.app.layoutManager() is not None:
            slicer.modules.plots.logic().ShowChartInLayout(chart)

    def _onInsights(self, _insights: Insights) -> None:
        self.update()

    def _fillSlices(self, insights: Insights | None) -> None:
        table = self._ui.uncertainTable
        found = () if insights is None else insights.uncertainSlices
        table.setRowCount(len(found))
        for row, entry in enumerate(found):
            position = self._controller.slicePosition(entry.slice_index)
            texts = (position, titleOf(entry.sub_region), f"{entry.confidence:.0%}")
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                if column != 1:
                    item.setTextAlignment(qt.Qt.AlignCenter)
                table.setItem(row, column, item)

    def _fillAttention(self, insights: Insights | None) -> None:
        table = self._ui.attentionTable
        table.setRowCount(len(SUB_REGIONS) if insights is not None else 0)
        if insights is None:
            return
        table.setVerticalHeaderLabels([titleOf(subRegion) for subRegion in SUB_REGIONS])
        for row, subRegion in enumerate(SUB_REGIONS):
            red, green, blue = (round(255 * part) for part in COLOURS[subRegion])
            for column, modality in enumerate(MODALITIES):
                weight = insights.attention.get(subRegion, {}).get(modality)
                item = qt.QTableWidgetItem("–" if weight is None else f"{weight:.0%}")
                item.setTextAlignment(qt.Qt.AlignCenter)
                # The stronger the colour, the more the model relied on the sequence; the text stays readable on it.
                item.setBackground(qt.QBrush(qt.QColor(red, green, blue, round(170 * (weight or 0.0)))))
                table.setItem(row, column, item)
