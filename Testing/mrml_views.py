"""Offscreen views of a real scene, and a mouse in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from trame_slicer.core import SlicerApp
from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition, ViewProps, ViewType
from vtk.util.numpy_support import vtk_to_numpy

_SLICE_VIEWS = {
    "Red": ViewProps(orientation="Axial", label="R", color="#F34A33"),
    "Green": ViewProps(orientation="Coronal", label="G", color="#6EB04B"),
    "Yellow": ViewProps(orientation="Sagittal", label="Y", color="#EDD54C"),
}


_AROUND = tuple((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0))


class SliceMouse:
    """A slice view that is rendered offscreen, and a mouse that sends it interactor events."""

    def __init__(self, view: Any) -> None:
        self.view = view

    def show(self, volumeNode: Any, foreground: Any = None) -> None:
        self.view.set_background_volume_id(volumeNode.GetID())
        self.view.set_foreground_volume_id(foreground.GetID() if foreground is not None else None)
        self.view.fit_view_to_content()
        self.view.render()

    def position(self, ras: np.ndarray) -> tuple[int, int]:
        """Where a point in world RAS is drawn, in display pixels."""
        matrix = slicer.util.arrayFromVTKMatrix(self.view.get_view_node().GetXYToRAS())
        x, y = (np.linalg.inv(matrix) @ [*ras, 1.0])[:2]
        return round(x), round(y)

    def dragFace(self, roi: Any, axis: int, sign: int, millimetres: float, steps: int = 5, onStep: Any = None) -> None:
        """Take the handle in the middle of a box's face, pull it outward (or push it inward), and let go."""
        matrix = slicer.util.arrayFromVTKMatrix(roi.GetObjectToNodeMatrix())
        outward = matrix[:3, axis] * sign
        face = matrix[:3, 3] + outward * roi.GetSize()[axis] / 2
        x, y = self._grip(roi, face)
        self.view.interactor().InvokeEvent("LeftButtonPressEvent")
        dx, dy = np.subtract(self.position(face + millimetres * outward), self.position(face)) / steps
        for step in range(1, steps + 1):
            self.moveTo(round(x + dx * step), round(y + dy * step))
            if onStep is not None:
                onStep()
        self.release()

    def _grip(self, roi: Any, ras: np.ndarray) -> tuple[int, int]:
        """Move to where the box's own handle lights up, as a person does where another box's handle lies over it.

        Exactly on an outline Slicer picks the outline, too. A locked box has no handle: there the mouse stays.
        """
        display = roi.GetDisplayNode()
        x, y = self.position(ras)
        for dx, dy in ((0, 0), *((r * a, r * b) for r in (3, 5, 8, 10) for a, b in _AROUND)):
            self.moveTo(x + dx, y + dy)
            if display.GetActiveComponentType() == slicer.vtkMRMLMarkupsDisplayNode.ComponentScaleHandle:
                return x + dx, y + dy
        assert roi.GetLocked(), f"the mouse finds no handle of {roi.GetName()} there"
        self.moveTo(x, y)
        return x, y

    def move(self, ras: np.ndarray) -> None:
        self.moveTo(*self.position(ras))

    def moveTo(self, x: int, y: int) -> None:
        interactor = self.view.interactor()
        interactor.SetEventPosition(x, y)
        interactor.InvokeEvent("MouseMoveEvent")
        self.view.render()

    def release(self) -> None:
        self.view.interactor().InvokeEvent("LeftButtonReleaseEvent")
        self.view.render()


def sliceMouse(app: SlicerApp, name: str = "Red", size: int = 500) -> SliceMouse:
    _factory(app)
    view = app.view_manager.create_view(ViewLayoutDefinition(name, ViewType.SLICE_VIEW, _SLICE_VIEWS[name]))
    view.update_size(size, size)
    return SliceMouse(view)


def threeDView(app: SlicerApp, size: int = 500) -> Any:
    _factory(app)
    view = app.view_manager.create_view(ViewLayoutDefinition("3D", ViewType.THREE_D_VIEW, ViewProps(box_visible=False)))
    view.update_size(size, size)
    return view


def picture(view: Any) -> np.ndarray:
    """What a view shows, uint8 (H, W, 3)."""
    view.render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.render_window())
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()


def savePicture(path: Path, pixels: np.ndarray) -> None:
    import matplotlib.image

    matplotlib.image.imsave(path, pixels)


def _factory(app: SlicerApp) -> None:
    if not app.view_manager._factories:
        app.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
