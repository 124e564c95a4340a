"""What SOFA hands over to whoever writes DICOM SEG.

Slicer's DICOM dialog asks its plugins; the one that writes segmentations is `DICOMSegmentationPlugin` of the
QuantitativeReporting extension (read at 9bff2edf, 2025-10-23). Each test here is a thing that it reads from the scene.
"""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from mrml_tools import Bench
from sofa_engine.types import SUB_REGIONS, Box, Modality, SubRegion


@pytest.fixture
def worked(bench: Bench) -> Bench:
    """A case that was segmented, dragged and painted on."""
    bench.segment()
    bench.drag(SubRegion.ET, 4)
    bench.paint(SubRegion.NCR, Box((20, 40, 30), (23, 44, 34)))
    bench.run()
    return bench


def tag(segment, name: str) -> str:
    value = vtk.reference("")
    assert segment.GetTag(name, value), f"{segment.GetName()} has no {name}"
    return str(value)


def test_the_images_that_the_segmentation_is_of_are_its_reference_geometry(worked: Bench):
    node = worked.segmentation
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is worked.nodes[Modality.T1C]


def test_every_segment_says_that_a_person_and_a_named_program_made_it(worked: Bench):
    segmentation = worked.segmentation.GetSegmentation()
    for segmentId in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentId)
        assert tag(segment, "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
        assert tag(segment, "DICOM.SegmentAlgorithmName").startswith("SOFA for 3D Slicer ")


def test_a_segment_that_holds_something_is_not_taken_for_empty(worked: Bench):
    """The exporter looks for an array of this name, and at its range, which VTK keeps until the array is modified."""
    segmentation = worked.segmentation.GetSegmentation()
    for segmentId in segmentation.GetSegmentIDs():
        image = segmentation.GetSegment(segmentId).GetRepresentation("Binary labelmap")
        scalars = image.GetPointData().GetArray("ImageScalars")
        assert scalars is not None
        assert scalars.GetValueRange()[1] > 0
    worked.scene.RemoveNode(worked.roi(SubRegion.ET))
    worked.run()
    image = segmentation.GetSegment(worked.segments().segmentId(SubRegion.ET)).GetRepresentation("Binary labelmap")
    assert image.GetPointData().GetArray("ImageScalars").GetValueRange() == (0, 0)


def test_each_segment_comes_out_on_the_grid_of_the_images(worked: Bench):
    """As `createLabelNodeFromSegment` asks for it: one segment at a time, on the segmentation's reference geometry."""
    volume, logic = worked.nodes[Modality.T1C], slicer.vtkSlicerSegmentationsModuleLogic
    for subRegion in SUB_REGIONS:
        merged, chosen = slicer.vtkOrientedImageData(), vtk.vtkStringArray()
        chosen.InsertNextValue(worked.segments().segmentId(subRegion))
        assert worked.segmentation.GenerateMergedLabelmapForAllSegments(merged, 0, None, chosen)
        assert merged.GetDimensions() == volume.GetImageData().GetDimensions()
        values = vtk_to_numpy(merged.GetPointData().GetScalars()).reshape(merged.GetDimensions()[::-1])
        assert np.array_equal(values > 0, worked.mask(subRegion))
        label = worked.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        assert logic.CreateLabelmapVolumeFromOrientedImageData(merged, label)
        matrices = []
        for node in (volume, label):
            matrix = vtk.vtkMatrix4x4()
            node.GetIJKToRASMatrix(matrix)
            matrices.append(slicer.util.arrayFromVTKMatrix(matrix))
        assert np.allclose(*matrices)


def test_codes_of_category_type_and_place_are_all_there(worked: Bench):
    segmentation = worked.segmentation.GetSegmentation()
    for segmentId in segmentation.GetSegmentIDs():
        segment, entry = segmentation.GetSegment(segmentId), slicer.vtkSlicerTerminologyEntry()
        terminology = tag(segment, segment.GetTerminologyEntryTagName())
        assert slicer.vtkSlicerTerminologiesModuleLogic().DeserializeTerminologyEntry(terminology, entry)
        for code in (entry.GetCategoryObject(), entry.GetTypeObject(), entry.GetRegionObject()):
            assert all((code.GetCodeValue(), code.GetCodingSchemeDesignator(), code.GetCodeMeaning()))
