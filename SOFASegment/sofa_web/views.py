"""The four views: what they are, which of them are drawn, and what lies in their layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from trame_slicer.core import SlicerApp
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import ViewLayoutDefinition

from sofa_web.ui.view_overlay import slice_overlay, threed_overlay

if TYPE_CHECKING:
    from trame_server import Server

_FPS = 30.0
#: Of the views that the mouse is not in. Where no GPU draws, each of their frames is one less of the view in use.
_FPS_ASIDE = 15.0
_FPS_ASIDE_IN_SOFTWARE = 3.0
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "SwiftShader")
#: JPEG quality while something moves; a still picture follows at quality 90.
_MOVING_QUALITY = 75

_VIEWS = {
    "axial": ViewLayoutDefinition.slice_view("Axial", color="#F34A33"),
    "threed": ViewLayoutDefinition.threed_view(name="ThreeD", background_color=("#14171a", "#2a2f34")),
    "coronal": ViewLayoutDefinition.slice_view("Coronal", color="#6DAD4A"),
    "sagittal": ViewLayoutDefinition.slice_view("Sagittal", color="#EFD64D"),
}
#: Name of each view's own part of the page, row by row.
VIEW_TEMPLATES = {name: definition.singleton_tag for name, definition in _VIEWS.items()}
LAYOUTS = {"four": "Four views", "axial": "Axial", "coronal": "Coronal", "sagittal": "Sagittal", "threed": "3D"}


class Views:
    """Axial, coronal, sagittal and 3D view of one scene."""

    def __init__(self, server: Server, app: SlicerApp) -> None:
        """Make the views; nothing is drawn before a browser says how large they are."""
        self._app = app
        register_rca_factories(
            app.view_manager,
            server,
            slice_view_ui_f=slice_overlay,
            three_d_view_ui_f=threed_overlay,
            target_fps=_FPS,
            blur_fps=_FPS_ASIDE_IN_SOFTWARE if draws_in_software() else _FPS_ASIDE,
            interactive_quality=_MOVING_QUALITY,
        )
        for definition in _VIEWS.values():
            app.view_manager.create_view(definition)
        self.show_layout("four")
        for view in app.view_manager.get_slice_views():
            # Smoothing the few lines over a picture would cost a quarter of every frame where no GPU draws.
            view.render_window().SetMultiSamples(0)
        self._fits = [_Fit(view) for view in app.view_manager.get_slice_views()]
        self.show_crosshair(True)
        for view in app.view_manager.get_slice_views():
            view.get_view_node().AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_slice_moved)

    def show_layout(self, name: str) -> None:
        """Draw the views that one of `LAYOUTS` shows, and no others; where they lie is the page's affair."""
        shown = _VIEWS.values() if name == "four" else [_VIEWS[name]]
        self._app.view_manager.set_current_view_ids([definition.singleton_tag for definition in shown])

    def show_background(self, node: Any) -> None:
        """Lay a volume under everything else."""
        for view in self._app.view_manager.get_slice_views():
            view.set_background_volume_id(node.GetID() if node is not None else None)

    def show_foreground(self, node: Any) -> None:
        """Lay a volume over the background."""
        for view in self._app.view_manager.get_slice_views():
            view.set_foreground_volume_id(node.GetID() if node is not None else None)

    def fade_foreground(self, opacity: float) -> None:
        """Let the foreground shine through (0) or cover (1)."""
        for view in self._app.view_manager.get_slice_views():
            view.set_foreground_opacity(opacity)

    def fit(self) -> None:
        """Bring the whole head into every view."""
        for fit in self._fits:
            fit.fit()
        self.fit_threed()

    def fit_threed(self) -> None:
        """Bring surfaces and boxes into the 3D view."""
        for view in self._app.view_manager.get_threed_views():
            view.fit_view_to_content()
            view.schedule_render()

    def show_crosshair(self, visible: bool) -> None:
        """Show the crosshair: where the slices meet, and where the mouse is while Shift is held."""
        node = self._app.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        node.SetCrosshairBehavior(slicer.vtkMRMLCrosshairNode.OffsetJumpSlice)
        node.SetCrosshairMode(
            slicer.vtkMRMLCrosshairNode.ShowBasic if visible else slicer.vtkMRMLCrosshairNode.NoCrosshair
        )

    def meeting_point(self) -> tuple[float, float, float]:
        """Return where the three slices that are shown meet, in RAS mm."""
        planes = np.array(
            [
                slicer.util.arrayFromVTKMatrix(view.get_view_node().GetSliceToRAS())
                for view in self._app.view_manager.get_slice_views()
            ]
        )
        normals, points = planes[:, :3, 2], planes[:, :3, 3]
        return tuple(map(float, np.linalg.solve(normals, (normals * points).sum(axis=1))))

    def _on_slice_moved(self, *_: object) -> None:
        """Keep the crosshair where the slices meet, however they were turned: wheel, slider, key or a jump."""
        node = self._app.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if not np.allclose(node.GetCrosshairRAS(), point := self.meeting_point(), atol=1e-3):
            node.SetCrosshairRAS(point)

    def redraw(self) -> None:
        """Draw all views, for a browser that has just come."""
        for view in self._app.view_manager.get_views():
            view.schedule_render()


def draws_in_software() -> bool:
    """Whether OpenGL runs on the CPU here."""
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetSize(8, 8)
    window.Render()
    told = window.ReportCapabilities()
    window.Finalize()
    return any(name in told for name in _SOFTWARE)


class _Fit:
    """Keeps a slice view fitted to its volume while the window changes, until the user zooms or pans."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self._fitted: tuple[float, ...] = ()
        self._follow = False
        # trame-slicer's own observer resizes the slice in between, with priority 0.
        view.interactor().AddObserver("WindowResizeEvent", self._before_resize, 1.0)
        view.interactor().AddObserver("WindowResizeEvent", self._after_resize, -1.0)

    def fit(self) -> None:
        """Fit now."""
        self._view.fit_view_to_content()
        self._fitted = self._now()
        self._view.schedule_render()

    def _now(self) -> tuple[float, ...]:
        node = self._view.get_view_node()
        return (*node.GetFieldOfView()[:2], *node.GetXYZOrigin()[:2])

    def _before_resize(self, *_: object) -> None:
        self._follow = bool(self._fitted) and self._now() == self._fitted

    def _after_resize(self, *_: object) -> None:
        if self._follow:
            offset = self._view.get_slice_value()
            self.fit()
            self._view.set_slice_value(offset)
