"""One visitor's scene and what is being done in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sofa_engine.discovery import UnmatchedError
from sofa_engine.errors import SofaError
from sofa_engine.naming import modality_of, tokens_of
from SOFASegmentLib import SceneState, SegmentController, Signal, case_files, volumes
from SOFASegmentLib.scene_state import CONFIDENCE, nodesByClass
from SOFASegmentLib.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sofa_engine.api import Session
    from sofa_engine.types import Modality
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

    Signals: `opened(notes)` when another case is in the scene and `controller` is its controller; `chosen()` when
    other volumes of it were chosen as its sequences.

    Attributes:
        title: what to call the case.
        matched: whether the volumes' names said which sequence each is; otherwise the user has to.
        work: what the user would lose of `controller`'s result.
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
        self.opened, self.chosen = Signal(), Signal()
        self.title = ""
        self.matched = True
        self._scheduler = scheduler
        self._open_session = openSession
        self.controller = SegmentController(self.state, scheduler, openSession)
        self.work = Work(self.controller)

    def open_case(self, folder: Path, title: str | None = None) -> None:
        """Put a case into the scene in place of the one that is there.

        Args:
            folder: its files.
            title: what to call it where its files' names do not say more than a sequence; the folder's name if None.

        Raises:
            InputError: the folder holds no case that can be read; what was open stays.
        """
        before = [node for name in _CASE_NODES for node in nodesByClass(self.scene, name)]
        matched = True
        try:
            loaded, notes = case_files.loadCase(self.scene, folder)
        except UnmatchedError:
            matched, notes = False, ()
            loaded = _unmistakable(case_files.loadVolumes(self.scene, folder))
        self.controller.close()
        for node in before:
            if self.scene.IsNodePresent(node) and node.GetSingletonTag() is None:
                self.scene.RemoveNode(node)
        self.state = SceneState.fromScene(self.scene)
        self.state.locked = ()
        self.state.setInputs(loaded)
        self.matched = matched
        named = (self.state.reference() or self.volumes()[0]).GetName()
        self.title = named if len(tokens_of(named)) > 1 else title or folder.name
        self._renew(notes)

    def volumes(self) -> list[Any]:
        """Return the case's volume nodes, whether they are one of its sequences or not."""
        return [node for node in volumes.scalarVolumes(self.scene) if node is not self.state.get(CONFIDENCE)]

    def choose(self, nodes: Mapping[Modality, Any]) -> None:
        """Say which volume is which sequence; a result that is shown stays until Segment is pressed again."""
        self.state.setInputs(nodes)
        self.chosen.emit()

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
        self.work = Work(self.controller)
        self.opened.emit(notes)


def _unmistakable(nodes: Iterable[Any]) -> dict[Modality, Any]:
    """Return the volumes whose names alone claim a sequence."""
    claims: dict[Modality, list[Any]] = {}
    for node in nodes:
        modality = modality_of(node.GetName())
        if modality is not None:
            claims.setdefault(modality, []).append(node)
    return {modality: claimants[0] for modality, claimants in claims.items() if len(claimants) == 1}
