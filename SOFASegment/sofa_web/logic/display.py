"""What the views show: sequences, window, segments' looks, layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trame_slicer.core import VolumeWindowLevel

from SOFASegmentLib.controller import Phase
from SOFASegmentLib.scene_state import CONFIDENCE, SEGMENTATION

if TYPE_CHECKING:
    from trame_server import Server

    from sofa_web.views import Views
    from sofa_web.workspace import Workspace

_STEPS = 500


class DisplayLogic:
    """Follows the page's choices into display nodes and views."""

    def __init__(self, server: Server, workspace: Workspace, views: Views) -> None:
        self._state = server.state
        self._workspace = workspace
        self._views = views
        self._segmentation: Any = None
        workspace.opened.connect(self._on_opened)
        workspace.chosen.connect(self._name_volumes)
        change = server.state.change
        change("background")(self._on_background)
        change("foreground", "foreground_opacity")(self._on_foreground)
        change("window")(self._on_window)
        change("fill_opacity", "outline")(self._on_looks)
        change("surfaces")(self._on_surfaces)
        change("crosshair")(lambda crosshair, **_: views.show_crosshair(crosshair))
        change("layout")(lambda layout, **_: views.show_layout(layout))

    def fit(self) -> None:
        """Bring everything into the views."""
        self._views.fit()

    def _on_opened(self, _notes: tuple[str, ...]) -> None:
        state = self._state
        self._segmentation = None
        shown = self._workspace.state.reference() or self._workspace.volumes()[0]
        with state:
            self._name_volumes()
            state.background = shown.GetID()
            state.foreground = None
        self._views.show_background(shown)
        self._views.show_foreground(None)
        self._views.fit()
        self._workspace.controller.phaseChanged.connect(self._on_phase)

    def _name_volumes(self) -> None:
        """Offer the case's volumes, the sequences first and by what they are."""
        chosen = self._workspace.state.inputs()
        items = [(modality.title, node) for modality, node in chosen.items()]
        taken = list(chosen.values())
        items += [(node.GetName(), node) for node in self._workspace.volumes() if node not in taken]
        self._state.volumes = [{"title": title, "value": node.GetID()} for title, node in items]

    def _on_phase(self, phase: Phase) -> None:
        if phase is not Phase.READY:
            return
        node = self._workspace.state.get(SEGMENTATION)
        self._workspace.controller.setSurfacesVisible(self._state.surfaces)
        self._on_looks()
        if node is not self._segmentation:
            self._segmentation = node
            self._views.fit_threed()

    def _on_background(self, background: str | None, **_: object) -> None:
        node = self._workspace.scene.GetNodeByID(background) if background else None
        if node is None:
            return
        self._views.show_background(node)
        least, most = VolumeWindowLevel.get_volume_scalar_range(node)
        low, high = VolumeWindowLevel.get_volume_display_range(node)
        state = self._state
        state.window_least, state.window_most = float(least), float(most)
        state.window_step = (most - least) / _STEPS or 1.0
        state.window = [max(float(least), float(low)), min(float(most), float(high))]

    def _on_foreground(self, foreground: str | None, foreground_opacity: float, **_: object) -> None:
        node = self._workspace.scene.GetNodeByID(foreground) if foreground else None
        if node is not None and self._workspace.state.get(CONFIDENCE) is node:
            return
        controller = self._workspace.controller
        judged = controller.confidenceVisible()
        if judged:  # it lies where this is to lie, and would bring back what lay there before
            controller.setConfidenceVisible(False)
        self._views.show_foreground(node)
        self._views.fade_foreground(foreground_opacity if node is not None else 0.0)
        if judged and node is None:
            controller.setConfidenceVisible(True)
        elif judged:
            self._state.confidence_visible = False

    def _on_window(self, window: list[float], background: str | None, **_: object) -> None:
        node = self._workspace.scene.GetNodeByID(background) if background else None
        if node is not None and window[1] > window[0]:
            VolumeWindowLevel.set_volume_node_display_min_max_range(node, *window)
            # trame-slicer draws when a view's layers change, not when a volume's display does.
            self._views.redraw()

    def _on_looks(self, **_: object) -> None:
        node = self._workspace.state.get(SEGMENTATION)
        if node is not None:
            display = node.GetDisplayNode()
            display.SetOpacity2DFill(self._state.fill_opacity)
            display.SetVisibility2DOutline(self._state.outline)

    def _on_surfaces(self, surfaces: bool, **_: object) -> None:
        self._workspace.controller.setSurfacesVisible(surfaces)
