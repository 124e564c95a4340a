"""What helps the user to judge a result: insights kept fresh, uncertain slices to visit, confidence as an overlay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sofa_engine.errors import SofaError
from sofa_engine.types import Box
from SOFASegmentLib import overlays, slices
from SOFASegmentLib.insights import Insights, showInsights
from SOFASegmentLib.jobs import Job, JobQueue, Kind, wasCancelled
from SOFASegmentLib.live_case import LiveCase
from SOFASegmentLib.scene_state import SceneState
from SOFASegmentLib.signals import Signal


class Review:
    """Asks the session about its result whenever there is nothing more urgent to do.

    Signals: `insightsChanged(Insights)`, `failed(str)`.

    Attributes:
        insights: what was last learnt; None until then.
        current: whether that is about the segmentation as it is now.
    """

    def __init__(self, state: SceneState, jobs: JobQueue) -> None:
        self.insightsChanged, self.failed = Signal(), Signal()
        self.insights: Insights | None = None
        self.current = False
        self.wantsConfidence = overlays.overlayShown(state)
        self._state = state
        self._jobs = jobs
        self._live: LiveCase | None = None
        self._fresh = True
        self._uncertain = -1

    def follow(self, live: LiveCase | None) -> None:
        """Ask about this case from now on; None to ask nothing any more. What was known was about another."""
        self._live = live
        self.insights, self._fresh, self.current = None, live is None, False

    def outdate(self) -> None:
        """Note that what is known is older than the segmentation."""
        self._fresh = self.current = False

    def refresh(self) -> None:
        """Ask anew if what is known is outdated and nobody else needs the session."""
        live = self._live
        if live is None or self._fresh or self._jobs.has(set(Kind)) or live.boxNodes.dragging is not None:
            return
        self._submit(lambda: Insights.of(live.session), self._onInsights)
        if self.wantsConfidence:
            self._submit(live.session.confidence, lambda values: self._onConfidence(live, values))

    def nextUncertainSlice(self, step: int) -> None:
        """Turn the views to the next slice worth a look, or with -1 to the one before."""
        found = () if self.insights is None else self.insights.uncertainSlices
        if found:
            first = self._uncertain < 0 and step > 0
            self._uncertain = 0 if first else (max(self._uncertain, 0) + step) % len(found)
            self.jumpToSlice(found[self._uncertain].slice_index)

    def jumpToSlice(self, index: int) -> None:
        """Turn all slice views to a slice of the session's grid (axis 0), centred on the tumour."""
        if self._live is not None:
            slices.jumpToSlice(self._live.volumeNode, self._live.grids.working, index, _tumour(self._live))

    def slicePosition(self, index: int) -> str:
        """Return where a slice of the session's grid (axis 0) lies, as the slice views say it ("S: 12.5 mm")."""
        live = self._live
        return "" if live is None else slices.positionText(live.volumeNode, live.grids.working, index, _tumour(live))

    def showTumour(self) -> None:
        """Turn all slice views to the middle of the largest box; they stay where they are if nothing was found."""
        live = self._live
        found = [] if live is None else [box for boxes in live.facts.boxes.values() for box in boxes]
        if live is not None and found:
            largest = max(found, key=lambda box: np.prod(box.shape))
            middle = (largest.lower[0] + largest.upper[0]) // 2
            slices.jumpToSlice(live.volumeNode, live.grids.working, middle, largest)

    def setConfidenceVisible(self, visible: bool) -> None:
        """Lay the confidence over the slice views, or take it away."""
        self.wantsConfidence = visible
        live = self._live
        if not visible:
            overlays.setForeground(self._state, None)
        elif live is not None:
            self._submit(live.session.confidence, lambda values: self._onConfidence(live, values))

    def _submit(self, ask: Callable[[], Any], onDone: Callable[[Any], None]) -> None:
        self._jobs.submit(Job(Kind.INSIGHTS, lambda _cancel, _emit: ask(), onDone=onDone, onFailed=self._onFailed))

    def _onInsights(self, insights: Insights) -> None:
        self.insights, self._fresh, self._uncertain = insights, True, -1
        self.current = True
        showInsights(self._state, insights)
        self.insightsChanged.emit(insights)

    def _onConfidence(self, live: LiveCase, values: Any) -> None:
        node = overlays.showConfidence(live, values)
        if self.wantsConfidence:
            overlays.setForeground(self._state, node)

    def _onFailed(self, error: SofaError) -> None:
        # What was cancelled is asked again when there is time; what failed would fail again.
        self._fresh = not wasCancelled(error)
        if not wasCancelled(error):
            self.failed.emit(str(error))


def _tumour(live: LiveCase) -> Box | None:
    return Box.enclosing(box for boxes in live.facts.boxes.values() for box in boxes)
