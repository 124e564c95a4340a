"""Placing a box by its edges instead of with the mouse: for the keyboard, and to the voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sofa_engine.types import Box, SubRegion
from SOFASegmentLib.geometry import boxOfRoi, placeRoi

if TYPE_CHECKING:
    from trame_server import Server

    from sofa_engine.geometry import Geometry
    from sofa_web.logic.boxes import BoxesLogic
    from sofa_web.workspace import Workspace

#: First and last slice of the box along each axis of the volume, in the order of its arrays; names of the page's state.
EDGES = ("edge_z", "edge_y", "edge_x")
#: What the ends of an axis are called, by the RAS axis that it is nearest to.
_ENDS = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))


class PlaceBoxLogic:
    """A range of slices per axis of the volume, for the box of a sub-region that the user looks at."""

    def __init__(self, server: Server, workspace: Workspace, boxes: BoxesLogic) -> None:
        self._state = server.state
        self._workspace = workspace
        self._boxes = boxes
        self._node: Any = None
        self._placed: Box | None = None
        workspace.opened.connect(self._follow)
        server.state.change(*EDGES)(self._on_edges)

    def begin(self, key: str) -> None:
        """Show the edges of a sub-region's box."""
        node, live = self._boxes.looked_at(key), self._workspace.controller.live
        if node is None or live is None:
            return
        geometry = live.grids.working
        box = boxOfRoi(node, live.volumeNode, geometry)
        if box is None:
            return
        self._node = node
        self._show(box)
        state = self._state
        state.edge_axes = [
            {
                "title": _axis_title(geometry, axis),
                "most": geometry.shape[axis] - 1,
                "spacing": round(geometry.spacing[axis], 3),
            }
            for axis in range(3)
        ]
        state.edges_title = SubRegion(key).title
        state.edges_open = True

    def _on_edges(self, **_: object) -> None:
        """Move the box's faces; the segment follows as after a drag."""
        live = self._workspace.controller.live
        if live is None or self._node is None or self._node.GetScene() is None:
            self._state.edges_open = False
            return
        edges = [sorted(map(int, self._state[name])) for name in EDGES]
        box = Box(tuple(first for first, _ in edges), tuple(last + 1 for _, last in edges))
        if box != self._placed:
            self._placed = box
            placeRoi(self._node, box, live.grids.working)

    def _follow(self, _notes: tuple[str, ...]) -> None:
        self._node = None
        self._state.edges_open = False
        self._workspace.controller.historyChanged.connect(self._read_again)

    def _read_again(self) -> None:
        """Show where the box lies now: undo moves it while the dialog is open."""
        live = self._workspace.controller.live
        if live is None or self._node is None or self._node.GetScene() is None:
            return
        box = boxOfRoi(self._node, live.volumeNode, live.grids.working)
        if box is not None and box != self._placed:
            self._show(box)

    def _show(self, box: Box) -> None:
        self._placed = box
        for axis, name in enumerate(EDGES):
            self._state[name] = [box.lower[axis], box.upper[axis] - 1]


def _axis_title(geometry: Geometry, axis: int) -> str:
    """Say which way an axis (z, y, x) of a grid runs, such as "right to left"."""
    direction = geometry.matrix[:3, 2 - axis]
    nearest = int(np.argmax(np.abs(direction)))
    low, high = _ENDS[nearest] if direction[nearest] > 0 else _ENDS[nearest][::-1]
    return f"{low} to {high}"
