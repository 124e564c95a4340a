"""What changes when the user changes a sub-region's boxes, and the model's answer to it, slice by slice (eq. 5-6)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sofa_engine.anatomy import fill, holes
from sofa_engine.combine import recombine
from sofa_engine.options import SessionOptions
from sofa_engine.predictor import Predictor
from sofa_engine.progress import CancelToken
from sofa_engine.prompts import cross_section, heights_in, inside_boxes, section_of, shifted, slice_boxes
from sofa_engine.state import CaseState, Change
from sofa_engine.types import Box, SubRegion


@dataclass(frozen=True)
class Plan:
    """The difference between a sub-region's old and new boxes.

    Attributes:
        sub_region: whose boxes change.
        boxes: all of its boxes afterwards.
        added: boxes that are new; only these are computed.
        removed: boxes that are gone.
        restores: whether these are the first pass's boxes again, so that its answer comes back whole.
        extents: the changed part of every changed slice, boxes one slice thick.
    """

    sub_region: SubRegion
    boxes: tuple[Box, ...]
    added: tuple[Box, ...]
    removed: tuple[Box, ...]
    restores: bool
    extents: dict[int, Box]


def plan_refinement(state: CaseState, sub_region: SubRegion, boxes: tuple[Box, ...]) -> Plan:
    """Compare `boxes` with the sub-region's current ones and find which slices change, and where in them."""
    old = state.boxes[sub_region]
    added = tuple(b for b in boxes if b not in old)
    removed = tuple(b for b in old if b not in boxes)
    restores = bool(boxes) and sub_region in state.edited and set(boxes) == set(state.first_boxes[sub_region])
    extents: dict[int, Box] = {}
    if added or removed or not boxes:
        mine = state.labels == sub_region.label
        if restores:
            now, first = state.probabilities[sub_region.index], state.first_probabilities[sub_region.index]
            mine[state.crop.slices] |= now != first
            mine[state.crop.slices] |= state.first_labels == sub_region.label
        _extend(extents, _slice_extents(mine))
        for box in added + removed:
            _extend(extents, _cuts(box))
    return Plan(sub_region, boxes, added, removed, restores, extents)


def in_batches(slices: Sequence[int], size: int) -> list[Sequence[int]]:
    """Split into a first batch of one slice, the one on the screen, and further ones of `size`."""
    later = [slices[i : i + size] for i in range(1, len(slices), size)]
    return [slices[:1], *later] if slices else []


def runs_of(slices: Sequence[int], extents: Mapping[int, Box]) -> list[Box]:
    """Return one box around the extents of every run of neighbouring slices."""
    runs: list[Box] = []
    for z in sorted(slices):
        if runs and runs[-1].upper[0] == z:
            runs[-1] = runs[-1].union(extents[z])
        else:
            runs.append(extents[z])
    return runs


def _slice_extents(mask: np.ndarray) -> Iterable[Box]:
    slices, boxes = slice_boxes(mask)
    for z, (x0, y0, x1, y1) in zip(slices.tolist(), boxes.astype(int).tolist(), strict=True):
        yield Box((z, y0, x0), (z + 1, y1, x1))


def _cuts(box: Box) -> Iterable[Box]:
    (z0, y0, x0), (z1, y1, x1) = box.lower, box.upper
    for z in range(z0, z1):
        yield Box((z, y0, x0), (z + 1, y1, x1))


def _extend(extents: dict[int, Box], more: Iterable[Box]) -> None:
    for box in more:
        z = box.lower[0]
        extents[z] = extents[z].union(box) if z in extents else box


class Refiner:
    """Answers one plan for any slices, from a state that it does not change."""

    def __init__(
        self,
        plan: Plan,
        state: CaseState,
        predictor: Predictor,
        options: SessionOptions,
        locked: Collection[SubRegion],
    ) -> None:
        """Take what the answers depend on."""
        self._plan, self._state, self._predictor = plan, state, predictor
        self._options, self._locked = options, locked
        edited = state.edited - {plan.sub_region} if plan.restores else state.edited | {plan.sub_region}
        #: The state with the new boxes: what they clip is clipped in it.
        self._after = replace(state, boxes={**state.boxes, plan.sub_region: plan.boxes}, edited=edited)

    @property
    def boxes(self) -> dict[SubRegion, tuple[Box, ...]]:
        """Every sub-region's boxes afterwards."""
        return dict(self._after.boxes)

    @property
    def edited(self) -> frozenset[SubRegion]:
        """The sub-regions with boxes of the user's afterwards."""
        return self._after.edited

    def answer(self, extents: Sequence[Box], cancel: CancelToken | None) -> list[Change]:
        """Return what becomes of these extents, prompting all of their slices in one batch.

        Raises:
            CancelledError: the token was cancelled.
        """
        if cancel is not None:
            cancel.check()
        state, mine = self._state, self._plan.sub_region
        top = state.crop.lower[0]
        slices = [z for extent in extents for z in range(extent.lower[0], extent.upper[0])]
        fresh = {z: np.zeros(state.crop.shape[1:], np.float16) for z in slices}
        quality = dict.fromkeys(slices, np.nan)
        asked: list[tuple[int, Box]] = []
        for box in () if self._plan.restores else self._plan.added:
            common = box.intersection(state.crop)
            if common is None:
                continue
            part = shifted(common, state.crop.lower)
            here = [z for z in slices if common.lower[0] <= z < common.upper[0]]
            if box in state.first_boxes[mine]:
                for z in here:  # the first pass has answered this box already
                    _fill(fresh[z], part, state.first_probabilities[mine.index, z - top])
            else:
                asked += [(z, part) for z in here]
        for (z, part), probabilities, iou in zip(asked, *self._prompt(asked, cancel), strict=True):
            _fill(fresh[z], part, probabilities)
            if self._options.anatomy:  # what the first pass found in a box stays, to the last voxel of its border
                _fill(fresh[z], part, state.first_probabilities[mine.index, z - top])
            quality[z] = np.nanmin([quality[z], iou])
        return [self._change(extent, fresh, quality) for extent in extents]

    def _prompt(self, asked: list[tuple[int, Box]], cancel: CancelToken | None) -> tuple[np.ndarray, np.ndarray]:
        """Prompt slices with a box's rectangle in them, then with the tight box of that answer.

        A slice whose first answer is empty stays empty: nothing tells where in the box to look again.

        Returns:
            Probabilities float32 (n, h, w) over the crop and predicted IoU float32 (n,).
        """
        if not asked:
            return np.zeros((0, *self._state.crop.shape[1:]), np.float32), np.zeros(0, np.float32)
        mine, top = self._plan.sub_region, self._state.crop.lower[0]
        slices = np.array([z - top for z, _ in asked], dtype=np.int64)
        sections = self._sections(asked)
        heights = np.concatenate([heights_in(part, np.array([z])) for z, (_, part) in zip(slices, asked, strict=True)])
        first = self._predictor.prompt(mine, slices, sections, heights, cancel=cancel)
        answers, quality = np.nan_to_num(first.probabilities, nan=0.0), np.nan_to_num(first.quality, nan=0.0)
        if not self._options.tight_prompt:
            return answers, quality
        found = np.zeros(answers.shape, dtype=bool)
        for mask, answer, (x0, y0, x1, y1) in zip(found, answers, sections.astype(int), strict=True):
            mask[y0:y1, x0:x1] = answer[y0:y1, x0:x1] > self._options.tau
        hit, tight = slice_boxes(found, self._options.grow_px)
        tight = np.hstack([np.maximum(tight[:, :2], sections[hit, :2]), np.minimum(tight[:, 2:], sections[hit, 2:])])
        narrower = np.any(tight != sections[hit], axis=1)
        hit, tight = hit[narrower], tight[narrower]
        if len(hit):
            second = self._predictor.prompt(mine, slices[hit], tight, heights[hit], cancel=cancel)
            answers[hit] = np.nan_to_num(second.probabilities, nan=0.0)
            quality[hit] = np.nan_to_num(second.quality, nan=0.0)
        return answers, quality

    def _sections(self, asked: list[tuple[int, Box]]) -> np.ndarray:
        """Return the rectangle that each slice is prompted with, float32 (n, 4)."""
        if not self._options.anatomy:
            return np.stack([cross_section(part) for _, part in asked])
        state, mine, tau = self._state, self._plan.sub_region, self._options.tau
        top, first = state.crop.lower[0], state.first_probabilities[mine.index]
        known = Box.enclosing(shifted(box, state.crop.lower) for box in state.first_boxes[mine])
        grow = self._options.grow_px
        return np.stack([section_of(part, first[z - top] > tau, known, grow) for z, part in asked])

    def _change(self, extent: Box, fresh: dict[int, np.ndarray], quality: dict[int, float]) -> Change:
        plan, state = self._plan, self._state
        mine = plan.sub_region
        probabilities = self._after.within(extent)
        answer: np.ndarray | None = None
        part = extent.intersection(state.crop)
        if part is not None:
            answer = self._merged(part, fresh)
            ends = np.True_ if plan.restores else inside_boxes(part, plan.boxes)
            here = shifted(part, extent.lower).slices
            probabilities[(mine.index, *here)] = answer * ends
            if self._options.anatomy and mine is SubRegion.ED and not plan.restores:
                enclosed = self._enclosed(part, probabilities[(slice(None), *here)])
                fill(answer, enclosed & inside_boxes(part, plan.added), self._options.tau)
                probabilities[(mine.index, *here)] = answer * ends

        old, painted = state.labels[extent.slices], state.painted[extent.slices]
        had = old == mine.label
        # Up for decision: what was dragged over, and what the sub-region gives up outside of its boxes.
        dragged = inside_boxes(extent, plan.added + plan.removed)
        if plan.restores:
            asked = dragged | ~painted
        elif plan.boxes:
            asked = dragged | (had & ~painted & ~inside_boxes(extent, plan.boxes))
        else:
            asked = dragged | had
        tau, locked = self._options.tau, self._locked
        stated = self._after.stated(extent) if self._options.anatomy else None
        labels = recombine(old, probabilities, mine, tau=tau, locked=locked, stated=stated, kept=~asked)
        painted = painted & ~(asked & (had | (labels != old)))
        depth = range(extent.lower[0], extent.upper[0])
        return Change(extent, labels, painted, answer, np.array([quality[z] for z in depth], np.float32))

    def _enclosed(self, part: Box, probabilities: np.ndarray) -> np.ndarray:
        """Return what the tumour encloses in a part of the crop where it gets these probabilities, bool."""
        crop, tau = self._state.crop, self._options.tau
        # Whole slices: an edge of the part through a hollow would open it.
        whole = Box((part.lower[0], *crop.lower[1:]), (part.upper[0], *crop.upper[1:]))
        tumour = np.any(self._after.within(whole) > tau, axis=0)
        here = shifted(part, whole.lower).slices
        tumour[here] = np.any(probabilities > tau, axis=0)
        return holes(tumour)[here]

    def _merged(self, part: Box, fresh: dict[int, np.ndarray]) -> np.ndarray:
        """Take fresh probabilities inside the added boxes; where an unchanged box overlaps, it keeps what it had."""
        plan, state = self._plan, self._state
        here = shifted(part, state.crop.lower).slices
        if plan.restores:
            return state.first_probabilities[(plan.sub_region.index, *here)]
        before = state.probabilities[(plan.sub_region.index, *here)]
        new = np.stack([fresh[z][here[1:]] for z in range(part.lower[0], part.upper[0])])
        untouched = inside_boxes(part, [b for b in plan.boxes if b not in plan.added])
        new = np.where(untouched, np.maximum(before, new), new)
        return np.where(inside_boxes(part, plan.added), new, before)


def _fill(image: np.ndarray, part: Box, probabilities: np.ndarray) -> None:
    """Raise the pixels of `part` to the probabilities where these are higher; all others stay."""
    there = part.slices[1:]
    np.maximum(image[there], probabilities[there].astype(image.dtype), out=image[there])
