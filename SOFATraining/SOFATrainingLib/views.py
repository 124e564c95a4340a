"""A layout for watching: the preview on the left, loss above Dice on the right; and the way back from it."""

from __future__ import annotations

from typing import Any

import slicer

from SOFASegmentLib.scene_state import nodesByClass
from SOFATrainingLib.state import DICE_CHART, LOSS_CHART, PREVIEW_VOLUME, TrainingState

#: Numbers below 100 are Slicer's own layouts.
LAYOUT = 5071
_SLICE = "Red"
_PLOTS = {"SOFATrainingLoss": LOSS_CHART, "SOFATrainingDice": DICE_CHART}
_BEFORE = "SOFA.layoutBefore"
_DESCRIPTION = """
<layout type="horizontal" split="true">
 <item><view class="vtkMRMLSliceNode" singletontag="Red">
  <property name="orientation" action="default">Axial</property>
  <property name="viewlabel" action="default">R</property>
  <property name="viewcolor" action="default">#F34A33</property>
 </view></item>
 <item><layout type="vertical" split="true">
  <item><view class="vtkMRMLPlotViewNode" singletontag="SOFATrainingLoss">
   <property name="viewlabel" action="default">L</property>
  </view></item>
  <item><view class="vtkMRMLPlotViewNode" singletontag="SOFATrainingDice">
   <property name="viewlabel" action="default">D</property>
  </view></item>
 </layout></item>
</layout>"""


def curvesShown(state: TrainingState) -> bool:
    """Whether the layout for watching is the one that is shown."""
    layout = _layout(state)
    return layout is not None and layout.GetViewArrangement() == LAYOUT


def setCurvesShown(state: TrainingState, shown: bool) -> None:
    """Show the layout for watching, or go back to what was shown before."""
    layout = _layout(state)
    if layout is None or shown == curvesShown(state):
        return
    if shown:
        state.node.SetParameter(_BEFORE, _remembered(state, layout))
        if not layout.IsLayoutDescription(LAYOUT):
            layout.AddLayoutDescription(LAYOUT, _DESCRIPTION)
        layout.SetViewArrangement(LAYOUT)
        connectViews(state)
    else:
        _bringBack(state, layout, state.node.GetParameter(_BEFORE) or "")
        state.node.UnsetParameter(_BEFORE)


def connectViews(state: TrainingState) -> None:
    """Let the layout's views show the charts and the preview that the scene has by now."""
    if not curvesShown(state):
        return
    for tag, role in _PLOTS.items():
        chart, view = state.get(role), _plotView(state, tag)
        if chart is not None and view.GetPlotChartNodeID() != chart.GetID():
            view.SetPlotChartNodeID(chart.GetID())
    volume = state.get(PREVIEW_VOLUME)
    composite, sliceNode = _redSlice(state)
    if volume is None or composite is None or composite.GetBackgroundVolumeID() == volume.GetID():
        return
    composite.SetBackgroundVolumeID(volume.GetID())
    composite.SetForegroundVolumeID(None)
    composite.SetLabelVolumeID(None)
    _face(sliceNode, volume)


def facePreview(state: TrainingState) -> None:
    """Turn the view to the preview and fit it in; to be called again once a new layout has its size."""
    volume = state.get(PREVIEW_VOLUME)
    composite, sliceNode = _redSlice(state)
    if volume is not None and composite is not None and composite.GetBackgroundVolumeID() == volume.GetID():
        _face(sliceNode, volume)


def _face(sliceNode: Any, volume: Any) -> None:
    """Turn a slice view to a volume of one slice and fit it in."""
    sliceNode.RotateToVolumePlane(volume)
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    sliceNode.JumpSliceByCentering(*((bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)))
    columns, rows, _ = volume.GetImageData().GetDimensions()
    across, down = columns * volume.GetSpacing()[0], rows * volume.GetSpacing()[1]
    width, height, _ = sliceNode.GetDimensions()
    scale = 1.05 * max(across / max(1, width), down / max(1, height))
    sliceNode.SetFieldOfView(scale * max(1, width), scale * max(1, height), sliceNode.GetFieldOfView()[2])


def _remembered(state: TrainingState, layout: Any) -> str:
    composite, _ = _redSlice(state)
    ids = (
        (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), composite.GetLabelVolumeID())
        if (composite is not None)
        else ()
    )
    return " ".join([str(layout.GetViewArrangement()), *(each or "-" for each in ids)])


def _bringBack(state: TrainingState, layout: Any, remembered: str) -> None:
    arrangement, *ids = remembered.split() or [str(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)]
    layout.SetViewArrangement(int(arrangement))
    composite, _ = _redSlice(state)
    if composite is None or len(ids) != 3:
        return
    background, foreground, label = (each if state.scene.GetNodeByID(each) else None for each in ids)
    composite.SetBackgroundVolumeID(background)
    composite.SetForegroundVolumeID(foreground)
    composite.SetLabelVolumeID(label)


def _layout(state: TrainingState) -> Any:
    return next(iter(nodesByClass(state.scene, "vtkMRMLLayoutNode")), None) if state.scene is not None else None


def _redSlice(state: TrainingState) -> tuple[Any, Any]:
    composites = nodesByClass(state.scene, "vtkMRMLSliceCompositeNode")
    slices = nodesByClass(state.scene, "vtkMRMLSliceNode")
    composite = next((node for node in composites if node.GetLayoutName() == _SLICE), None)
    sliceNode = next((node for node in slices if node.GetLayoutName() == _SLICE), None)
    return (composite, sliceNode) if sliceNode is not None else (None, None)


def _plotView(state: TrainingState, tag: str) -> Any:
    """Return the plot view of the layout; where no application has made it yet, it is made here."""
    node = state.scene.GetSingletonNode(tag, "vtkMRMLPlotViewNode")
    if node is None:
        node = slicer.vtkMRMLPlotViewNode()
        node.SetLayoutName(tag)
        node = state.scene.AddNode(node)
    return node
