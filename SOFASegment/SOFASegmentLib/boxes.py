"""The boxes that the user drags: one vtkMRMLMarkupsROINode per box of the session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import slicer
import vtk

from sofa_engine.geometry import Geometry
from sofa_engine.types import SUB_REGIONS, Box, SubRegion
from SOFASegmentLib.appearance import COLOURS, titleOf
from SOFASegmentLib.geometry import boxOfRoi, placeRoi
from SOFASegmentLib.grids import GridMap
from SOFASegmentLib.hierarchy import placeBeside
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.scene_state import SceneState
from SOFASegmentLib.signals import Signal


def readBoxes(roiNodes: Iterable[Any], volumeNode: Any, geometry: Geometry) -> tuple[Box, ...]:
    """Return the voxels of a grid in the volume's coordinates that ROI nodes hold; those outside are left out."""
    boxes = [boxOfRoi(node, volumeNode, geometry) for node in roiNodes]
    return tuple(box for box in boxes if box is not None)


class BoxNodes(slicer.util.VTKObservationMixin):
    """Keeps the ROI nodes and the session's boxes alike, and tells what the user does to the nodes.

    Signals: `grabbed(subRegion)` and `released(subRegion)` around a drag by its handles, `dragged(subRegion)` for
    every move in between, `moved(subRegion)` when a box was moved without handles (by a script, Slicer's undo or a
    transform), `removed(subRegion)` when the user deleted a box.
    """

    def __init__(self, state: SceneState, volumeNode: Any, grids: GridMap) -> None:
        super().__init__()
        self.grabbed, self.dragged, self.released = Signal(), Signal(), Signal()
        self.moved, self.removed = Signal(), Signal()
        self.dragging: SubRegion | None = None
        self._state = state
        self._volumeNode = volumeNode
        self._geometry = grids.working
        self._writing = False
        self.addObserver(state.scene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved)
        for subRegion in SUB_REGIONS:
            for node in state.boxNodes(subRegion):
                self._observe(node)

    def close(self) -> None:
        """Stop listening; the nodes stay in the scene."""
        self.removeObservers()

    def follow(self, grids: GridMap) -> None:
        """Take the grids anew: the volume took a transform in."""
        self._geometry = grids.working

    def read(self, subRegion: SubRegion) -> tuple[Box, ...]:
        """Return the voxels inside the ROI nodes of a sub-region, those outside the volume left out."""
        return readBoxes(self._state.boxNodes(subRegion), self._volumeNode, self._geometry)

    def show(self, subRegion: SubRegion, boxes: Sequence[Box]) -> None:
        """Lay out the ROI nodes of a sub-region as the session has its boxes, adding and removing nodes as needed."""
        self._writing = True
        try:
            nodes = self._state.boxNodes(subRegion)
            for extra in nodes[len(boxes) :]:
                self._state.scene.RemoveNode(extra)
            nodes = nodes[: len(boxes)]
            nodes += [self._create(subRegion) for _ in boxes[len(nodes) :]]
            for node, box in zip(nodes, boxes, strict=True):
                if node.GetTransformNodeID() != self._volumeNode.GetTransformNodeID():
                    node.SetAndObserveTransformNodeID(self._volumeNode.GetTransformNodeID())
                placeRoi(node, box, self._geometry)
            self._state.setBoxNodes(subRegion, nodes)
        finally:
            self._writing = False

    def setVisible(self, visible: bool) -> None:
        """Show or hide all boxes."""
        for subRegion in SUB_REGIONS:
            for node in self._state.boxNodes(subRegion):
                node.SetDisplayVisibility(visible)

    def visible(self) -> bool:
        """Whether any box is shown."""
        return any(node.GetDisplayVisibility() for r in SUB_REGIONS for node in self._state.boxNodes(r))

    def setLocked(self, subRegion: SubRegion, locked: bool) -> None:
        """Take the handles of a sub-region's boxes away or give them back."""
        for node in self._state.boxNodes(subRegion):
            node.SetLocked(locked)

    def _create(self, subRegion: SubRegion) -> Any:
        scene = self._state.scene
        visible = self.visible() or not any(self._state.boxNodes(r) for r in SUB_REGIONS)
        name = _("{subRegion} box").format(subRegion=titleOf(subRegion))
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", scene.GenerateUniqueName(name))
        node.CreateDefaultDisplayNodes()
        node.SetAndObserveTransformNodeID(self._volumeNode.GetTransformNodeID())
        node.SetLocked(subRegion in self._state.locked)
        display = node.GetDisplayNode()
        display.SetColor(*COLOURS[subRegion])
        display.SetSelectedColor(*COLOURS[subRegion])
        # A box must not tint the grey values that it surrounds: they are what the user judges by.
        display.SetFillVisibility(False)
        display.SetOutlineOpacity(1.0)
        display.SetPropertiesLabelVisibility(False)
        display.SetHandlesInteractive(True)
        display.SetScaleHandleVisibility(True)
        display.SetTranslationHandleVisibility(True)
        display.SetRotationHandleVisibility(False)
        display.SetVisibility(visible)
        placeBeside(node, self._volumeNode)
        self._observe(node)
        return node

    def _observe(self, node: Any) -> None:
        markups = slicer.vtkMRMLMarkupsNode
        self.addObserver(node, markups.PointStartInteractionEvent, self._onGrabbed)
        self.addObserver(node, markups.PointModifiedEvent, self._onMoved)
        self.addObserver(node, markups.PointEndInteractionEvent, self._onReleased)
        self.addObserver(node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._onMoved)

    def _onGrabbed(self, node: Any, _event: str) -> None:
        self.dragging = self._state.subRegionOf(node)
        if self.dragging is not None:
            self.grabbed.emit(self.dragging)

    def _onMoved(self, node: Any, _event: str) -> None:
        subRegion = self._state.subRegionOf(node)
        if self._writing or subRegion is None:
            return
        (self.dragged if subRegion is self.dragging else self.moved).emit(subRegion)

    def _onReleased(self, node: Any, _event: str) -> None:
        subRegion = self._state.subRegionOf(node)
        self.dragging = None
        if subRegion is not None:
            self.released.emit(subRegion)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, scene: Any, _event: str, node: Any) -> None:
        """Listen before the node goes, since its reference goes with it."""
        subRegion = self._state.subRegionOf(node)
        if subRegion is None:
            return
        self.removeObserver(node, slicer.vtkMRMLMarkupsNode.PointStartInteractionEvent, self._onGrabbed)
        self.removeObserver(node, slicer.vtkMRMLMarkupsNode.PointModifiedEvent, self._onMoved)
        self.removeObserver(node, slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent, self._onReleased)
        self.removeObserver(node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._onMoved)
        if not self._writing and not scene.IsClosing():
            self.removed.emit(subRegion)
