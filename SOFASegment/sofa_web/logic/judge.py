"""What helps to judge a result: confidence, uncertain slices, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sofa_engine.types import SUB_REGIONS
from SOFASegmentLib.controller import Phase

if TYPE_CHECKING:
    from trame_server import Server

    from sofa_web.workspace import Workspace
    from SOFASegmentLib.insights import Insights


class JudgeLogic:
    """Shows what the session says about its own result."""

    def __init__(self, server: Server, workspace: Workspace) -> None:
        self._state = server.state
        self._workspace = workspace
        workspace.opened.connect(self._follow)
        server.state.change("confidence_visible")(self._on_confidence)
        self._follow(())

    def step(self, step: int) -> None:
        """Turn the views to the next uncertain slice, or with -1 to the one before."""
        self._workspace.controller.nextUncertainSlice(step)

    def jump(self, index: int) -> None:
        """Turn the views to a slice."""
        self._workspace.controller.jumpToSlice(int(index))

    def toggle_confidence(self) -> None:
        """Show or hide the overlay."""
        if self._workspace.controller.live is not None:
            self._state.confidence_visible = not self._state.confidence_visible

    def _follow(self, _notes: tuple[str, ...]) -> None:
        self._state.confidence_visible = False
        self._state.uncertain, self._state.attention = [], []
        self._workspace.controller.insightsChanged.connect(self._on_insights)
        self._workspace.controller.phaseChanged.connect(self._on_phase)

    def _on_phase(self, _phase: Phase) -> None:
        """Show nothing of a former result beside one that has not been judged yet."""
        if self._workspace.controller.insights is None:
            self._state.uncertain, self._state.attention = [], []

    def _on_confidence(self, confidence_visible: bool, **_: object) -> None:
        controller = self._workspace.controller
        if confidence_visible != controller.confidenceVisible():
            controller.setConfidenceVisible(confidence_visible)

    def _on_insights(self, insights: Insights) -> None:
        position = self._workspace.controller.slicePosition
        self._state.uncertain = [
            {
                "slice": s.slice_index,
                "position": position(s.slice_index),
                "region": s.sub_region.title,
                "percent": round(100 * s.confidence),
            }
            for s in insights.uncertainSlices
        ]
        self._state.attention = [
            {
                "title": region.title,
                "weights": [{"title": m.title, "percent": round(100 * w)} for m, w in weights.items()],
            }
            for region in SUB_REGIONS
            if (weights := insights.attention.get(region))
        ]
