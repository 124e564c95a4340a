"""What leaves the scene, and what helps to judge it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from mrml_tools import Bench, addVolume
from mrml_views import SliceMouse
from sofa_engine.box_file import BoxFile, read_box_file
from sofa_engine.errors import OutputError
from sofa_engine.types import SUB_REGIONS, Box, LabelScheme, Modality, SubRegion
from SOFASegmentLib import export, report, scene_state


def test_the_exported_file_has_the_volumes_grid_and_brats_values(bench: Bench, tmp_path: Path):
    bench.segment()
    painted = Box((20, 60, 20), (23, 64, 24))
    bench.paint(SubRegion.ED, painted)
    path = export.writeLabels(bench.controller, tmp_path / export.proposedFileName(bench.controller))
    image = nib.load(path)
    assert path.name == "Patient_t1c_SOFA.nii.gz"
    assert np.allclose(image.affine, bench.session.geometry.matrix)
    values = np.asarray(image.dataobj).T
    assert np.array_equal(values, bench.labels())
    assert (values[painted.slices] == 2).all(), "what the user painted a moment ago is missing"

    renamed = export.writeLabels(bench.controller, tmp_path / "b.nii.gz", LabelScheme.BRATS2023)
    assert np.array_equal(np.asarray(nib.load(renamed).dataobj).T, np.where(values == 4, 3, values))


def test_an_input_volume_is_never_overwritten(scene, benchOn, tmp_path: Path):
    bench: Bench = benchOn()
    bench.segment()
    node = bench.nodes[Modality.T1]
    node.AddDefaultStorageNode()
    path = tmp_path / "t1.nii.gz"
    node.GetStorageNode().SetFileName(str(path))
    assert node.GetStorageNode().WriteData(node)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="not overwritten"):
        export.writeLabels(bench.controller, path)
    assert path.read_bytes() == before


def test_exporting_too_early_or_to_nowhere_is_a_sentence(bench: Bench, tmp_path: Path):
    with pytest.raises(OutputError, match="press Segment first"):
        export.writeLabels(bench.controller, tmp_path / "a.nii.gz")
    bench.segment()
    with pytest.raises(OutputError, match="does not exist"):
        export.writeLabels(bench.controller, tmp_path / "missing" / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_the_export_is_of_the_volumes_that_were_segmented_whatever_is_chosen_since(scene, bench: Bench, tmp_path: Path):
    bench.segment()
    labels = bench.labels()
    assert bench.controller.sameInputs
    shape = bench.session.geometry.shape
    others = {m: addVolume(scene, np.ones(shape), bench.session.geometry, f"Other_{m.value}") for m in Modality}
    bench.state.setInputs(others)
    assert not bench.controller.sameInputs
    path = export.writeLabels(bench.controller, tmp_path / export.proposedFileName(bench.controller))
    assert path.name == "Patient_t1c_SOFA.nii.gz"
    assert np.array_equal(np.asarray(nib.load(path).dataobj).T, labels)
    content = json.loads(report.writeReport(bench.controller, tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["case"] == "Patient_t1c"
    bench.state.setInputs({})
    page = report.htmlReport(bench.controller)(tmp_path / "report.html")
    assert "Patient_t1c" in page.read_text(encoding="utf-8")
    assert content["inputs"] == {m.value: f"Patient_{m.value}" for m in Modality}
    bench.state.setInputs(bench.nodes)
    scene.RemoveNode(bench.nodes[Modality.T2])
    assert bench.controller.sameInputs, "a volume that was deleted makes the result no other patient's"


def test_a_segmentation_that_was_put_on_another_volume_is_not_exported(scene, bench: Bench, tmp_path: Path):
    bench.segment()
    other = addVolume(scene, np.ones((4, 5, 6)), bench.session.geometry, "Other_t1c")
    bench.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(other)
    with pytest.raises(OutputError, match="not a segmentation of Patient_t1c any more"):
        export.writeLabels(bench.controller, tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_boxes_are_written_in_millimetres_and_read_back_as_the_same_voxels(bench: Bench, tmp_path: Path):
    bench.segment()
    bench.drag(SubRegion.ET, 4)
    path = report.writeBoxes(bench.controller, tmp_path / "boxes.json")
    assert read_box_file(path).on(bench.session.geometry) == bench.session.boxes()


def test_the_report_names_model_volumes_and_boxes(bench: Bench, tmp_path: Path):
    bench.segment()
    content = json.loads(report.writeReport(bench.controller, tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["model"]["name"] == "thresholds"
    assert content["volumes_ml"]["WT"] == pytest.approx(bench.session.volumes_ml()["WT"], abs=1e-3)
    assert set(content["boxes"]) == {"ncr", "ed", "et"}


def test_a_report_never_has_the_boxes_of_now_with_the_volumes_of_before(bench: Bench, tmp_path: Path):
    bench.segment()
    path = tmp_path / "report.json"
    roi = bench.roi(SubRegion.ET)
    bench.grab(roi)
    bench.grow(roi, 4)
    bench.letGo(roi)
    refused = 0
    while bench.scheduler.step():
        try:
            content = json.loads(report.writeReport(bench.controller, path).read_text(encoding="utf-8"))
        except OutputError as error:
            assert "still being measured" in str(error)
            refused += 1
            continue
        assert content["volumes_ml"]["ET"] == pytest.approx(bench.session.volumes_ml()["ET"], abs=1e-3)
        assert (
            content["boxes"]
            == BoxFile.of(bench.session.boxes(), bench.session.geometry).model_dump(mode="json")["boxes"]
        )
    assert refused > 1
    assert path.is_file()


def test_the_page_shows_what_the_session_found(bench: Bench, tmp_path: Path):
    bench.segment()
    bench.drag(SubRegion.ET, 4)
    page = report.htmlReport(bench.controller)(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Patient_t1c" in page
    assert f"{bench.session.volumes_ml()['ET']:.2f}" in page
    assert page.count("data:image/png") >= 2


def test_the_page_asks_nothing_of_the_engine_and_leaves_out_a_volume_that_was_deleted(bench: Bench, tmp_path: Path):
    bench.segment()
    bench.drag(SubRegion.ET, 4)
    whole = bench.session.volumes_ml()["WT"]
    bench.session.close()
    bench.scene.RemoveNode(bench.nodes[Modality.T2])
    page = report.htmlReport(bench.controller)(tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{whole:.2f}" in page
    assert "Patient_flair" in page
    assert "Patient_t2" not in page


def test_dicom_export_is_told_what_is_missing_and_nothing_when_all_is_there(bench: Bench):
    scene, hierarchy = bench.scene, bench.scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "P"), "MR head")
    for node in bench.nodes.values():
        hierarchy.CreateItem(study, node)
    bench.segment()
    assert len(export.missingForDicomSeg(bench.state)) == 1
    bench.nodes[Modality.T1C].SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    assert export.missingForDicomSeg(bench.state) == ()

    segmentation = bench.segmentation
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(segmentation)) == study
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert segmentation.GetNodeReference(role) is bench.nodes[Modality.T1C]
    codes = []
    for segmentId in segmentation.GetSegmentation().GetSegmentIDs():
        segment, entry = segmentation.GetSegmentation().GetSegment(segmentId), vtk.reference("")
        assert segment.GetTag(segment.GetTerminologyEntryTagName(), entry)
        parsed = slicer.vtkSlicerTerminologyEntry()
        assert slicer.vtkSlicerTerminologiesModuleLogic().DeserializeTerminologyEntry(str(entry), parsed)
        kind, region = parsed.GetTypeObject(), parsed.GetRegionObject()
        codes.append((kind.GetCodingSchemeDesignator(), kind.GetCodeValue(), kind.GetCodeMeaning()))
        assert (region.GetCodingSchemeDesignator(), region.GetCodeValue()) == ("SCT", "12738006")
    assert codes == [
        ("SCT", "6574001", "Necrosis"),
        ("SCT", "79654002", "Edema"),
        ("NCIt", "C113842", "Enhancing Lesion"),
    ]
    assert scene.IsNodePresent(segmentation)


def test_volumes_and_attention_are_tables_and_a_chart_in_the_scene(bench: Bench):
    bench.segment()
    table = bench.state.get(scene_state.VOLUMES_TABLE).GetTable()
    millilitres = {table.GetValue(n, 0).ToString(): table.GetValue(n, 1).ToDouble() for n in range(5)}
    assert millilitres["Whole tumour"] == pytest.approx(bench.session.volumes_ml()["WT"], abs=1e-4)

    chart = bench.state.get(scene_state.ATTENTION_CHART)
    assert chart.GetNumberOfPlotSeriesNodes() == 3
    attention = bench.state.get(scene_state.ATTENTION_TABLE).GetTable()
    weights = [attention.GetColumnByName("Enhancing tumour").GetValue(n) for n in range(4)]
    assert sum(weights) == pytest.approx(1, abs=0.01)
    assert int(np.argmax(weights)) == 1

    bench.drag(SubRegion.ED, -6)
    table = bench.state.get(scene_state.VOLUMES_TABLE).GetTable()
    assert table.GetValue(1, 1).ToDouble() == pytest.approx(bench.session.volumes_ml()["ED"], abs=1e-4)
    assert chart.GetNumberOfPlotSeriesNodes() == 3
    assert bench.scene.GetNumberOfNodesByClass("vtkMRMLPlotSeriesNode") == 3


def test_jumping_to_an_uncertain_slice_turns_the_view_to_it(bench: Bench, axialView: SliceMouse):
    bench.segment()
    axialView.show(bench.nodes[Modality.T1C])
    looks = bench.controller.insights.uncertainSlices
    assert len(looks) >= 2
    offsets = []
    for look in looks[:2]:
        bench.controller.nextUncertainSlice()
        offsets.append(axialView.view.get_view_node().GetSliceOffset())
        expected = bench.session.geometry.index_to_ras(np.array([look.slice_index, 0, 0]))[2]
        assert offsets[-1] == pytest.approx(expected)
    bench.controller.nextUncertainSlice(-1)
    assert axialView.view.get_view_node().GetSliceOffset() == pytest.approx(offsets[0])


def colours(display: Any) -> np.ndarray:
    """What a volume's display node draws, int RGBA (voxels, 4)."""
    display.UpdateImageDataPipeline()
    pipeline = display.GetOutputImageDataConnection().GetProducer()
    pipeline.Update()
    return vtk_to_numpy(pipeline.GetOutputDataObject(0).GetPointData().GetScalars()).astype(int)


def test_confidence_lies_over_the_views_and_gives_way_to_what_was_there(bench: Bench, axialView: SliceMouse):
    bench.segment()
    axialView.show(bench.nodes[Modality.T1C], bench.nodes[Modality.FLAIR])
    bench.controller.setConfidenceVisible(True)
    bench.run()
    overlay = bench.state.get(scene_state.CONFIDENCE)
    assert axialView.view.get_foreground_volume_id() == overlay.GetID()
    assert np.allclose(slicer.util.arrayFromVolume(overlay), bench.session.confidence(), atol=1e-3)
    drawn = colours(overlay.GetDisplayNode())
    sure = slicer.util.arrayFromVolume(overlay).ravel() > 0.8
    assert np.array_equal(drawn[:, 3] == 0, sure)
    assert np.all(np.ptp(drawn[~sure, :3], axis=1) > 100)

    bench.drag(SubRegion.ET, 5)
    assert np.allclose(slicer.util.arrayFromVolume(overlay), bench.session.confidence(), atol=1e-3)

    bench.controller.setConfidenceVisible(False)
    assert axialView.view.get_foreground_volume_id() == bench.nodes[Modality.FLAIR].GetID()


def test_boxes_are_hidden_and_shown_together(bench: Bench):
    bench.segment()
    assert bench.controller.boxesVisible()
    bench.controller.setBoxesVisible(False)
    assert not any(bench.roi(r).GetDisplayVisibility() for r in SUB_REGIONS)
    bench.controller.addBox(SubRegion.NCR)
    bench.run()
    assert not bench.controller.boxesVisible()
    bench.controller.setBoxesVisible(True)
    assert all(bench.roi(r).GetDisplayVisibility() for r in SUB_REGIONS)


def test_the_surfaces_in_3d_follow_a_drag(bench: Bench):
    bench.segment()
    bench.controller.setSurfacesVisible(True)
    segmentId = bench.segments().segmentId(SubRegion.ET)

    def reach() -> float:
        surface = vtk.vtkPolyData()
        assert bench.segmentation.GetClosedSurfaceRepresentation(segmentId, surface)
        bounds = surface.GetBounds()
        return bounds[1] - bounds[0]

    before = reach()
    bench.drag(SubRegion.ET, -4)
    assert reach() < before - 2

    bench.scene.RemoveNode(bench.roi(SubRegion.ET))
    bench.run()
    surface = vtk.vtkPolyData()
    bench.segmentation.GetClosedSurfaceRepresentation(segmentId, surface)
    assert surface.GetNumberOfPoints() == 0
