"""What helps to judge a result: volumes, attention and uncertain slices, as values and as tables in the scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from sofa_engine.api import Session
from sofa_engine.types import SUB_REGIONS, Modality, SliceConfidence, SubRegion
from SOFASegmentLib import scene_state
from SOFASegmentLib.appearance import COLOURS, titleOf
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.scene_state import SceneState


@dataclass(frozen=True)
class Insights:
    """What the session says about its own result.

    Attributes:
        volumesMl: millilitres of NCR, ED, ET, WT and TC.
        attention: weight of each sequence per sub-region; each sub-region's weights sum to 1.
        uncertainSlices: slices worth a look, the least certain first; indices on the session's axis 0.
    """

    volumesMl: Mapping[str, float]
    attention: Mapping[SubRegion, Mapping[Modality, float]]
    uncertainSlices: tuple[SliceConfidence, ...]

    @staticmethod
    def of(session: Session) -> Insights:
        """Ask a session; call in the background."""
        return Insights(session.volumes_ml(), session.attention(), session.uncertain_slices())


def showInsights(state: SceneState, insights: Insights) -> None:
    """Write volumes and attention into table nodes and a chart node, adding them where they are missing."""
    titles = {r.value.upper(): titleOf(r) for r in SUB_REGIONS}
    titles |= {"WT": _("Whole tumour"), "TC": _("Tumour core")}
    volumes = _node(state, scene_state.VOLUMES_TABLE, "vtkMRMLTableNode", _("SOFA volumes"))
    names = [name for name in titles if name in insights.volumesMl]
    _fillTable(
        volumes,
        {_("Region"): [titles[n] for n in names], _("Volume [ml]"): [insights.volumesMl[n] for n in names]},
    )
    modalities = list(next(iter(insights.attention.values()), {}))
    attention = _node(state, scene_state.ATTENTION_TABLE, "vtkMRMLTableNode", _("SOFA attention"))
    columns: dict[str, list[Any]] = {
        _("Sequence"): [m.title for m in modalities],
        _("Index"): [float(i) for i in range(len(modalities))],
    }
    for subRegion in SUB_REGIONS:
        weights = insights.attention.get(subRegion, {})
        columns[titleOf(subRegion)] = [float(weights.get(m, 0.0)) for m in modalities]
    _fillTable(attention, columns)
    _showChart(state, attention)


def _showChart(state: SceneState, table: Any) -> None:
    """Lay the attention out as one bar series per sub-region, in the segments' colours."""
    chart = _node(state, scene_state.ATTENTION_CHART, "vtkMRMLPlotChartNode", _("SOFA attention chart"))
    series = state.getAll(scene_state.ATTENTION_SERIES)
    if len(series) == len(SUB_REGIONS) and chart.GetNumberOfPlotSeriesNodes() == len(SUB_REGIONS):
        # The scene may have been made in another language.
        for node, subRegion in zip(series, SUB_REGIONS, strict=True):
            _nameColumns(node, subRegion)
        return
    for node in series:
        state.scene.RemoveNode(node)
    series = []
    chart.RemoveAllPlotSeriesNodeIDs()
    chart.SetTitle(_("Which sequence the model relied on"))
    chart.SetYAxisTitle(_("Weight"))
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0.0, 1.0)
    for subRegion in SUB_REGIONS:
        node = state.scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", titleOf(subRegion))
        node.SetAndObserveTableNodeID(table.GetID())
        node.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
        _nameColumns(node, subRegion)
        node.SetColor(*COLOURS[subRegion])
        chart.AddAndObservePlotSeriesNodeID(node.GetID())
        series.append(node)
    state.setAll(scene_state.ATTENTION_SERIES, series)


def _nameColumns(series: Any, subRegion: SubRegion) -> None:
    series.SetXColumnName(_("Index"))
    series.SetYColumnName(titleOf(subRegion))
    series.SetLabelColumnName(_("Sequence"))


def _fillTable(node: Any, columns: Mapping[str, list[Any]]) -> None:
    """Replace a table's content; `slicer.util.updateTableFromArray` takes numbers only, and one column is words."""
    with slicer.util.NodeModify(node):
        node.RemoveAllColumns()
        for name, values in columns.items():
            words = bool(values) and isinstance(values[0], str)
            column = vtk.vtkStringArray() if words else vtk.vtkDoubleArray()
            column.SetName(name)
            for value in values:
                column.InsertNextValue(value if words else float(np.round(value, 4)))
            node.AddColumn(column)


def _node(state: SceneState, role: str, className: str, name: str) -> Any:
    node = state.get(role)
    if node is None:
        node = state.scene.AddNewNodeByClass(className, state.scene.GenerateUniqueName(name))
        state.set(role, node)
    return node
