"""Loss and Dice of a run as tables and charts of the scene, shown by Slicer's own plot views."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import slicer

from sofa_engine.types import SUB_REGIONS
from SOFASegmentLib.appearance import COLOURS
from SOFATrainingLib import state as roles
from SOFATrainingLib.follow import REGIONS, RunStatus
from SOFATrainingLib.state import TrainingState

_EPOCH = "Epoch"
_LOSSES = {"Both passes": (0.15, 0.15, 0.15), "First pass": (0.25, 0.50, 0.85), "Prompted pass": (0.90, 0.50, 0.15)}
_DICE = {
    **{subRegion.value.upper(): COLOURS[subRegion] for subRegion in SUB_REGIONS},
    "TC": (0.55, 0.35, 0.75),
    "WT": (0.35, 0.35, 0.35),
}
_WIDTH = 2.0
#: The legend lies inside the chart, at its right; the axis is so much longer than the run that it covers no curve.
_ROOM = 1.16
_LEGEND_POINTS = 11


def showCurves(state: TrainingState, status: RunStatus) -> None:
    """Write a run's points into the scene's tables, adding tables, series and charts where they are missing."""
    _fill(state, roles.LOSS_TABLE, "SOFA training loss", list(_LOSSES), status.losses())
    _fill(state, roles.DICE_TABLE, "SOFA validation Dice", list(REGIONS), status.dice())
    loss = _chart(state, roles.LOSS_CHART, roles.LOSS_SERIES, roles.LOSS_TABLE, "Loss", _LOSSES)
    dice = _chart(state, roles.DICE_CHART, roles.DICE_SERIES, roles.DICE_TABLE, "Validation Dice", _DICE)
    for chart in (loss, dice):
        chart.SetXAxisRangeAuto(False)
        chart.SetXAxisRange(0.0, _ROOM * _round(status.done / status.perEpoch, status.epochs))
    dice.SetYAxisRangeAuto(False)
    dice.SetYAxisRange(0.0, 1.0)


def _round(passed: float, epochs: int) -> int:
    """Return where the epoch axis ends: a little beyond what has passed, in steps that grow with it."""
    step = 10 ** max(0, math.floor(math.log10(max(1.0, passed))))
    return max(1, min(max(1, epochs), step * math.ceil(1.05 * passed / step)))


def _fill(state: TrainingState, role: str, name: str, columns: list[str], rows: list[list[float]]) -> None:
    table = state.get(role)
    if table is None:
        table = _add(state, role, "vtkMRMLTableNode", name)
    points = np.array(rows, dtype=np.float64).reshape(-1, 1 + len(columns))
    with slicer.util.NodeModify(table):
        slicer.util.updateTableFromArray(table, [np.ascontiguousarray(c) for c in points.T], [_EPOCH, *columns])


def _chart(
    state: TrainingState, role: str, seriesRole: str, tableRole: str, title: str, colours: dict[str, Any]
) -> Any:
    chart, series = state.get(role), state.getAll(seriesRole)
    if chart is not None and len(series) == len(colours) and chart.GetNumberOfPlotSeriesNodes() == len(colours):
        return chart
    if chart is None:
        chart = _add(state, role, "vtkMRMLPlotChartNode", f"SOFA {title.lower()}")
        chart.SetTitle(title)
        chart.SetXAxisTitle(_EPOCH)
        chart.SetYAxisTitle(title)
        # The title of the chart says what the axis would repeat.
        chart.SetYAxisTitleVisibility(False)
        chart.SetLegendFontSize(_LEGEND_POINTS)
    for node in series:
        state.scene.RemoveNode(node)
    chart.RemoveAllPlotSeriesNodeIDs()
    made = []
    for column, colour in colours.items():
        node = state.scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", column)
        node.SetAndObserveTableNodeID(state.get(tableRole).GetID())
        # Scatter, since a line plot would take the rows' numbers for the x axis.
        node.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        node.SetXColumnName(_EPOCH)
        node.SetYColumnName(column)
        node.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleSolid)
        node.SetLineWidth(_WIDTH)
        few = tableRole == roles.DICE_TABLE
        circle, none = slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle, slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone
        node.SetMarkerStyle(circle if few else none)
        node.SetMarkerSize(6)
        node.SetColor(*colour)
        chart.AddAndObservePlotSeriesNodeID(node.GetID())
        made.append(node)
    state.setAll(seriesRole, made)
    return chart


def _add(state: TrainingState, role: str, className: str, name: str) -> Any:
    node = state.scene.AddNewNodeByClass(className, state.scene.GenerateUniqueName(name))
    state.set(role, node)
    return node
