"""Letters at the edges of the browser's slice views."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from trame_slicer.core import SlicerApp

from sofa_web.orientation import Sides, letters


@pytest.mark.parametrize(
    ("preset", "sides"),
    [
        ("Axial", Sides(left="R", right="L", top="A", bottom="P", axis="S", sign=1)),
        ("Coronal", Sides(left="R", right="L", top="S", bottom="I", axis="A", sign=1)),
        ("Sagittal", Sides(left="A", right="P", top="S", bottom="I", axis="R", sign=-1)),
    ],
)
def test_slicers_own_orientations_have_the_sides_that_radiologists_expect(preset: str, sides: Sides):
    scene = SlicerApp().scene
    node = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    node.SetLayoutName("Red")
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    node.SetOrientation(preset)
    ras = (10.0, 20.0, 30.0)
    node.JumpSlice(*ras)
    assert Sides.of(slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())) == sides
    assert sides.sign * node.GetSliceOffset() == ras["RAS".index(sides.axis)]


def test_a_tilted_view_names_every_direction_that_it_leans_to():
    tilt = np.deg2rad(30)
    assert letters(np.array([0.0, np.cos(tilt), np.sin(tilt)])) == "AS"
    assert letters(np.array([0.0, np.cos(tilt / 3), -np.sin(tilt / 3)])) == "A"
    assert letters(np.array([-2.0, 0.0, 0.0])) == "L"
