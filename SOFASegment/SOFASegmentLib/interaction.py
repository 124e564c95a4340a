"""What happens while the user works on a result: boxes dragged, voxels painted, steps undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import slicer

from sofa_engine.errors import InputError, SofaError
from sofa_engine.progress import CancelToken, Progress
from sofa_engine.types import SUB_REGIONS, Box, Patch, SubRegion
from SOFASegmentLib.appearance import titleOf
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.jobs import CHANGING, Job, JobQueue, Kind, wasCancelled
from SOFASegmentLib.live_case import Facts, LiveCase
from SOFASegmentLib.scheduler import Scheduler, Timer
from SOFASegmentLib.signals import Signal
from SOFASegmentLib.slices import cubeAround, indexOf, lookedAt, visibleSlices

#: Moves of the mouse that come closer together than this share one preview.
_DRAG_MS = 30
#: A box that is moved without handles counts as moved once it has been still for so long.
_MOVE_MS = 300
#: Strokes of Segment Editor that follow each other quickly are taken over together.
_PAINT_MS = 250
#: Surfaces take longer than all the rest: they follow once the slices have been drawn.
_SURFACES_MS = 150
#: Edge of a box that the user adds where the first pass found nothing.
_NEW_BOX_MM = 30.0


class Interaction(slicer.util.VTKObservationMixin):
    """Turns events of the boxes and the segments into the session's work, and its answers into the scene.

    Signals: `changed(Box | None)` when the session's state has changed, `failed(str)`, `progressed(Progress)`.
    """

    def __init__(self, live: LiveCase, jobs: JobQueue, scheduler: Scheduler) -> None:
        super().__init__()
        self.changed, self.failed, self.progressed = Signal(), Signal(), Signal()
        self._live = live
        self._jobs = jobs
        self._scheduler = scheduler
        self._timers: dict[Any, Timer] = {}
        self._outdated = False
        boxes = live.boxNodes
        boxes.grabbed.connect(self._onGrabbed)
        boxes.dragged.connect(self._onDragged)
        boxes.released.connect(lambda subRegion: self._later(subRegion, 0, lambda: self.refineAsDrawn(subRegion)))
        boxes.moved.connect(lambda subRegion: self._later(subRegion, _MOVE_MS, lambda: self.refineAsDrawn(subRegion)))
        boxes.removed.connect(lambda subRegion: self._later(subRegion, 0, lambda: self.refineAsDrawn(subRegion)))
        segmentation = live.view.segments.segmentation
        for event in (slicer.vtkSegmentation.SourceRepresentationModified, slicer.vtkSegmentation.SegmentRemoved):
            self.addObserver(segmentation, event, self._onSegmentsChanged)
        self._later("surfaces", _SURFACES_MS, self._updateSurfaces)

    @property
    def pending(self) -> bool:
        """Whether something that the user did is still to be handed to the session."""
        return self._outdated or any(key != "surfaces" for key in self._timers)

    def close(self) -> None:
        """Stop listening and drop what was put off."""
        self.removeObservers()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def refineAsDrawn(self, subRegion: SubRegion) -> None:
        """Refine a sub-region with its boxes as they lie in the scene."""
        boxes = self._live.boxNodes.read(subRegion)
        if subRegion in self._live.state.locked:
            self._showBoxes((subRegion,))
            # Boxes that moved along with their volume are where they were.
            if boxes != self._live.facts.boxes[subRegion]:
                self.failed.emit(lockedSentence(subRegion))
            return
        self.refine(subRegion, boxes)

    def refineWith(self, subRegion: SubRegion, boxes: Callable[[LiveCase], tuple[Box, ...]]) -> None:
        """Refine a sub-region with the boxes that are found for the case; what is wrong is said, as is a lock."""
        try:
            if subRegion in self._live.state.locked:
                raise InputError(lockedSentence(subRegion))
            wanted = boxes(self._live)
        except SofaError as error:
            self.failed.emit(str(error))
            return
        self.refine(subRegion, wanted)

    def splitLesions(self, subRegion: SubRegion) -> None:
        """Give every lesion of a sub-region a box of its own."""
        session = self._live.session
        self._jobs.submit(
            Job(
                Kind.INSIGHTS,
                lambda _cancel, _emit: session.lesion_boxes(subRegion),
                onDone=lambda boxes: self.refineWith(subRegion, lambda _live: _anyLesion(boxes)),
                onFailed=self._fail,
            )
        )

    def refine(self, subRegion: SubRegion, boxes: Sequence[Box]) -> None:
        """Refine a sub-region with these boxes; what is under way for it is overtaken."""
        self._drop(subRegion)
        pending = self._jobs.has(CHANGING)
        self._jobs.overtake({Kind.PREVIEW, Kind.INSIGHTS})
        self._jobs.overtake({Kind.REFINE}, subRegion)
        if tuple(boxes) == self._live.facts.boxes[subRegion] and not pending:
            self._live.view.takeBack()
            self._changedTo(None, (subRegion,))
            return
        self.takeOverEdits()
        session, locked = self._live.session, self._live.state.locked - {subRegion}
        seen = visibleSlices(self._live.volumeNode, self._live.grids.working).parallel
        patches: list[Patch] = []

        def work(cancel: CancelToken, emit: Callable[[Patch], None]) -> Facts:
            first = seen[0] if seen else None
            stream = session.refine(
                subRegion, boxes, first_slice=first, locked=locked, progress=self._tellProgress, cancel=cancel
            )
            for patch in stream:
                emit(patch)
            return Facts.of(session)

        def show(patch: Patch) -> None:
            patches.append(patch)
            self._live.preview(patch)

        def done(facts: Facts) -> None:
            self._changedTo(self._live.settle(patches, facts, steps=1), (subRegion,))

        self._jobs.submit(Job(Kind.REFINE, work, subRegion, show, done, lambda error: self._undone(error, subRegion)))

    def travel(self, *, forward: bool) -> None:
        """Undo, or redo if `forward`; a step that would change what is locked is not taken."""
        self._jobs.overtake({Kind.PREVIEW, Kind.INSIGHTS})
        self.takeOverEdits()
        locked = self._live.state.locked

        def work(_cancel: CancelToken, _emit: Any) -> tuple[Patch | None, Facts, SubRegion | None]:
            return self._step(forward, locked)

        def done(result: tuple[Patch | None, Facts, SubRegion | None]) -> None:
            patch, facts, keeper = result
            if keeper is not None:
                sentence = _("{subRegion} is locked; unlock it to undo or redo this step.")
                self.failed.emit(sentence.format(subRegion=titleOf(keeper)))
                return
            patches = [] if patch is None else [patch]
            self._changedTo(self._live.settle(patches, facts, steps=1 if forward else -1), SUB_REGIONS)

        self._jobs.submit(Job(Kind.HISTORY, work, onDone=done, onFailed=self._fail))

    def _step(self, forward: bool, locked: frozenset[SubRegion]) -> tuple[Patch | None, Facts, SubRegion | None]:
        """Take a step of the session's history and return what it changed; runs in the background.

        What a step changes is known once it is taken. One that changes a locked sub-region, which is returned, is taken
        back: a step there and back leaves every bit as it was.
        """
        session, live = self._live.session, self._live
        there, back = (session.redo, session.undo) if forward else (session.undo, session.redo)
        # Asked now and not when the key was pressed: jobs that waited before this one have been counted by now.
        patch = there() if forward or live.hasSteps else None
        facts = Facts.of(session)
        changed = frozenset() if patch is None else live.changed(patch, facts)
        keeper = next((r for r in SUB_REGIONS if r in changed & locked), None)
        if keeper is not None:
            back()
        return patch, facts, keeper

    def takeOverEdits(self) -> None:
        """Hand over to the session what the user painted, at once if it is not busy changing the segmentation."""
        if self._jobs.has(CHANGING):
            self._outdated = True
            return
        self._outdated = False
        self._drop("paint")
        patch = self._live.userEdit()
        if patch is None:
            return
        session = self._live.session

        def work(_cancel: CancelToken, _emit: Any) -> Facts:
            session.edit(patch)
            return Facts.of(session)

        def done(facts: Facts) -> None:
            self._live.editTaken(facts)
            self.changed.emit(patch.extent)

        self._jobs.submit(Job(Kind.EDIT, work, onDone=done, onFailed=self._fail))

    def onIdle(self) -> None:
        """Do what had to wait for the session."""
        if self._outdated:
            self.takeOverEdits()

    def _changedTo(self, extent: Box | None, subRegions: Sequence[SubRegion]) -> None:
        """Bring along what follows from new labels: boxes at once, surfaces when there is time."""
        self._showBoxes(subRegions)
        self._later("surfaces", _SURFACES_MS, self._updateSurfaces)
        self.changed.emit(extent)

    def _updateSurfaces(self) -> None:
        if self._live.boxNodes.dragging is None:
            self._live.updateSurfaces()

    def _onGrabbed(self, _subRegion: SubRegion) -> None:
        self.takeOverEdits()

    def _onDragged(self, subRegion: SubRegion) -> None:
        if subRegion not in self._timers:
            self._later(subRegion, _DRAG_MS, lambda: self._preview(subRegion))

    def _preview(self, subRegion: SubRegion) -> None:
        """Preview the slices that the user sees; while one is computed, the next waits, and only the newest does."""
        if self._live.boxNodes.dragging is not subRegion:
            return
        self._jobs.overtake({Kind.INSIGHTS})
        self._jobs.overtake({Kind.REFINE}, subRegion)
        self._jobs.overtake({Kind.PREVIEW})
        seen = visibleSlices(self._live.volumeNode, self._live.grids.working)
        boxes = self._live.boxNodes.read(subRegion)
        around = Box.enclosing([*boxes, *self._live.facts.boxes[subRegion]])
        inBox = range(0) if around is None else range(around.lower[0], around.upper[0])
        slices = [z for z in seen.parallel if z in inBox]
        self._submitPreview(subRegion, boxes, slices)
        if seen.across:
            # Coronal and sagittal views cut through all slices: they follow when the hand rests.
            start = slices[0] if slices else (inBox.start + inBox.stop) // 2
            rest = sorted(set(inBox) - set(slices), key=lambda z: (abs(z - start), z))
            self._submitPreview(subRegion, boxes, rest)

    def _submitPreview(self, subRegion: SubRegion, boxes: Sequence[Box], slices: Sequence[int]) -> None:
        if not slices:
            return
        session, locked = self._live.session, self._live.state.locked - {subRegion}

        def work(cancel: CancelToken, emit: Callable[[Patch], None]) -> None:
            for patch in session.preview(subRegion, boxes, slices=slices, locked=locked, cancel=cancel):
                cancel.check()
                emit(patch)

        def show(patch: Patch) -> None:
            # An answer that comes after the box was let go is older than the refinement that follows.
            if self._live.boxNodes.dragging is subRegion:
                self._live.preview(patch)

        self._jobs.submit(Job(Kind.PREVIEW, work, subRegion, show, onFailed=self._fail))

    def _onSegmentsChanged(self, _caller: Any, _event: str) -> None:
        if not self._live.view.segments.writing:
            self._live.view.suspect()
            self._drop("paint")
            self._later("paint", _PAINT_MS, self.takeOverEdits)

    def _showBoxes(self, subRegions: Sequence[SubRegion]) -> None:
        """Lay boxes out as the session has them, except those that were moved meanwhile and are still to be read."""
        self._live.showBoxes([r for r in subRegions if r not in self._timers])

    def _undone(self, error: SofaError, subRegion: SubRegion) -> None:
        """Bring the scene back to the session, which a refinement that failed or was overtaken leaves as it was."""
        overtaken = wasCancelled(error) and self._jobs.has({Kind.REFINE, Kind.PREVIEW})
        if not overtaken and self._live.boxNodes.dragging is not subRegion:
            self._live.view.takeBack()
            self._showBoxes((subRegion,))
        self._fail(error)

    def _fail(self, error: SofaError) -> None:
        if not wasCancelled(error):
            self.failed.emit(str(error))

    def _tellProgress(self, progress: Progress) -> None:
        self._scheduler.post(lambda: self.progressed.emit(progress))

    def _later(self, key: Any, milliseconds: int, function: Callable[[], None]) -> None:
        """Call once after a while; a later call with the same key takes this one's place."""
        self._drop(key)

        def call() -> None:
            self._timers.pop(key, None)
            function()

        self._timers[key] = self._scheduler.callLater(milliseconds, call)

    def _drop(self, key: Any) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()


def _anyLesion(boxes: tuple[Box, ...]) -> tuple[Box, ...]:
    """Return the boxes of lesions; without any, refining would empty the sub-region.

    Raises:
        InputError: there is none.
    """
    if not boxes:
        raise InputError(_("No lesion is large enough for a box of its own."))
    return boxes


def lockedSentence(subRegion: SubRegion) -> str:
    """Say why nothing happens to the boxes of a locked sub-region."""
    return _("{subRegion} is locked; unlock it to change its boxes.").format(subRegion=titleOf(subRegion))


def newBox(live: LiveCase, centreRas: Any) -> Box:
    """Return a box of the usual size for a new lesion.

    Args:
        live: the case.
        centreRas: its middle in world RAS mm; if None, where the user looks, or else the middle of what was found.

    Raises:
        InputError: the place lies outside the volume.
    """
    geometry = live.grids.working
    point = lookedAt(live.volumeNode) if centreRas is None else centreRas
    box = None
    if point is not None:
        box = cubeAround(geometry, indexOf(live.volumeNode, geometry, point), _NEW_BOX_MM)
    if box is None and centreRas is None:
        tumour = Box.enclosing(box for boxes in live.facts.boxes.values() for box in boxes)
        whole = Box((0, 0, 0), geometry.shape) if tumour is None else tumour
        centre = [(a + b - 1) / 2 for a, b in zip(whole.lower, whole.upper, strict=True)]
        box = cubeAround(geometry, centre, _NEW_BOX_MM)
    if box is None:
        raise InputError(_("The place for the new box lies outside the volume; choose one inside."))
    return box
