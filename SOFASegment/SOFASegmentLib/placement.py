"""Where results lie: on the volume that they are of, whatever transforms the user puts on either or hardens."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from slicer.util import arrayFromVTKMatrix

from sofa_engine.geometry import Geometry
from sofa_engine.types import Box
from SOFASegmentLib.geometry import localGeometry
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.scene_state import CONFIDENCE, SEGMENTATION, SceneState

#: Part of a voxel by which two grids may differ and still be one: what is read from files is rounded.
_SLACK = 0.1


def takeAlong(state: SceneState, segmentationNode: Any, volumeNode: Any) -> None:
    """Keep a segmentation in its volume's coordinates, with its boxes and the confidence.

    They are put under the transform that the volume is put under. One that the volume took in (hardened) is taken in by
    them, so that they stay where they are and go on following. What lies elsewhere is left there.
    """
    confidence = state.get(CONFIDENCE) if segmentationNode is state.get(SEGMENTATION) else None
    results = (*state.allBoxNodes(segmentationNode), confidence, segmentationNode)
    own, before, now = (
        _ownGrid(segmentationNode),
        segmentationNode.GetTransformNodeID(),
        volumeNode.GetTransformNodeID(),
    )
    if own is None or _coincide(own, localGeometry(volumeNode)):
        for node in results if before != now else ():
            if node is not None and node.GetTransformNodeID() == before:
                node.SetAndObserveTransformNodeID(now)
    elif gridIn(segmentationNode, volumeNode) is not None:
        for node in results:
            if node is not None:
                _putInto(node, volumeNode)


def gridIn(segmentationNode: Any, volumeNode: Any) -> Geometry | None:
    """Return a volume's grid in its segmentation's coordinates, or None if the segmentation lies elsewhere.

    The coordinates are the volume's own as long as both are under one transform.
    """
    local, own, toVolume = localGeometry(volumeNode), _ownGrid(segmentationNode), _between(segmentationNode, volumeNode)
    if toVolume is None:
        return None
    matrix = arrayFromVTKMatrix(toVolume)
    if own is not None and not _coincide(Geometry.from_matrix(own.shape, matrix @ own.matrix), local):
        return None
    return Geometry.from_matrix(local.shape, np.linalg.inv(matrix) @ local.matrix)


def displacedSentence(segmentationNode: Any, volumeNode: Any) -> str:
    """Say that a segmentation does not lie on its volume."""
    return _(
        "{segmentation} does not lie on {volume} any more; put back the one that was moved, or press Segment to segment"
        " {volume} again."
    ).format(segmentation=segmentationNode.GetName(), volume=volumeNode.GetName())


def _putInto(node: Any, volumeNode: Any) -> None:
    """Bring a node into a volume's coordinates without moving it in the world."""
    toVolume = _between(node, volumeNode)
    if toVolume is not None:
        node.ApplyTransformMatrix(toVolume)
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())


def _between(node: Any, volumeNode: Any) -> Any:
    """Return the vtkMatrix4x4 from a node's coordinates to a volume's, or None where space is bent in between."""
    matrix = vtk.vtkMatrix4x4()
    linear = slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(
        node.GetParentTransformNode(), volumeNode.GetParentTransformNode(), matrix
    )
    return matrix if linear else None


def _ownGrid(segmentationNode: Any) -> Geometry | None:
    """Return a segmentation's reference grid in its own coordinates, which hardening moves along; None without one."""
    converter, image = slicer.vtkSegmentationConverter, slicer.vtkOrientedImageData()
    name = converter.GetReferenceImageGeometryParameterName()
    text = segmentationNode.GetSegmentation().GetConversionParameter(name)
    if not text or not converter.DeserializeImageGeometry(text, image, False):
        return None
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return Geometry.from_matrix(image.GetDimensions()[::-1], arrayFromVTKMatrix(matrix))


def _coincide(one: Geometry, other: Geometry) -> bool:
    """Whether two grids fill the same space; Segment Editor may have made one of them finer."""
    corners = [grid.box_corners_ras(Box((0, 0, 0), grid.shape)) for grid in (one, other)]
    slack = _SLACK * min(other.spacing) if one.shape == other.shape else max(*one.spacing, *other.spacing)
    return bool(np.abs(corners[0] - corners[1]).max() <= slack)
