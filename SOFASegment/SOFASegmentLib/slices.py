"""Which slices the user looks at, and bringing one before the user's eyes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.util import arrayFromVTKMatrix

from sofa_engine.geometry import Geometry
from sofa_engine.types import Box
from SOFASegmentLib.scene_state import nodesByClass

#: A view shows "a slice" of the grid if it is tilted by less than this against it (cosine of about 18 degrees).
_PARALLEL = 0.95


@dataclass(frozen=True)
class VisibleSlices:
    """What the slice views show of a grid.

    Attributes:
        parallel: slices (indices on axis 0) that a view shows whole, without repetition.
        across: whether a view cuts through many slices, as coronal and sagittal views do.
    """

    parallel: tuple[int, ...]
    across: bool


def visibleSlices(volumeNode: Any, geometry: Geometry) -> VisibleSlices:
    """Return what the slice views in the layout show; all slice views count where no layout says which are shown.

    Args:
        volumeNode: the node whose coordinates `geometry` is in.
        geometry: the grid whose slices are meant.
    """
    nodes = nodesByClass(volumeNode.GetScene(), "vtkMRMLSliceNode")
    shown = [node for node in nodes if node.IsMappedInLayout()] or nodes
    toLocal = _worldToLocal(volumeNode)
    normal = geometry.matrix[:3, 2] / np.linalg.norm(geometry.matrix[:3, 2])
    parallel: list[int] = []
    across = False
    for node in shown:
        plane = toLocal @ arrayFromVTKMatrix(node.GetSliceToRAS())
        direction = plane[:3, 2] / np.linalg.norm(plane[:3, 2])
        if abs(direction @ normal) < _PARALLEL:
            across = True
            continue
        index = round(float(geometry.ras_to_index(plane[:3, 3])[0]))
        if 0 <= index < geometry.shape[0] and index not in parallel:
            parallel.append(index)
    return VisibleSlices(tuple(parallel), across)


def jumpToSlice(volumeNode: Any, geometry: Geometry, index: int, around: Box | None) -> None:
    """Turn all slice views to a slice of the grid, centred on a box where one is given."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(volumeNode.GetScene(), *_pointOn(volumeNode, geometry, index, around))


def positionText(volumeNode: Any, geometry: Geometry, index: int, around: Box | None) -> str:
    """Return where a slice lies in the words of Slicer's slice views, "S: 12.5 mm", once `jumpToSlice` went there."""
    linear = np.linalg.inv(_worldToLocal(volumeNode))[:3, :3]
    axis = int(np.argmax(np.abs(linear @ geometry.matrix[:3, 2])))
    return f"{'RAS'[axis]}: {_pointOn(volumeNode, geometry, index, around)[axis]:.1f} mm"


def lookedAt(volumeNode: Any) -> np.ndarray | None:
    """Return the point in world RAS mm where the visible slices cross; None where they do not cross in one point."""
    nodes = nodesByClass(volumeNode.GetScene(), "vtkMRMLSliceNode")
    planes = [arrayFromVTKMatrix(n.GetSliceToRAS()) for n in nodes if n.IsMappedInLayout()]
    if not planes:
        return None
    normals = np.array([plane[:3, 2] / np.linalg.norm(plane[:3, 2]) for plane in planes])
    offsets = np.array([normal @ plane[:3, 3] for normal, plane in zip(normals, planes, strict=True)])
    point, _residuals, rank, _singular = np.linalg.lstsq(normals, offsets, rcond=1e-3)
    return point if rank == 3 else None


def indexOf(volumeNode: Any, geometry: Geometry, ras: Any) -> np.ndarray:
    """Return the continuous index (z, y, x) of a point in world RAS mm."""
    return geometry.ras_to_index((_worldToLocal(volumeNode) @ [*ras, 1.0])[:3])


def cubeAround(geometry: Geometry, centre: Any, sizeMm: float) -> Box | None:
    """Return a cube around a continuous index (z, y, x), clipped to the grid; None if nothing of it is inside."""
    half = sizeMm / 2 / np.array(geometry.spacing)
    lower = np.maximum(np.rint(np.array(centre) - half), 0).astype(int)
    upper = np.minimum(np.rint(np.array(centre) + half) + 1, geometry.shape).astype(int)
    if np.any(upper <= lower):
        return None
    return Box(tuple(int(v) for v in lower), tuple(int(v) for v in upper))


def _pointOn(volumeNode: Any, geometry: Geometry, index: int, around: Box | None) -> np.ndarray:
    """Return the middle of a box, or of the grid, on a slice of the grid, in world RAS mm."""
    middle = [(n - 1) / 2 for n in geometry.shape]
    if around is not None:
        middle = [(a + b - 1) / 2 for a, b in zip(around.lower, around.upper, strict=True)]
    local = geometry.index_to_ras(np.array([index, middle[1], middle[2]], dtype=np.float64))
    return (np.linalg.inv(_worldToLocal(volumeNode)) @ [*local, 1.0])[:3]


def _worldToLocal(volumeNode: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(None, volumeNode.GetParentTransformNode(), matrix)
    return arrayFromVTKMatrix(matrix)
