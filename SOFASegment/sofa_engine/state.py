"""What a session knows about its case once the first pass is through; every change to it is a step of undo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sofa_engine.combine import combine
from sofa_engine.confidence import slice_confidence, voxel_confidence
from sofa_engine.first_pass import FirstPass
from sofa_engine.history import ArrayChange, Index, Step
from sofa_engine.options import SessionOptions
from sofa_engine.prompts import clean_mask, inside_boxes, shifted
from sofa_engine.types import SUB_REGIONS, Box, SubRegion

#: From this share of the threshold on, a voxel was nearly found.
_DOUBT = 0.6


@dataclass(frozen=True)
class Change:
    """New values of one extent of the grid.

    Attributes:
        extent: where.
        labels: uint8 `extent.shape`.
        painted: bool `extent.shape`, voxels that count as painted by hand.
        probabilities: float16, one sub-region's new probabilities in the part of `extent` inside the crop; None where
            there is no such part or nothing about them changes.
        quality: float32 (extent's D,), predicted IoU of that sub-region in its slices, NaN where it stays.
    """

    extent: Box
    labels: np.ndarray
    painted: np.ndarray
    probabilities: np.ndarray | None = None
    quality: np.ndarray | None = None


@dataclass
class CaseState:
    """Labels of the whole grid, probabilities of the brain's crop, and the boxes of every sub-region.

    Attributes:
        crop: the brain's box in the grid.
        brain: bool `crop.shape`, the brain's voxels.
        labels: uint8 (D, H, W), values of `SubRegion.label`.
        painted: bool (D, H, W), voxels whose label the user painted.
        probabilities: float16 (3, *crop.shape), what the model last answered; not yet clipped to edited boxes.
        quality: float32 (3, crop's D), predicted IoU of each sub-region in each slice.
        first_probabilities: `probabilities` as the first pass left them.
        first_labels: uint8 `crop.shape`, `labels` as the first pass left them.
        first_boxes: `boxes` as the first pass left them.
        boxes: the boxes of each sub-region, in the grid.
        edited: sub-regions whose boxes the user changed: they end where their boxes end.
    """

    crop: Box
    brain: np.ndarray
    labels: np.ndarray
    painted: np.ndarray
    probabilities: np.ndarray
    quality: np.ndarray
    first_probabilities: np.ndarray
    first_labels: np.ndarray
    first_boxes: Mapping[SubRegion, tuple[Box, ...]]
    boxes: Mapping[SubRegion, tuple[Box, ...]]
    edited: frozenset[SubRegion] = frozenset()

    @staticmethod
    def after_first_pass(
        found: FirstPass,
        brain: np.ndarray,
        crop: Box,
        spacing: tuple[float, float, float],
        options: SessionOptions,
    ) -> CaseState:
        """Combine the first pass's answer and box each sub-region (eq. 4).

        Args:
            found: over the crop.
            brain: bool (D, H, W).
            crop: the brain's box.
            spacing: mm between voxels (z, y, x).
            options: thresholds.
        """
        combined = combine(found.probabilities, options.tau)
        labels = np.zeros(brain.shape, dtype=np.uint8)
        labels[crop.slices] = combined
        boxes = {}
        for sub_region in SUB_REGIONS:
            box = Box.of_mask(clean_mask(labels == sub_region.label, spacing, options.clean_mm3))
            boxes[sub_region] = () if box is None else (box,)
        return CaseState(
            crop=crop,
            brain=brain[crop.slices].copy(),
            labels=labels,
            painted=np.zeros(brain.shape, dtype=bool),
            probabilities=found.probabilities,
            quality=found.quality,
            first_probabilities=found.probabilities.copy(),
            first_labels=combined,
            first_boxes=boxes,
            boxes=boxes,
        )

    def within(self, extent: Box) -> np.ndarray:
        """Return the probabilities in `extent`, float16 (3, *extent.shape), 0 beyond the crop and edited boxes."""
        result = np.zeros((len(SUB_REGIONS), *extent.shape), dtype=np.float16)
        common = extent.intersection(self.crop)
        if common is not None:
            there, here = shifted(common, extent.lower), shifted(common, self.crop.lower)
            result[(slice(None), *there.slices)] = self.probabilities[(slice(None), *here.slices)]
        for sub_region in self.edited:
            result[sub_region.index] *= inside_boxes(extent, self.boxes[sub_region])
        return result

    def stated(self, extent: Box) -> np.ndarray:
        """Return where boxes lie in `extent` that are the user's and not the first pass's, bool (3, *extent.shape)."""
        boxes = [[b for b in self.boxes[r] if r in self.edited and b not in self.first_boxes[r]] for r in SUB_REGIONS]
        return np.stack([inside_boxes(extent, mine) for mine in boxes])

    def confidence(self, tau: float) -> np.ndarray:
        """Return how sure the model is of each label in the crop, float16; what was painted by hand is certain."""
        here = self.crop.slices
        confidence = voxel_confidence(self.within(self.crop), self.labels[here], tau)
        confidence[self.painted[here]] = 1
        return confidence

    def slice_scores(self, tau: float) -> np.ndarray:
        """Return how sure the model is of each sub-region in each of the crop's slices, float32 (3, D), or NaN."""
        probabilities = self.within(self.crop)
        doubt = (probabilities > np.float16(_DOUBT * tau)) & (probabilities <= np.float16(tau))
        return slice_confidence(self.confidence(tau), self.labels[self.crop.slices], self.quality, doubt)

    def apply(
        self,
        changes: Sequence[Change],
        sub_region: SubRegion | None = None,
        boxes: Mapping[SubRegion, tuple[Box, ...]] | None = None,
        edited: frozenset[SubRegion] | None = None,
    ) -> Step:
        """Take over changes whose extents do not overlap, and return the step that takes them back.

        Args:
            changes: new values.
            sub_region: whose probabilities and quality they hold, if any.
            boxes: the new boxes of all sub-regions, if they change.
            edited: the new `edited`, if it changes.
        """
        writes: list[tuple[str, Index, np.ndarray]] = []
        for change in changes:
            writes.append(("labels", change.extent.slices, change.labels))
            writes.append(("painted", change.extent.slices, change.painted))
            part = change.extent.intersection(self.crop)
            if sub_region is None or part is None:
                continue
            here = shifted(part, self.crop.lower).slices
            if change.probabilities is not None:
                writes.append(("probabilities", (sub_region.index, *here), change.probabilities))
            if change.quality is not None:
                quality = change.quality[shifted(part, change.extent.lower).slices[0]]
                before = self.quality[sub_region.index, here[0]]
                writes.append(("quality", (sub_region.index, here[0]), np.where(np.isnan(quality), before, quality)))
        step = self._step((name, index) for name, index, _ in writes)
        for name, index, values in writes:
            getattr(self, name)[index] = values
        self.boxes = self.boxes if boxes is None else boxes
        self.edited = self.edited if edited is None else edited
        return step

    def exchange(self, step: Step) -> Step:
        """Apply a step and return its inverse."""
        inverse = self._step((change.array, change.index) for change in step.arrays)
        for change in step.arrays:
            change.restore(getattr(self, change.array))
        self.boxes, self.edited = step.values
        return inverse

    def _step(self, parts: Iterable[tuple[str, Index]]) -> Step:
        arrays = tuple(ArrayChange.of(name, getattr(self, name), index) for name, index in parts)
        return Step(arrays, (self.boxes, self.edited))
