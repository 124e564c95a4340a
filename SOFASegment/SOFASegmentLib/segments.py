"""The segmentation node: three segments, and their voxels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.util import arrayFromVTKMatrix
from vtk.util.numpy_support import vtk_to_numpy

from sofa_engine import __version__
from sofa_engine.geometry import Geometry
from sofa_engine.types import SUB_REGIONS, Box, SubRegion
from SOFASegmentLib.appearance import COLOURS, terminologyEntry, titleOf
from SOFASegmentLib.geometry import localGeometry, setIjkToRas
from SOFASegmentLib.hierarchy import placeBeside
from SOFASegmentLib.i18n import tr as _

_LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
_SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
_TAG = "SOFA.subRegion"


def createSegmentationNode(volumeNode: Any) -> Any:
    """Add a segmentation with three empty segments on a volume's grid.

    Reference geometry, parent transform and place in the subject hierarchy follow the volume, which is what DICOM SEG
    export asks for.
    """
    scene = volumeNode.GetScene()
    name = _("{volume} SOFA segmentation").format(volume=volumeNode.GetName())
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    node.GetDisplayNode().SetOpacity2DFill(0.3)
    placeBeside(node, volumeNode)
    segments = Segments(node, localGeometry(volumeNode))
    for subRegion in SUB_REGIONS:
        segments.ensureSegment(subRegion)
    return node


def volumeNodeOf(segmentationNode: Any) -> Any:
    """Return the volume whose grid a segmentation is on, or None if there is none or it has been deleted."""
    return segmentationNode.GetNodeReference(segmentationNode.GetReferenceImageGeometryReferenceRole())


class Segments:
    """The three segments of one segmentation node. Segments that the user added are never touched.

    Every segment has a labelmap of its own that covers the whole grid: an update then writes a few voxels in place,
    instead of new images. What Segment Editor makes of it (shared, cropped or resampled labelmaps) is understood when
    reading and put straight when writing.
    """

    def __init__(self, node: Any, geometry: Geometry) -> None:
        self.node = node
        self.geometry = geometry
        self.writing = False

    @property
    def segmentation(self) -> Any:
        """The node's vtkSegmentation."""
        return self.node.GetSegmentation()

    def segmentId(self, subRegion: SubRegion) -> str | None:
        """Return the ID of a sub-region's segment, known by its tag, or None if the user deleted it."""
        value = vtk.reference("")
        for segmentId in self.segmentation.GetSegmentIDs():
            if self.segmentation.GetSegment(segmentId).GetTag(_TAG, value) and str(value) == subRegion.value:
                return segmentId
        return None

    def ensureSegment(self, subRegion: SubRegion) -> str:
        """Return the ID of a sub-region's segment, adding an empty one where there is none."""
        found = self.segmentId(subRegion)
        if found is not None:
            return found
        segmentId = self.segmentation.AddEmptySegment("", titleOf(subRegion), COLOURS[subRegion])
        segment = self.segmentation.GetSegment(segmentId)
        segment.SetTag(_TAG, subRegion.value)
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminologyEntry(subRegion))
        # What DICOM SEG says of where a segment comes from; without it Slicer's export would say "manual".
        segment.SetTag("DICOM.SegmentAlgorithmType", "SEMIAUTOMATIC")
        segment.SetTag("DICOM.SegmentAlgorithmName", f"SOFA for 3D Slicer {__version__}")
        return segmentId

    def read(self, subRegion: SubRegion) -> np.ndarray:
        """Return a sub-region's voxels, bool (D, H, W) on the grid; all False where there is no segment."""
        segmentId = self.segmentId(subRegion)
        if segmentId is None:
            return np.zeros(self.geometry.shape, bool)
        segment = self.segmentation.GetSegment(segmentId)
        image = segment.GetRepresentation(_LABELMAP)
        return self._voxels(image) == segment.GetLabelValue()

    def stamp(self) -> tuple[Any, ...]:
        """Return what changes whenever somebody changes the segments' voxels and says so to VTK; costs nothing."""
        stamps = []
        for subRegion in SUB_REGIONS:
            segmentId = self.segmentId(subRegion)
            segment = None if segmentId is None else self.segmentation.GetSegment(segmentId)
            image = None if segment is None else segment.GetRepresentation(_LABELMAP)
            scalars = None if image is None else image.GetPointData().GetScalars()
            time = None if scalars is None else max(image.GetMTime(), scalars.GetMTime())
            stamps.append((segmentId, None if segment is None else segment.GetLabelValue(), image, time))
        return tuple(stamps)

    def readLabels(self) -> np.ndarray:
        """Return the three segments as one label map, uint8 (D, H, W); where they overlap the last one counts."""
        labels = np.zeros(self.geometry.shape, np.uint8)
        for subRegion in SUB_REGIONS:
            labels[self.read(subRegion)] = subRegion.label
        return labels

    def write(self, extent: Box, labels: np.ndarray, subRegions: Iterable[SubRegion] = SUB_REGIONS) -> None:
        """Put labels (uint8, `extent.shape`) into the segments, touching only segments whose voxels change there."""
        with slicer.util.NodeModify(self.node):
            self.writing = True
            try:
                for subRegion in subRegions:
                    self._writeMask(subRegion, extent, labels == subRegion.label)
            finally:
                self.writing = False

    def _writeMask(self, subRegion: SubRegion, extent: Box, mask: np.ndarray) -> None:
        segmentId = self.ensureSegment(subRegion)
        image = self._ownLabelmap(segmentId)
        voxels = _array(image)[extent.slices]
        value = self.segmentation.GetSegment(segmentId).GetLabelValue()
        if np.array_equal(voxels == value, mask):
            return
        voxels[...] = mask * value
        # image.Modified() would make vtkSegmentation throw all surfaces away. They are made anew when the hand is off
        # the mouse (`updateSurfaces`); until then the old ones are better than none.
        image.GetPointData().GetScalars().Modified()
        self.segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)

    def updateSurfaces(self, subRegions: Iterable[SubRegion]) -> None:
        """Make the 3D surfaces of sub-regions anew, if 3D is shown."""
        if not self.segmentation.ContainsRepresentation(_SURFACE):
            return
        segmentIds = [segmentId for segmentId in map(self.segmentId, subRegions) if segmentId is not None]
        if segmentIds:
            slicer.vtkSlicerSegmentationsModuleLogic.ReconvertAllRepresentations(self.node, segmentIds)

    def setSurfacesVisible(self, visible: bool) -> None:
        """Show or hide the segments in 3D."""
        if visible:
            self.node.CreateClosedSurfaceRepresentation()
        else:
            self.node.RemoveClosedSurfaceRepresentation()

    def _ownLabelmap(self, segmentId: str) -> Any:
        """Return the segment's labelmap, made its own and laid over the whole grid if it is not."""
        segment = self.segmentation.GetSegment(segmentId)
        image = segment.GetRepresentation(_LABELMAP)
        shared = self._isShared(segmentId, image)
        if not shared and image.GetDimensions() == self.geometry.shape[::-1] and self._offset(image) == (0, 0, 0):
            return image
        voxels = self._voxels(image) == segment.GetLabelValue()
        if shared:
            self.segmentation.SeparateSegmentLabelmap(segmentId)
        whole = slicer.vtkOrientedImageData()
        depth, height, width = self.geometry.shape
        whole.SetExtent(0, width - 1, 0, height - 1, 0, depth - 1)
        whole.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        setIjkToRas(whole, self.geometry)
        _array(whole)[...] = voxels
        segment.SetLabelValue(1)
        segment.AddRepresentation(_LABELMAP, whole)
        return whole

    def _isShared(self, segmentId: str, image: Any) -> bool:
        """Whether another segment has the same labelmap; vtkSegmentation.IsSharedBinaryLabelmap answers the reverse."""
        others = (other for other in self.segmentation.GetSegmentIDs() if other != segmentId)
        return any(self.segmentation.GetSegment(other).GetRepresentation(_LABELMAP) is image for other in others)

    def _voxels(self, image: Any) -> np.ndarray:
        """Return a labelmap's values (D, H, W) on the grid, zero where the labelmap does not reach."""
        values = np.zeros(self.geometry.shape, np.uint8)
        if image is None or image.GetNumberOfPoints() == 0:
            return values
        offset = self._offset(image)
        if offset is None:
            grid = slicer.vtkOrientedImageData()
            depth, height, width = self.geometry.shape
            grid.SetExtent(0, width - 1, 0, height - 1, 0, depth - 1)
            setIjkToRas(grid, self.geometry)
            resampled = slicer.vtkOrientedImageData()
            slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, grid, resampled)
            return _array(resampled)
        here = Box(offset, tuple(o + n for o, n in zip(offset, image.GetDimensions()[::-1], strict=True)))
        common = here.intersection(Box((0, 0, 0), self.geometry.shape))
        if common is not None:
            inside = tuple(slice(a - o, b - o) for a, b, o in zip(common.lower, common.upper, offset, strict=True))
            values[common.slices] = _array(image)[inside]
        return values

    def _offset(self, image: Any) -> tuple[int, int, int] | None:
        """Return where on the grid (z, y, x) the labelmap's first voxel lies, or None if it is on another grid."""
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        toGrid = np.linalg.inv(self.geometry.matrix) @ arrayFromVTKMatrix(matrix)
        first = (toGrid @ [*image.GetExtent()[::2], 1.0])[:3]
        if not np.allclose(toGrid[:3, :3], np.eye(3), atol=1e-4) or np.abs(first - np.rint(first)).max() > 0.01:
            return None
        x, y, z = (int(v) for v in np.rint(first))
        return z, y, x


def _array(image: Any) -> np.ndarray:
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
