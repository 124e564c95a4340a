"""One visitor's scene and what is being done in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sofa_engine.errors import SofaError
from SOFASegmentLib import SceneState, SegmentController, Signal, case_files, volumes
from SOFASegmentLib.scene_state import nodesByClass

if TYPE_CHECKING:
    from sofa_engine.api import Session
    from SOFASegmentLib.scheduler import Scheduler

#: What a case leaves in the scene; the rest (views, cameras, colours) belongs to the visitor.
_CASE_NODES = (
    "vtkMRMLScalarVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLMarkupsROINode",
    "vtkMRMLTableNode",
    "vtkMRMLPlotSeriesNode",
    "vtkMRMLPlotChartNode",
    "vtkMRMLModelNode",
)


class Workspace:
    """The scene, its state and the controller of the case that is open.

    Signals: `opened(notes)` when another case is in the scene and `controller` is its controller.
    """

    def __init__(self, scene: Any, scheduler: Scheduler, openSession: Callable[..., Session]) -> None:  # noqa: N803
        """Begin with an empty scene.

        Args:
            scene: the visitor's scene.
            scheduler: see `SOFASegmentLib.scheduler`.
            openSession: see `SOFASegmentLib.SegmentController`.
        """
        self.scene = scene
        self.state = SceneState.fromScene(scene)
        self.opened = Signal()
        self._scheduler = scheduler
        self._open_session = openSession
        self.controller = SegmentController(self.state, scheduler, openSession)

    def open_case(self, folder: Path) -> None:
        """Put a case into the scene in place of the one that is there.

        Raises:
            InputError: the folder holds no case that can be read; what was open stays.
        """
        before = [node for name in _CASE_NODES for node in nodesByClass(self.scene, name)]
        loaded, notes = case_files.loadCase(self.scene, folder)
        self.controller.close()
        for node in before:
            if self.scene.IsNodePresent(node) and node.GetSingletonTag() is None:
                self.scene.RemoveNode(node)
        self.state = SceneState.fromScene(self.scene)
        self.state.locked = ()
        self.state.setInputs(loaded)
        self._renew(notes)

    def align(self) -> None:
        """Resample the volumes that do not lie on the reference's grid.

        Raises:
            SofaError: a volume shares no space with the reference.
        """
        modality = self.state.referenceModality()
        if modality is None:
            raise SofaError("No case is open; open one first.")
        self.state.setInputs(volumes.align(self.state.inputs(), modality))
        self.controller.close()
        self._renew(())

    def close(self) -> None:
        """Let go of the session."""
        self.controller.close()

    def _renew(self, notes: tuple[str, ...]) -> None:
        self.controller = SegmentController(self.state, self._scheduler, self._open_session)
        self.opened.emit(notes)
