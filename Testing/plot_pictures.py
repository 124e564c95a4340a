"""A chart of a scene as Slicer's plot view draws it; that widget is Qt and not part of slicer-core."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

_FONT = "Arial"


def plotPicture(chartNode: Any, width: int = 560, height: int = 360) -> np.ndarray:
    """What a plot view of this size shows, uint8 (H, W, 3), with the rules of qMRMLPlotView."""
    view = vtk.vtkContextView()
    view.GetRenderer().SetBackground(1, 1, 1)
    window = view.GetRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetSize(width, height)
    window.SetMultiSamples(8)
    chart = vtk.vtkChartXY()
    view.GetScene().AddItem(chart)
    _dress(chart, chartNode)
    for number in range(chartNode.GetNumberOfPlotSeriesNodes()):
        _addSeries(chart, chartNode.GetNthPlotSeriesNode(number))
    view.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    columns, rows, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1, :, :3].copy()


def _dress(chart: Any, node: Any) -> None:
    """Title, axes, legend."""
    chart.SetTitle(node.GetTitle() if node.GetTitleVisibility() else "")
    chart.GetTitleProperties().SetFontSize(node.GetTitleFontSize())
    chart.GetTitleProperties().SetFontFamilyAsString(_FONT)
    chart.SetShowLegend(bool(node.GetLegendVisibility()))
    chart.GetLegend().SetLabelSize(node.GetLegendFontSize())
    for axis, which in ((chart.GetAxis(vtk.vtkAxis.BOTTOM), "X"), (chart.GetAxis(vtk.vtkAxis.LEFT), "Y")):
        shown = getattr(node, f"Get{which}AxisTitleVisibility")()
        axis.SetTitle(getattr(node, f"Get{which}AxisTitle")() or "" if shown else "")
        axis.SetGridVisible(bool(node.GetGridVisibility()))
        axis.GetTitleProperties().SetFontSize(node.GetAxisTitleFontSize())
        axis.GetLabelProperties().SetFontSize(node.GetAxisLabelFontSize())
        if not getattr(node, f"Get{which}AxisRangeAuto")():
            low, high = getattr(node, f"Get{which}AxisRange")()
            axis.SetBehavior(vtk.vtkAxis.FIXED)
            axis.SetRange(low, high)


def _addSeries(chart: Any, node: Any) -> None:
    plot = chart.AddPlot(vtk.vtkChart.LINE)
    table = node.GetTableNode().GetTable()
    plot.SetInputData(table, node.GetXColumnName(), node.GetYColumnName())
    plot.SetUseIndexForXSeries(node.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeLine)
    plot.SetColorF(*node.GetColor())
    plot.SetWidth(node.GetLineWidth())
    plot.SetMarkerSize(node.GetMarkerSize())
    plot.SetMarkerStyle(node.GetMarkerStyle())
    plot.SetLabel(node.GetName())
