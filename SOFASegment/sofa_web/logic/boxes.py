"""The sub-regions' lines: volume, lock, and what can be done to the boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sofa_engine.types import SUB_REGIONS, SubRegion
from SOFASegmentLib.controller import Phase

if TYPE_CHECKING:
    from trame_server import Server

    from sofa_web.views import Views
    from sofa_web.workspace import Workspace
    from SOFASegmentLib.insights import Insights

_TOTALS = {"WT": "Whole tumour", "TC": "Tumour core"}


class BoxesLogic:
    """Keeps the lines as the controller has them."""

    def __init__(self, server: Server, workspace: Workspace, views: Views) -> None:
        self._state = server.state
        self._workspace = workspace
        self._views = views
        workspace.opened.connect(self._follow)
        self._follow(())

    def toggle_lock(self, key: str) -> None:
        """Lock or unlock a sub-region."""
        controller, region = self._workspace.controller, SubRegion(key)
        controller.setLocked(region, not controller.isLocked(region))
        self._update()

    def add(self, key: str) -> None:
        """Add a box where the user looks: where the slices that are shown meet."""
        self._workspace.controller.addBox(SubRegion(key), self._views.meeting_point())

    def delete(self, key: str) -> None:
        """Delete the box that the user looks at."""
        node = self.looked_at(key)
        if node is not None and not self._workspace.controller.isLocked(SubRegion(key)):
            self._workspace.controller.deleteBox(node)

    def reset(self, key: str) -> None:
        """Go back to the first pass's boxes."""
        self._workspace.controller.resetBox(SubRegion(key))

    def split(self, key: str) -> None:
        """Give every lesion a box."""
        self._workspace.controller.splitLesions(SubRegion(key))

    def toggle_visible(self) -> None:
        """Show or hide all boxes."""
        controller = self._workspace.controller
        controller.setBoxesVisible(not controller.boxesVisible())
        self._update()

    def toggle_shown(self, key: str) -> None:
        """Show or hide a sub-region's boxes."""
        nodes = self._workspace.controller.state.boxNodes(SubRegion(key))
        visible = not any(node.GetDisplayVisibility() for node in nodes)
        for node in nodes:
            node.SetDisplayVisibility(visible)
        self._update()

    def looked_at(self, key: str) -> Any:
        """Return the ROI node, of a sub-region's several, that is nearest to where the slices meet, or None."""
        nodes = self._workspace.controller.state.boxNodes(SubRegion(key))
        here = np.array(self._views.meeting_point())
        return min(nodes, key=lambda node: _distance(node, here), default=None)

    def _follow(self, _notes: tuple[str, ...]) -> None:
        controller = self._workspace.controller
        controller.historyChanged.connect(self._update)
        controller.phaseChanged.connect(self._on_phase)
        controller.insightsChanged.connect(self._on_insights)
        self._on_insights(None)

    def _on_phase(self, _phase: Phase) -> None:
        self._on_insights(self._workspace.controller.insights)

    def _on_insights(self, insights: Insights | None) -> None:
        volumes = {} if insights is None else insights.volumesMl
        self._state.totals = [
            {"title": title, "ml": f"{volumes[name]:.1f}"} for name, title in _TOTALS.items() if name in volumes
        ]
        self._update()

    def _update(self) -> None:
        controller = self._workspace.controller
        insights = controller.insights
        self._state.regions = [self._line(line, SubRegion(line["key"]), insights) for line in self._state.regions]
        self._state.boxes_visible = controller.boxesVisible() or not any(
            controller.state.boxNodes(region) for region in SUB_REGIONS
        )

    def _line(self, line: dict[str, Any], region: SubRegion, insights: Insights | None) -> dict[str, Any]:
        controller = self._workspace.controller
        volume = None if insights is None else insights.volumesMl.get(region.value.upper())
        nodes = controller.state.boxNodes(region)
        return {
            **line,
            "ml": "–" if volume is None else f"{volume:.1f}",
            "locked": controller.isLocked(region),
            "boxes": len(nodes),
            "shown": any(node.GetDisplayVisibility() for node in nodes),
        }


def _distance(node: Any, ras: np.ndarray) -> float:
    """Return how far a point in RAS mm lies outside of an ROI node; 0 inside."""
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    lower, upper = bounds[::2], bounds[1::2]
    return float(np.linalg.norm(np.maximum(0, np.maximum(lower - ras, ras - upper))))
