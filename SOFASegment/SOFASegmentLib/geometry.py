"""Between MRML nodes and the engine's grids and boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from slicer.util import arrayFromVTKMatrix, vtkMatrixFromArray

from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.types import Box
from SOFASegmentLib.i18n import tr as _


def noImageSentence(volumeNode: Any) -> str:
    """Say that a volume node is empty."""
    return _("{volume} holds no image; load it again or choose another volume.").format(volume=volumeNode.GetName())


def localGeometry(volumeNode: Any) -> Geometry:
    """Return a volume node's grid in its own coordinates, parent transforms left out."""
    image = volumeNode.GetImageData()
    if image is None or min(image.GetDimensions()) < 1:
        raise InputError(noImageSentence(volumeNode))
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return Geometry.from_matrix(image.GetDimensions()[::-1], arrayFromVTKMatrix(matrix))


def worldGeometry(volumeNode: Any) -> Geometry:
    """Return a volume node's grid in world RAS millimetres, parent transforms applied.

    Raises:
        InputError: a parent transform bends space, so that the voxels are on no grid.
    """
    local = localGeometry(volumeNode)
    parent = volumeNode.GetParentTransformNode()
    if parent is None:
        return local
    if not parent.IsTransformToWorldLinear():
        raise InputError(
            _("{volume} is under a transform that bends space; harden the transform before segmenting.").format(
                volume=volumeNode.GetName()
            )
        )
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return Geometry.from_matrix(local.shape, arrayFromVTKMatrix(matrix) @ local.matrix)


def setIjkToRas(node: Any, geometry: Geometry) -> None:
    """Give a volume node or an oriented image the grid's position, spacing and directions."""
    matrix = vtkMatrixFromArray(geometry.matrix)
    if isinstance(node, slicer.vtkOrientedImageData):
        node.SetImageToWorldMatrix(matrix)
    else:
        node.SetIJKToRASMatrix(matrix)


def boxOfRoi(roiNode: Any, volumeNode: Any, geometry: Geometry) -> Box | None:
    """Return the voxels that an ROI node holds, or None if it misses the volume.

    Args:
        roiNode: vtkMRMLMarkupsROINode, however rotated or transformed; all eight corners count.
        volumeNode: the node whose coordinates `geometry` is in.
        geometry: the grid whose voxels are meant.
    """
    half = np.array(roiNode.GetSize()) / 2
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij")).reshape(3, 8).T
    toNode = arrayFromVTKMatrix(roiNode.GetObjectToNodeMatrix())
    corners = (signs * half) @ toNode[:3, :3].T + toNode[:3, 3]
    between = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        roiNode.GetParentTransformNode(), volumeNode.GetParentTransformNode(), between
    )
    return geometry.box_from_corners_ras(np.array([between.TransformPoint(corner) for corner in corners]))


def placeRoi(roiNode: Any, box: Box, geometry: Geometry) -> None:
    """Lay an ROI node around a box's voxels, tight to the grid's own axes. The node shares the volume's transform."""
    axes = _axes(geometry)
    corners = geometry.box_corners_ras(box)
    along = corners @ axes
    centre = axes @ ((along.min(axis=0) + along.max(axis=0)) / 2)
    toNode = np.eye(4)
    toNode[:3, :3], toNode[:3, 3] = axes, centre
    with slicer.util.NodeModify(roiNode):
        # The size comes first: an ROI without a size does not say that it moved.
        roiNode.SetSize(*np.ptp(along, axis=0))
        roiNode.SetAndObserveObjectToNodeMatrix(vtkMatrixFromArray(toNode))


def _axes(geometry: Geometry) -> np.ndarray:
    """Return the grid's directions as the columns of a rotation, each in the place of the RAS axis it is nearest to.

    An ROI's axes must be right-handed, which a flipped volume's are not; turned towards R, A and S they always are.
    """
    directions = geometry.matrix[:3, :3] / np.linalg.norm(geometry.matrix[:3, :3], axis=0)
    u, _scales, vt = np.linalg.svd(directions)
    directions = u @ vt
    order: list[int] = []
    for row in np.abs(directions):
        order.append(max((c for c in range(3) if c not in order), key=lambda c: row[c]))
    turned = directions[:, order] * np.where(np.diag(directions[:, order]) < 0, -1.0, 1.0)
    if np.linalg.det(turned) < 0:
        turned[:, 2] *= -1
    return turned
