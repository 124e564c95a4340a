"""What happens to a scene by other hands while a case is at work: it is closed, added to, or loses nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import slicer
import vtk

from SOFASegmentLib.scene_state import SEGMENTATION, SceneState
from SOFASegmentLib.scheduler import Scheduler
from SOFASegmentLib.signals import Signal


class SceneWatch(slicer.util.VTKObservationMixin):
    """Listens to a scene, and removes the boxes of a segmentation with it.

    Signals: `closing()`, before the scene is emptied; `replaced()`, after an added scene's choice of volumes or its
    segmentation took the place of what was chosen; `removing(node)`, before a node goes that is not going with all of
    the scene.
    """

    def __init__(self, state: SceneState, scheduler: Scheduler) -> None:
        super().__init__()
        self.closing, self.replaced, self.removing = Signal(), Signal(), Signal()
        self._state = state
        self._scheduler = scheduler
        self._before: tuple[Any, ...] = ()
        for event, call in (
            (slicer.vtkMRMLScene.StartCloseEvent, self._onClosing),
            (slicer.vtkMRMLScene.StartImportEvent, self._onImportStarts),
            (slicer.vtkMRMLScene.EndImportEvent, self._onImported),
            (slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved),
        ):
            self.addObserver(state.scene, event, call)

    def close(self) -> None:
        """Stop listening."""
        self.removeObservers()

    def _onClosing(self, _scene: Any, _event: str) -> None:
        self.closing.emit()

    def _onImportStarts(self, _scene: Any, _event: str) -> None:
        self._before = self._chosen()

    def _onImported(self, _scene: Any, _event: str) -> None:
        before, self._before = self._before, ()
        if before != self._chosen():
            self.replaced.emit()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, scene: Any, _event: str, node: Any) -> None:
        if scene.IsClosing():
            return
        if node.IsA("vtkMRMLSegmentationNode"):
            rois = self._state.allBoxNodes(node)
            self._scheduler.post(lambda: _removeAll(scene, rois))
        self.removing.emit(node)

    def _chosen(self) -> tuple[Any, ...]:
        return self._state.inputs(), self._state.get(SEGMENTATION)


def _removeAll(scene: Any, nodes: Iterable[Any]) -> None:
    for node in nodes:
        if scene.IsNodePresent(node):
            scene.RemoveNode(node)
