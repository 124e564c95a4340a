"""What a face commands and listens to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import Any

from sofa_engine.api import ModelInfo, Session
from sofa_engine.errors import InputError, SofaError
from sofa_engine.progress import Progress
from sofa_engine.types import SUB_REGIONS, Box, Modality, SubRegion
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.insights import Insights
from SOFASegmentLib.interaction import Interaction, newBox
from SOFASegmentLib.jobs import CHANGING, Job, JobQueue, Kind, unforeseen, wasCancelled
from SOFASegmentLib.live_case import LiveCase, Opened, OpenSession, Saved, gridsOf, openCase
from SOFASegmentLib.review import Review
from SOFASegmentLib.scene_state import SceneState
from SOFASegmentLib.scene_watch import SceneWatch
from SOFASegmentLib.scheduler import Scheduler
from SOFASegmentLib.signals import Signal
from SOFASegmentLib.volumes import caseFromVolumes, stampsOf


class Phase(Enum):
    """Where a case stands."""

    IDLE = "idle"
    RUNNING = "running"
    READY = "ready"


class SegmentController:
    """Segments the volumes that a `SceneState` names, and keeps the scene and the session alike from then on.

    All methods are called on the main thread and return at once; all signals are emitted on the main thread.
    """

    def __init__(
        self,
        state: SceneState,
        scheduler: Scheduler,
        openSession: OpenSession,
        getSetup: Callable[[], object] = lambda: None,
    ) -> None:
        """Listen to a scene; nothing is computed yet.

        Args:
            state: the scene's memory.
            scheduler: how to wait and how to leave the main thread.
            openSession: makes a session for a case; called in the background.
            getSetup: returns what `openSession` depends on beside the case, to be compared; where it differs, the same
                images are opened anew.
        """
        self.phaseChanged, self.progressChanged = Signal(), Signal()
        self.labelsChanged, self.historyChanged, self.insightsChanged = Signal(), Signal(), Signal()
        self.warned, self.failed = Signal(), Signal()
        self.state = state
        self.phase = Phase.IDLE
        self.progress: Progress | None = None
        self._scheduler = scheduler
        self._openSession, self._getSetup = openSession, getSetup
        self._jobs = JobQueue(scheduler, self._onIdle)
        self._live: LiveCase | None = None
        self._interaction: Interaction | None = None
        self._inputs: dict[Modality, Any] = {}
        self._opened: tuple[Any, ...] = ()
        self._opening: dict[Modality, Any] = {}
        self._review = Review(state, self._jobs)
        self._review.insightsChanged.connect(self.insightsChanged.emit)
        self._review.failed.connect(self.failed.emit)
        self._watch = SceneWatch(state, scheduler)
        self._watch.closing.connect(self._drop)
        self._watch.replaced.connect(self._onReplaced)
        self._watch.removing.connect(self._onRemoving)

    @property
    def canUndo(self) -> bool:
        """Whether `undo` would change something."""
        return self._live is not None and self._live.canUndo

    @property
    def canRedo(self) -> bool:
        """Whether `redo` would change something."""
        return self._live is not None and self._live.canRedo

    @property
    def canResume(self) -> bool:
        """Whether the chosen volumes have a segmentation that `resume` would go on with: no session knows it yet."""
        node = None if self.phase is Phase.RUNNING else self.state.chosenSegmentation()
        return node is not None and (self._live is None or node is not self._live.segmentationNode)

    @property
    def insights(self) -> Insights | None:
        """Volumes, attention and uncertain slices of the result; None until they have been asked for."""
        return self._review.insights

    @property
    def changing(self) -> bool:
        """Whether the user's hand, or what it caused, is changing the result right now."""
        live, interaction = self._live, self._interaction
        if live is None or interaction is None:
            return False
        return live.boxNodes.dragging is not None or interaction.pending or self._jobs.has(CHANGING | {Kind.PREVIEW})

    @property
    def measured(self) -> bool:
        """Whether `insights` tells of the result as it is."""
        return self._review.current and not self.changing

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about the case that the user should read."""
        return () if self._live is None else self._live.warnings

    @property
    def model(self) -> ModelInfo | None:
        """Which model answered."""
        return None if self._live is None else self._live.model

    @property
    def live(self) -> LiveCase | None:
        """The session with what the scene shows of it, for exporting."""
        return self._live

    @property
    def inputs(self) -> dict[Modality, Any]:
        """The volume nodes that the live case was opened on, by sequence; empty without one."""
        return dict(self._inputs)

    @property
    def sameInputs(self) -> bool:
        """Whether what is chosen now is what the live case was opened on; a volume that was deleted does not count."""
        return self.state.inputs() == {m: n for m, n in self._inputs.items() if n.GetScene() is not None}

    def segment(self) -> None:
        """Run the first pass on the chosen volumes; what was there before stays until it succeeds."""
        self._open(None)

    def resume(self) -> None:
        """Bring a session to where the scene is: after it was opened from a file, or for another of its studies."""
        node = self.state.chosenSegmentation()
        if node is None:
            self.failed.emit(_("The scene holds no segmentation to go on with; press Segment to start one."))
            return
        self._open(node)

    def cancel(self) -> None:
        """Stop what is running; the scene stays as it was before."""
        self._jobs.cancelAll()

    def undo(self) -> None:
        """Take back the last change of boxes or voxels."""
        if self._interaction is not None:
            self._interaction.travel(forward=False)

    def redo(self) -> None:
        """Repeat what was last undone."""
        if self._interaction is not None:
            self._interaction.travel(forward=True)

    def resetBox(self, subRegion: SubRegion) -> None:
        """Go back to the boxes that the first pass made."""
        if self._interaction is not None:
            self._interaction.refineWith(subRegion, lambda live: live.facts.firstBoxes[subRegion])

    def addBox(self, subRegion: SubRegion, centreRas: Any = None) -> None:
        """Add a box, where the first pass found none or for one more lesion.

        Args:
            subRegion: whose box.
            centreRas: middle of the box in world RAS mm; if None, where the visible slices cross inside the volume, or
                else the middle of the tumour or of the volume.
        """
        if self._interaction is not None:
            self._interaction.refineWith(
                subRegion, lambda live: (*live.boxNodes.read(subRegion), newBox(live, centreRas))
            )

    def deleteBox(self, roiNode: Any) -> None:
        """Remove one of SOFA's boxes; without its last box a sub-region is empty."""
        if self.state.subRegionOf(roiNode) is not None:
            self.state.scene.RemoveNode(roiNode)

    def splitLesions(self, subRegion: SubRegion) -> None:
        """Give every lesion of a sub-region a box of its own."""
        if self._interaction is not None:
            self._interaction.splitLesions(subRegion)

    def isLocked(self, subRegion: SubRegion) -> bool:
        """Whether a sub-region keeps every voxel it has."""
        return subRegion in self.state.locked

    def setLocked(self, subRegion: SubRegion, locked: bool) -> None:
        """Lock or unlock a sub-region and the handles of its boxes."""
        self.state.locked = self.state.locked | {subRegion} if locked else self.state.locked - {subRegion}
        if self._live is not None:
            self._live.boxNodes.setLocked(subRegion, locked)

    def boxesVisible(self) -> bool:
        """Whether boxes are shown."""
        return any(node.GetDisplayVisibility() for r in SUB_REGIONS for node in self.state.boxNodes(r))

    def setBoxesVisible(self, visible: bool) -> None:
        """Show or hide all boxes."""
        for subRegion in SUB_REGIONS:
            for node in self.state.boxNodes(subRegion):
                node.SetDisplayVisibility(visible)

    def setSurfacesVisible(self, visible: bool) -> None:
        """Show or hide the segments in 3D."""
        if self._live is not None:
            self._live.view.segments.setSurfacesVisible(visible)

    def nextUncertainSlice(self, step: int = 1) -> None:
        """Turn the views to the next slice worth a look, or with -1 to the one before."""
        self._review.nextUncertainSlice(step)

    def jumpToSlice(self, index: int) -> None:
        """Turn all slice views to a slice of the session's grid (axis 0), centred on the tumour."""
        self._review.jumpToSlice(index)

    def slicePosition(self, index: int) -> str:
        """Return where a slice of the session's grid (axis 0) lies, as the slice views say it ("S: 12.5 mm")."""
        return self._review.slicePosition(index)

    def showTumour(self) -> None:
        """Turn all slice views to the middle of the tumour."""
        self._review.showTumour()

    def confidenceVisible(self) -> bool:
        """Whether the confidence is to lie over the slice views."""
        return self._review.wantsConfidence

    def setConfidenceVisible(self, visible: bool) -> None:
        """Lay the confidence over the slice views, or take it away."""
        self._review.setConfidenceVisible(visible)

    def close(self) -> None:
        """Let go of scene and session; nodes stay. The controller cannot be used afterwards."""
        self._drop()
        self._watch.close()

    def _open(self, keep: Any) -> None:
        """Open the chosen volumes; `keep` is the segmentation node to go on with, if any."""
        if self.phase is Phase.RUNNING:
            return
        nodes, modality = self.state.inputs(), self.state.referenceModality()
        try:
            if modality is None:
                raise InputError(_("No volume is chosen; choose at least one of T1, T1c, T2 and FLAIR."))
            case = caseFromVolumes(nodes, modality)
            grids = gridsOf(case, nodes[modality])
            saved = None if keep is None else Saved.of(self.state, keep, nodes[modality], grids)
        except SofaError as error:
            self.failed.emit(str(error))
            return
        key = (self._getSetup(), *stampsOf(nodes))
        session = self._live.session if self._live is not None and key == self._opened else None
        if self._interaction is not None:
            self._interaction.takeOverEdits()
        self._opening = nodes
        self._setPhase(Phase.RUNNING)
        self._jobs.overtake({Kind.PREVIEW, Kind.INSIGHTS})
        self._jobs.submit(
            Job(
                Kind.OPEN,
                lambda cancel, _emit: openCase(
                    case, grids, session, self._openSession, saved, self._tellProgress, cancel
                ),
                onDone=lambda opened: self._onOpened(opened, nodes, key, nodes[modality], saved),
                onFailed=self._onNotOpened,
                onUnwanted=lambda opened: self._free(opened.session),
            )
        )

    def _onOpened(
        self, opened: Opened, nodes: dict[Modality, Any], key: tuple[Any, ...], volumeNode: Any, saved: Saved | None
    ) -> None:
        try:
            if self.state.inputs() != nodes:
                raise InputError(_("The chosen volumes changed while they were segmented; press Segment again."))
            if saved is not None and saved.node.GetScene() is None:
                raise InputError(_("The segmentation was removed from the scene; press Segment to start again."))
            self._show(opened, volumeNode, saved)
        except Exception as error:
            # Without a case there is something to press; with half of one there would only be Cancel.
            self._drop()
            self._free(opened.session)
            if not isinstance(error, SofaError):
                logging.exception("SOFA: a segmented case could not be shown")
            self._onNotOpened(error if isinstance(error, SofaError) else unforeseen(error))
            return
        self._inputs, self._opened = nodes, key
        self._setPhase(Phase.READY)
        for warning in opened.warnings:
            self.warned.emit(warning)
        self._onChanged(Box((0, 0, 0), self._live.grids.reference.shape))

    def _show(self, opened: Opened, volumeNode: Any, saved: Saved | None) -> None:
        previous = self._live
        self._letGo()
        # What was asked of the former case meanwhile, such as a drag of its boxes, must not reach this one.
        self._jobs.overtake(set(Kind))
        self._live = LiveCase(self.state, opened, volumeNode, saved)
        if previous is not None and previous.session is not opened.session:
            self._free(previous.session)
        self._review.follow(self._live)
        self._interaction = Interaction(self._live, self._jobs, self._scheduler)
        self._interaction.changed.connect(self._onChanged)
        self._interaction.failed.connect(self.failed.emit)
        self._interaction.progressed.connect(self._onProgress)
        # Segment Editor was free while the session was brought to where the scene had been.
        self._interaction.takeOverEdits()

    def _onNotOpened(self, error: SofaError) -> None:
        self._setPhase(Phase.IDLE if self._live is None else Phase.READY)
        if not wasCancelled(error):
            self.failed.emit(str(error))

    def _onChanged(self, extent: Box | None) -> None:
        if extent is not None:
            self.labelsChanged.emit(extent)
            self._review.outdate()
        self.historyChanged.emit()
        if extent is None:
            # A box that was put back where it was leaves no work behind whose end would bring the figures up to date.
            self._review.refresh()

    def _onIdle(self) -> None:
        if self._interaction is not None:
            self._interaction.onIdle()
        self._review.refresh()

    def _tellProgress(self, progress: Progress) -> None:
        self._scheduler.post(lambda: self._onProgress(progress))

    def _onProgress(self, progress: Progress) -> None:
        self.progress = progress
        self.progressChanged.emit(progress)

    def _setPhase(self, phase: Phase) -> None:
        self.phase, self.progress = phase, None
        self.phaseChanged.emit(phase)

    def _onReplaced(self) -> None:
        """Let go of a case if an added scene had one: its choice of volumes has been copied over ours."""
        if self.phase is not Phase.IDLE:
            self._drop()
            self.warned.emit(
                _("The added scene has its own volumes chosen; go on with those or choose the former again.")
            )

    def _onRemoving(self, node: Any) -> None:
        live = self._live
        if live is not None and node in (live.segmentationNode, live.volumeNode):
            sentence = (
                _("The segmentation was removed from the scene; press Segment to start again.")
                if node is live.segmentationNode
                else _("The reference volume was removed from the scene; press Segment to start again.")
            )
            self._drop()
            self.warned.emit(sentence)
        elif self.phase is Phase.RUNNING and node in self._opening.values():
            sentence = _(
                "{volume} was removed from the scene while it was segmented; choose the volumes again and press"
                " Segment."
            )
            if live is None:
                self._drop()
            else:
                self.cancel()
            self.warned.emit(sentence.format(volume=node.GetName()))

    def _letGo(self) -> None:
        if self._interaction is not None:
            self._interaction.close()
        if self._live is not None:
            self._live.close()
        self._interaction = None

    def _free(self, session: Session) -> None:
        self._scheduler.runInBackground(session.close)

    def _drop(self) -> None:
        """Forget the session and everything that is under way."""
        self._jobs.abandon()
        self._letGo()
        if self._live is not None:
            self._free(self._live.session)
        self._live, self._inputs, self._opened, self._opening = None, {}, (), {}
        self._review.follow(None)
        if self.phase is not Phase.IDLE:
            self._setPhase(Phase.IDLE)
