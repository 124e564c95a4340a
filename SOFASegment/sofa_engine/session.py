"""One case being segmented in this process: the implementation of `sofa_engine.api.Session`."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sofa_engine.advice import warnings_for
from sofa_engine.api import Boxes, ModelInfo
from sofa_engine.case import Case
from sofa_engine.confidence import mean_attention, worst_slices
from sofa_engine.cropping import brain_box
from sofa_engine.errors import CancelledError, InputError, SofaError
from sofa_engine.first_pass import FIND, REFINE, run_first_pass
from sofa_engine.geometry import Geometry
from sofa_engine.history import History, Step
from sofa_engine.normalise import normalise_case
from sofa_engine.options import SessionOptions
from sofa_engine.predictor import Predictor
from sofa_engine.progress import CancelToken, Progress, ProgressCallback
from sofa_engine.prompts import clipped, lesion_boxes
from sofa_engine.refinement import Plan, Refiner, in_batches, plan_refinement, runs_of
from sofa_engine.stages import Stages
from sofa_engine.state import CaseState, Change
from sofa_engine.types import COMPOSITES, SUB_REGIONS, Box, LabelScheme, Modality, Patch, SliceConfidence, SubRegion
from sofa_engine.voxels import sound_case

_PREPARE, _ENCODE = "Preparing the images", "Encoding slices"
#: Millimetres between two slices on the list of slices worth a look.
_LOOK_APART_MM = 5.0
_KNOWN_LABELS = np.array([0, *(r.label for r in SUB_REGIONS)], dtype=np.uint8)


@dataclass(frozen=True)
class _Work:
    """A refinement under way, and the version of the state that it started from."""

    plan: Plan
    refiner: Refiner
    version: int


class SegmentationSession:
    """Owns one case's embeddings (in its predictor), probabilities, labels, boxes and history.

    Verbs may be called from several threads: each runs under one lock, an iterator of patches under it batch by
    batch. A refinement that is overtaken by another change ends with `CancelledError` and changes nothing.

    Example:
        >>> session = SegmentationSession(case, predictor)
        >>> session.first_pass()
        >>> (box,) = session.boxes()[SubRegion.ET]
        >>> for patch in session.refine(SubRegion.ET, [box.grown((0, 4, 4), session.geometry.shape)]):
        ...     show(patch)
        >>> labels = session.labels()
    """

    def __init__(self, case: Case, predictor: Predictor, options: SessionOptions | None = None) -> None:
        """Open a case; nothing is computed yet.

        Args:
            case: one to four sequences on one grid.
            predictor: a model that no other session uses.
            options: choices; those of the model's mode where None.

        Raises:
            InputError: the case has no image, or one of its images is empty.
        """
        if not case.images:
            raise InputError("The case has no image; give at least one of T1, T1c, T2 and FLAIR.")
        self._case, self._predictor = sound_case(case), predictor
        self._options = SessionOptions.of_mode(predictor.info.mode) if options is None else options
        self._warnings = warnings_for(self._case, predictor.info)
        self._lock = threading.RLock()
        self._history = History(self._options.history_bytes)
        self._brain: np.ndarray | None = None
        self._crop: Box | None = None
        self._state: CaseState | None = None
        self._version = 0
        self._closed = False

    @property
    def geometry(self) -> Geometry:
        """Grid of every array that the session takes and gives."""
        return self._case.geometry

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Sequences that are present."""
        return self._case.modalities

    @property
    def model(self) -> ModelInfo:
        """Which model answers."""
        return self._predictor.info

    @property
    def options(self) -> SessionOptions:
        """The choices that this session runs with."""
        return self._options

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user about this case."""
        return self._warnings

    def first_pass(self, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        """Encode the case, segment it without a prompt and refine it with its own boxes (Algorithm 1).

        The images are encoded once; a repeated first pass decodes only.

        Raises:
            InputError: the images hold no brain.
            CancelledError: the token was cancelled; everything is as before.
        """
        with self._lock:
            self._check_open()
            # Encoding takes over nine tenths of the time on a CPU.
            encoding = {} if self._brain is not None else {_PREPARE: 2.0, _ENCODE: 90.0}
            stages = Stages(progress, {**encoding, FIND: 4.0, REFINE: 4.0})
            brain, crop = self._encode(stages, cancel)
            spacing = self.geometry.spacing
            found = run_first_pass(self._predictor, crop.shape, spacing, self._options, stages=stages, cancel=cancel)
            self._state = CaseState.after_first_pass(found, brain, crop, spacing, self._options)
            self._history.clear()
            self._version += 1

    def _encode(self, stages: Stages, cancel: CancelToken | None) -> tuple[np.ndarray, Box]:
        if self._brain is not None and self._crop is not None:
            return self._brain, self._crop
        stages.tell(_PREPARE, 0.0)
        images, brain = normalise_case(self._case)
        if not brain.any():
            raise InputError("The images hold no brain: all voxels are alike; check that the right files were given.")
        crop = brain_box(brain)
        if cancel is not None:
            cancel.check()
        stages.tell(_PREPARE, 1.0)
        inside = np.ascontiguousarray(images[(slice(None), *crop.slices)])
        spacing = self.geometry.spacing
        self._predictor.encode(inside, self.modalities, spacing, progress=stages.of(_ENCODE), cancel=cancel)
        self._brain, self._crop = brain, crop
        return brain, crop

    def boxes(self) -> Boxes:
        """Return the current boxes of every sub-region; an empty tuple where a sub-region has none."""
        with self._lock:
            return dict(self._ready().boxes)

    def first_boxes(self) -> Boxes:
        """Return the boxes that the first pass made.

        Refining with them again brings back the first pass's own answer for that sub-region.
        """
        with self._lock:
            return dict(self._ready().first_boxes)

    def lesion_boxes(self, sub_region: SubRegion) -> tuple[Box, ...]:
        """Return a box per connected lesion of the sub-region's current voxels, largest first."""
        with self._lock:
            return lesion_boxes(
                self._ready().labels == sub_region.label,
                self.geometry.spacing,
                apart_mm=self._options.lesion_apart_mm,
                min_mm3=self._options.lesion_mm3,
            )

    def preview(
        self,
        sub_region: SubRegion,
        boxes: Sequence[Box],
        *,
        slices: Sequence[int],
        locked: Collection[SubRegion] = (),
        cancel: CancelToken | None = None,
    ) -> Iterator[Patch]:
        """Yield what `refine` would make of these slices (indices on axis 0), without changing any state.

        Patches are whole slices, so that a preview replaces all of the one before it.

        Raises:
            InputError: the sub-region is locked.
        """
        work = self._plan(sub_region, boxes, locked)
        depth, height, width = self.geometry.shape
        extents = {z: Box((z, 0, 0), (z + 1, height, width)) for z in slices if 0 <= z < depth}
        return (
            Patch(change.extent, change.labels)
            for batch in in_batches(list(extents), self._options.batch_slices)
            for change in self._answer(work, extents, batch, cancel)
        )

    def refine(
        self,
        sub_region: SubRegion,
        boxes: Sequence[Box],
        *,
        first_slice: int | None = None,
        locked: Collection[SubRegion] = (),
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[Patch]:
        """Replace the sub-region's boxes and segment it inside those that changed (eq. 5-6).

        Boxes are clipped to the volume, and one that lies wholly beyond it is dropped. Voxels painted by hand stay,
        except inside a box that changes; with no boxes at all the sub-region is emptied entirely.

        Raises:
            InputError: the sub-region is locked.
            CancelledError: the token was cancelled, or the segmentation changed meanwhile; everything is as before.
        """
        return self._refining(self._plan(sub_region, boxes, locked), first_slice, progress, cancel)

    def _refining(
        self,
        work: _Work,
        first_slice: int | None,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> Iterator[Patch]:
        plan = work.plan
        if not plan.extents:
            return
        whole = Box.enclosing(plan.extents.values())
        middle = (whole.lower[0] + whole.upper[0]) // 2 if whole is not None else 0
        start = middle if first_slice is None else first_slice
        order = sorted(plan.extents, key=lambda z: (abs(z - start), z))
        batches = in_batches(order, self._options.batch_slices)
        changes: list[Change] = []
        for done, batch in enumerate(batches, start=1):
            for change in self._answer(work, plan.extents, batch, cancel):
                changes.append(change)
                yield Patch(change.extent, change.labels)
            if progress is not None:
                progress(Progress(f"Refining {plan.sub_region.title.lower()}", done / len(batches)))
        if cancel is not None:
            cancel.check()
        with self._lock:
            step = self._current(work).apply(changes, plan.sub_region, work.refiner.boxes, work.refiner.edited)
            self._history.push(step)
            self._version += 1

    def _plan(self, sub_region: SubRegion, boxes: Sequence[Box], locked: Collection[SubRegion]) -> _Work:
        if sub_region in locked:
            raise InputError(f"{sub_region.title} is locked; unlock it to change its boxes.")
        with self._lock:
            state = self._ready()
            plan = plan_refinement(state, sub_region, clipped(boxes, Box((0, 0, 0), self.geometry.shape)))
            refiner = Refiner(plan, state, self._predictor, self._options, frozenset(locked))
            return _Work(plan, refiner, self._version)

    def _answer(
        self, work: _Work, extents: Mapping[int, Box], batch: Sequence[int], cancel: CancelToken | None
    ) -> list[Change]:
        with self._lock:
            self._current(work)
            return work.refiner.answer(runs_of(batch, extents), cancel)

    def edit(self, patch: Patch) -> None:
        """Take over labels that the user painted, as one step of undo; boxes stay as they are.

        Raises:
            InputError: the patch does not fit the volume or holds a label other than 0, 1, 2 and 4.
        """
        with self._lock:
            state = self._ready()
            extent, labels = patch.extent, np.asarray(patch.labels)
            whole = Box((0, 0, 0), self.geometry.shape)
            if extent.intersection(whole) != extent or labels.shape != extent.shape:
                raise InputError("The painted labels do not fit the volume; paint on the grid of the reference volume.")
            if not np.isin(labels, _KNOWN_LABELS).all():
                raise InputError("The painted labels hold a value other than 0, 1 (NCR), 2 (ED) and 4 (ET).")
            labels = labels.astype(np.uint8)
            differs = labels != state.labels[extent.slices]
            if differs.any():
                painted = state.painted[extent.slices] | differs
                self._history.push(state.apply([Change(extent, labels, painted)]))
                self._version += 1

    def can_undo(self) -> bool:
        """Whether `undo` would change something."""
        return self._history.can_undo

    def can_redo(self) -> bool:
        """Whether `redo` would change something."""
        return self._history.can_redo

    def undo(self) -> Patch | None:
        """Take back the last refinement or edit, boxes and labels together; None if there is none."""
        with self._lock:
            return self._travelled(self._history.undo(self._ready().exchange))

    def redo(self) -> Patch | None:
        """Repeat what was last undone; None if there is nothing."""
        with self._lock:
            return self._travelled(self._history.redo(self._ready().exchange))

    def _travelled(self, step: Step | None) -> Patch | None:
        if step is None:
            return None
        self._version += 1
        parts = [change.index for change in step.arrays if change.array == "labels"]
        boxes = [Box(tuple(s.start for s in part), tuple(s.stop for s in part)) for part in parts]  # type: ignore[union-attr]
        extent = Box.enclosing(boxes)
        assert extent is not None  # every step holds labels
        return Patch(extent, self._ready().labels[extent.slices].copy())

    def labels(self, scheme: LabelScheme = LabelScheme.BRATS2020) -> np.ndarray:
        """Return the label map, uint8 (D, H, W)."""
        with self._lock:
            labels = self._ready().labels.copy()
        for sub_region in SUB_REGIONS:
            if scheme.value_of(sub_region) != sub_region.label:
                labels[labels == sub_region.label] = scheme.value_of(sub_region)
        return labels

    def probabilities(self) -> np.ndarray:
        """Return the model's probability of each sub-region, float16 (3, D, H, W), order of `SUB_REGIONS`.

        It is 0 outside the brain's box, and outside a sub-region's boxes once the user has changed them.
        """
        with self._lock:
            return self._ready().within(Box((0, 0, 0), self.geometry.shape))

    def confidence(self) -> np.ndarray:
        """Return how sure the model is of each voxel's label, float16 (D, H, W), 0 (a coin toss) to 1.

        Voxels outside the brain's box and voxels painted by hand count as certain.
        """
        with self._lock:
            state = self._ready()
            result = np.ones(self.geometry.shape, dtype=np.float16)
            result[state.crop.slices] = state.confidence(self._options.tau)
            return result

    def uncertain_slices(self, count: int = 10) -> tuple[SliceConfidence, ...]:
        """Return the slices most worth a look, the least certain first, at least 5 mm apart."""
        with self._lock:
            state = self._ready()
            scores = state.slice_scores(self._options.tau)
        apart = max(1, round(_LOOK_APART_MM / self.geometry.spacing[0]))
        top = state.crop.lower[0]
        worst = worst_slices(scores, count, apart=apart)
        return tuple(SliceConfidence(s.slice_index + top, s.confidence, s.sub_region) for s in worst)

    def attention(self) -> Mapping[SubRegion, Mapping[Modality, float]]:
        """Return the mean modality attention (eq. 2) inside each sub-region; each sub-region's weights sum to 1."""
        with self._lock:
            state = self._ready()
            labels = state.labels[state.crop.slices]
            return mean_attention(self._predictor.attention(), labels, state.brain, self.modalities)

    def volumes_ml(self) -> Mapping[str, float]:
        """Return millilitres of NCR, ED, ET, WT and TC from the current label map."""
        with self._lock:
            voxels = np.bincount(self._ready().labels.ravel(), minlength=5)
        sizes = {r: float(voxels[r.label]) * self.geometry.voxel_ml for r in SUB_REGIONS}
        unions = {name: sum(sizes[r] for r in members) for name, members in COMPOSITES.items()}
        return {**{r.value.upper(): sizes[r] for r in SUB_REGIONS}, **unions}

    def look_ahead(self) -> bool:
        """Encode some of the slices that the first pass passed over; return whether there are more."""
        with self._lock:
            return self._state is not None and self._predictor.look_ahead()

    def close(self) -> None:
        """Free the memory; every other verb fails afterwards."""
        with self._lock:
            if not self._closed:
                self._closed, self._state, self._brain, self._crop = True, None, None, None
                self._history.clear()
                self._version += 1
                self._predictor.release()

    def _check_open(self) -> None:
        if self._closed:
            raise SofaError("This case was closed; open it again.")

    def _ready(self) -> CaseState:
        self._check_open()
        if self._state is None:
            raise SofaError("This case has not been segmented yet; run the first pass before anything else.")
        return self._state

    def _current(self, work: _Work) -> CaseState:
        """Return the state if it is still the one that the work started from."""
        state = self._ready()
        if self._version != work.version:
            raise CancelledError("The segmentation changed meanwhile, so this refinement was dropped.")
        return state
