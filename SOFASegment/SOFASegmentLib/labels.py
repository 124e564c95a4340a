"""What the scene shows and what the session knows, kept apart while the two differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from sofa_engine.types import SUB_REGIONS, Box, Patch, SubRegion
from SOFASegmentLib.grids import Edit
from SOFASegmentLib.segments import Segments

#: No label: where the user painted nothing.
_UNPAINTED = 255


class LabelView:
    """Writes patches into the segments and tells the user's own edits from them.

    Three label maps (uint8 (D, H, W), labels of `SubRegion.label`) are told apart: what the session has settled
    (`settled`), what this class last wrote into the segments or found there (`_shown`), and what is in the segments
    now. The first two differ while a preview is shown; the last two differ where the user painted. What the user
    painted while the session was busy is kept in a fourth one (`_aside`) and lies over all that is written meanwhile.
    """

    def __init__(self, segments: Segments, labels: np.ndarray, stamp: tuple[Any, ...]) -> None:
        """Count what the segments held when they had this stamp as settled; the user may have painted since."""
        self.segments = segments
        self.settled = labels
        self._shown = labels.copy()
        self._aside: np.ndarray | None = None
        self._previewed: Box | None = None
        self._touched: set[SubRegion] = set()
        #: Of the segments as they were last written or read; None while they may hold what nobody has looked at.
        self._stamp: tuple[Any, ...] | None = stamp

    def suspect(self) -> None:
        """Look at every voxel the next time that `userEdits` is asked."""
        self._stamp = None

    def preview(self, patch: Patch) -> None:
        """Show a patch that the session has not settled yet."""
        self._previewed = patch.extent if self._previewed is None else self._previewed.union(patch.extent)
        self._show(patch.extent, patch.labels)

    def settle(self, patches: list[Patch]) -> Box | None:
        """Take over what the session has settled, and show it and nothing else; returns the extent that changed."""
        changed: list[Box] = []
        for patch in patches:
            self.settled[patch.extent.slices] = patch.labels
            changed.append(patch.extent)
        if self._previewed is not None:
            changed.append(self._previewed)
        self._previewed = None
        extent = Box.enclosing(changed)
        if extent is not None:
            self._show(extent, self.settled[extent.slices])
            # Voxels that are written in place change no node, which alone makes Slicer offer to save.
            self.segments.node.StorableModified()
        return extent

    def takeBack(self) -> None:
        """Show what is settled where a preview was shown."""
        self.settle([])

    def userEdits(self) -> Edit | None:
        """Return what the user changed in the segments since this was last asked, and take it over as settled.

        Asked at the beginning and at the end of every drag, so that it must cost nothing where nobody painted.
        """
        self._setAside()
        if self._aside is None:
            return None
        painted, self._aside = self._aside, None
        extent = Box.of_mask(painted != _UNPAINTED)
        where = painted[extent.slices] != _UNPAINTED
        settled = self.settled[extent.slices]
        settled[where] = painted[extent.slices][where]
        return Edit(extent, settled.copy(), where)

    def takeTouched(self) -> frozenset[SubRegion]:
        """Return the sub-regions whose segments were written since this was last asked."""
        touched, self._touched = frozenset(self._touched), set()
        return touched

    def _setAside(self) -> None:
        """Keep what the user painted since the segments were last written or read.

        Where the user let segments overlap, the one that was changed counts and the other is cut.
        """
        if self._stamp is not None and self._stamp == self.segments.stamp():
            return
        self._stamp = self.segments.stamp()
        edited = self._shown.copy()
        masks = {r: self.segments.read(r) for r in SUB_REGIONS}
        for subRegion, mask in masks.items():
            edited[(self._shown == subRegion.label) & ~mask] = 0
        for subRegion, mask in masks.items():
            edited[mask & (self._shown != subRegion.label)] = subRegion.label
        different = edited != self._shown
        extent = Box.of_mask(different)
        if extent is None:
            return
        if self._aside is None:
            self._aside = np.full_like(edited, _UNPAINTED)
        self._aside[different] = edited[different]
        self._shown = edited
        self.segments.write(extent, edited[extent.slices])
        self._stamp = self.segments.stamp()

    def _show(self, extent: Box, labels: np.ndarray) -> None:
        """Write into the segments the smallest extent that differs from what they hold, but for what was painted."""
        self._setAside()
        if self._aside is not None:
            aside = self._aside[extent.slices]
            labels = np.where(aside == _UNPAINTED, labels, aside)
        before = self._shown[extent.slices]
        differs = Box.of_mask(before != labels)
        if differs is None:
            return
        old, new = before[differs.slices], labels[differs.slices]
        different = old != new
        values = set(np.unique(old[different])) | set(np.unique(new[different]))
        touched = [r for r in SUB_REGIONS if r.label in values]
        self._touched.update(touched)
        inVolume = Box(
            tuple(a + b for a, b in zip(extent.lower, differs.lower, strict=True)),
            tuple(a + b for a, b in zip(extent.lower, differs.upper, strict=True)),
        )
        self.segments.write(inVolume, new, touched)
        self._stamp = self.segments.stamp()
        before[differs.slices] = new
