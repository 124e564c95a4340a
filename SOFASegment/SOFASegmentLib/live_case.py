"""One session and what the scene shows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from sofa_engine.api import ModelInfo, Session
from sofa_engine.case import Case
from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.progress import CancelToken, ProgressCallback
from sofa_engine.types import SUB_REGIONS, Box, Patch, SubRegion
from sofa_engine.working_grid import WorkingGrid, to_working
from SOFASegmentLib.boxes import BoxNodes, readBoxes
from SOFASegmentLib.geometry import localGeometry
from SOFASegmentLib.grids import Edit, GridMap
from SOFASegmentLib.labels import LabelView
from SOFASegmentLib.placement import displacedSentence, gridIn, takeAlong
from SOFASegmentLib.scene_state import SceneState
from SOFASegmentLib.segments import Segments, createSegmentationNode

#: Opens a session for a case on its working grid; runs in the background.
OpenSession = Callable[[Case, ProgressCallback, CancelToken], Session]


@dataclass(frozen=True)
class Facts:
    """What the session said after it changed, fetched in the background so that the main thread never waits for it."""

    boxes: Mapping[SubRegion, tuple[Box, ...]]
    firstBoxes: Mapping[SubRegion, tuple[Box, ...]]
    canUndo: bool
    canRedo: bool

    @staticmethod
    def of(session: Session) -> Facts:
        """Ask a session; call in the background."""
        return Facts(session.boxes(), session.first_boxes(), session.can_undo(), session.can_redo())


@dataclass(frozen=True)
class Opened:
    """What comes out of the background when a case has been segmented for the first time."""

    session: Session
    grids: GridMap
    labels: np.ndarray
    facts: Facts
    warnings: tuple[str, ...]
    model: ModelInfo


@dataclass(frozen=True)
class Saved:
    """What a scene held when it was gone on with.

    Attributes:
        node: the segmentation.
        labels: its voxels, uint8 (D, H, W) on the reference grid.
        stamp: of its segments when they were read; another one means that somebody painted since.
        boxes: on the working grid.
    """

    node: Any
    labels: np.ndarray
    stamp: tuple[Any, ...]
    boxes: Mapping[SubRegion, tuple[Box, ...]]

    @classmethod
    def of(cls, state: SceneState, segmentationNode: Any, volumeNode: Any, grids: GridMap) -> Saved:
        """Read a segmentation and its boxes where the volume is now.

        Raises:
            InputError: the segmentation does not lie on the volume.
        """
        # What was put under a transform had no session to see it.
        takeAlong(state, segmentationNode, volumeNode)
        segments = Segments(segmentationNode, _gridIn(segmentationNode, volumeNode))
        rois = {r: state.boxNodes(r, segmentationNode) for r in SUB_REGIONS}
        boxes = {r: readBoxes(nodes, volumeNode, grids.working) for r, nodes in rois.items()}
        return cls(segmentationNode, segments.readLabels(), segments.stamp(), boxes)


def openCase(
    case: Case,
    grids: GridMap,
    session: Session | None,
    openSession: OpenSession,
    saved: Saved | None,
    progress: ProgressCallback,
    cancel: CancelToken,
) -> Opened:
    """Run the first pass and bring the session to where a saved scene was; runs in the background.

    Args:
        case: on the reference grid.
        grids: the two grids.
        session: one that holds the same images already, or None.
        openSession: makes one.
        saved: what to go on from, or None for a fresh start.
        progress: told how far it is.
        cancel: looked at between batches.
    """
    opened = openSession(to_working(case), progress, cancel) if session is None else session
    try:
        opened.first_pass(progress=progress, cancel=cancel)
        if saved is not None:
            _restore(opened, grids, saved, cancel)
        return Opened(opened, grids, opened.labels(), Facts.of(opened), opened.warnings, opened.model)
    except BaseException:
        if session is None:
            opened.close()
        raise


def _restore(session: Session, grids: GridMap, saved: Saved, cancel: CancelToken) -> None:
    """Give the session the boxes of the scene, then the scene's voxels, which count as painted by hand."""
    for subRegion in SUB_REGIONS:
        if saved.boxes[subRegion] != session.boxes()[subRegion]:
            for _ in session.refine(subRegion, saved.boxes[subRegion], cancel=cancel):
                pass
    labels = session.labels()
    whole = Box((0, 0, 0), labels.shape)
    now = grids.toReference(Patch(whole, labels), labels)
    everywhere = Box((0, 0, 0), saved.labels.shape)
    known = np.zeros_like(saved.labels)
    known[now.extent.slices] = now.labels
    patch = grids.toWorking(Edit(everywhere, saved.labels, saved.labels != known), labels)
    if patch is not None:
        session.edit(patch)


def gridsOf(case: Case, volumeNode: Any) -> GridMap:
    """Return the grids of a case whose reference is `volumeNode`."""
    return GridMap(WorkingGrid.of(case.geometry), localGeometry(volumeNode))


def _gridIn(segmentationNode: Any, volumeNode: Any) -> Geometry:
    grid = gridIn(segmentationNode, volumeNode)
    if grid is None:
        raise InputError(displacedSentence(segmentationNode, volumeNode))
    return grid


class LiveCase(slicer.util.VTKObservationMixin):
    """Keeps segments and boxes in the scene as the session has them, and all of it where the volume is."""

    def __init__(self, state: SceneState, opened: Opened, volumeNode: Any, saved: Saved | None = None) -> None:
        """Show a session in the scene.

        Args:
            state: the scene's memory; gets a segmentation node if it has none on this grid.
            opened: what the background found.
            volumeNode: the volume whose grid the result is on.
            saved: what the session was brought to, whose segmentation must not be written: it may hold what was painted
                since; None to write what the session found.

        Raises:
            InputError: the saved segmentation does not lie on the volume any more.
        """
        super().__init__()
        self.state = state
        self.volumeNode = volumeNode
        self.session = opened.session
        # A transform that the volume took in meanwhile is in its own coordinates now.
        self.grids = GridMap(opened.grids.grid, localGeometry(volumeNode))
        self.facts = opened.facts
        self.warnings = opened.warnings
        self.model = opened.model
        self.resumed = saved is not None
        self._sessionLabels = opened.labels
        self._steps = 0
        self.segmentationNode = self._segmentationNode() if saved is None else saved.node
        state.showSegmentation(self.segmentationNode)
        takeAlong(state, self.segmentationNode, volumeNode)
        if saved is None and gridIn(self.segmentationNode, volumeNode) is None:
            # All that it holds of SOFA is written anew, and so is where it lies.
            self.segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
            takeAlong(state, self.segmentationNode, volumeNode)
        segments = Segments(self.segmentationNode, _gridIn(self.segmentationNode, volumeNode))
        if saved is None:
            self.view = LabelView(segments, segments.readLabels(), segments.stamp())
            whole = Box((0, 0, 0), self._sessionLabels.shape)
            nothing = np.zeros(self.grids.reference.shape, np.uint8)
            first = self.grids.toReference(Patch(whole, self._sessionLabels), self._sessionLabels)
            self.view.settle([Patch(Box((0, 0, 0), nothing.shape), nothing), first])
        else:
            self.view = LabelView(segments, saved.labels, saved.stamp)
        self.boxNodes = BoxNodes(state, self.volumeNode, self.grids)
        self.showBoxes()
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        self.addObserver(volumeNode, moved, self._onVolumeMoved)
        self.addObserver(self.segmentationNode, moved, self._onSegmentationMoved)

    @property
    def canUndo(self) -> bool:
        """Whether there is a step to undo that was made since the case was opened here."""
        return self.hasSteps and self.facts.canUndo

    @property
    def hasSteps(self) -> bool:
        """Whether steps were made since the case was opened here; those before are work that was saved."""
        return self._steps > 0

    @property
    def canRedo(self) -> bool:
        """Whether there is a step to redo."""
        return self.facts.canRedo

    def changed(self, patch: Patch, facts: Facts) -> frozenset[SubRegion]:
        """Return the sub-regions whose voxels or boxes differ between what is settled and a step that is not yet."""
        before = self._sessionLabels[patch.extent.slices]
        different = before != patch.labels
        values = {*np.unique(before[different]), *np.unique(patch.labels[different])}
        return frozenset(r for r in SUB_REGIONS if r.label in values or facts.boxes[r] != self.facts.boxes[r])

    def preview(self, patch: Patch) -> None:
        """Show a patch of the session's grid that is not settled."""
        self.view.preview(self.grids.toReference(patch, self._sessionLabels))

    def settle(self, patches: list[Patch], facts: Facts, steps: int) -> Box | None:
        """Take over what the session has settled.

        Args:
            patches: what changed, on the session's grid.
            facts: what the session says now.
            steps: by how many the history grew; -1 for an undo.

        Returns:
            The extent of the reference grid that changed, or None.
        """
        for patch in patches:
            self._sessionLabels[patch.extent.slices] = patch.labels
        extent = self.view.settle([self.grids.toReference(p, self._sessionLabels) for p in patches])
        if patches or facts.boxes != self.facts.boxes:
            self._steps = max(0, self._steps + steps)
        self.facts = facts
        return extent

    @property
    def sessionLabels(self) -> np.ndarray:
        """Labels as the session has them, on its working grid, uint8 (D, H, W), values of `SubRegion.label` and 0."""
        return self._sessionLabels

    def updateSurfaces(self) -> None:
        """Bring the surfaces in 3D up to date with what was written since they were last made."""
        self.view.segments.updateSurfaces(self.view.takeTouched())

    def userEdit(self) -> Patch | None:
        """Return what the user painted since the last look, on the session's grid, and count it as settled."""
        edit = self.view.userEdits()
        if edit is None:
            return None
        patch = self.grids.toWorking(edit, self._sessionLabels)
        # What the session holds already is no step of it, and must not be counted as one.
        if patch is None or np.array_equal(patch.labels, self._sessionLabels[patch.extent.slices]):
            return None
        self._sessionLabels[patch.extent.slices] = patch.labels
        return patch

    def editTaken(self, facts: Facts) -> None:
        """Note that the session has taken over what the user painted."""
        self.facts = facts
        self._steps += 1

    def showBoxes(self, subRegions: Sequence[SubRegion] = SUB_REGIONS) -> None:
        """Lay the ROI nodes out as the session has its boxes, except those in the user's hand."""
        for subRegion in subRegions:
            if subRegion is not self.boxNodes.dragging:
                self.boxNodes.show(subRegion, self.facts.boxes[subRegion])

    def close(self) -> None:
        """Stop listening to the scene; nodes and session stay."""
        self.boxNodes.close()
        self.removeObservers()

    def _onVolumeMoved(self, _volumeNode: Any, _event: str) -> None:
        takeAlong(self.state, self.segmentationNode, self.volumeNode)
        if gridIn(self.segmentationNode, self.volumeNode) is not None:
            self.grids = GridMap(self.grids.grid, localGeometry(self.volumeNode))
            self.boxNodes.follow(self.grids)

    def _onSegmentationMoved(self, _segmentationNode: Any, _event: str) -> None:
        """Read voxels where they are: a transform that the segmentation took in is no work of the user's on them."""
        grid = gridIn(self.segmentationNode, self.volumeNode)
        if grid is not None:
            self.view.segments.geometry = grid

    def _segmentationNode(self) -> Any:
        node = self.state.segmentationOn(self.volumeNode)
        return createSegmentationNode(self.volumeNode) if node is None else node
