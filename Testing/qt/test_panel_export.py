"""The panel: what is saved, and what is said where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import slicer
from panel_tools import SUB_REGIONS
from standin import native


@pytest.fixture
def saveAs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Choose, in the file dialog, the proposed name in a folder of the test's, with another ending if it wants one."""
    import qt

    seen: dict[str, Any] = {}

    def choose(_parent: Any, _title: str, proposed: str, _filter: str) -> str:
        name = Path(Path(proposed).name)
        seen["proposed"], seen["chosen"] = (
            Path(proposed),
            str(tmp_path / name.with_suffix(seen.get("ending", name.suffix))),
        )
        return seen["chosen"]

    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", choose, raising=False)
    return seen


@pytest.mark.parametrize(("index", "values"), [(0, {0, 1, 2, 4}), (1, {0, 1, 2, 3})])
def test_nifti_is_saved_with_the_chosen_label_values(segmented, saveAs, index, values):
    segmented.ui.labelSchemeComboBox.currentIndex = index
    segmented.ui.exportNiftiButton.click()
    image = nibabel.load(saveAs["chosen"])
    assert set(np.unique(np.asarray(image.dataobj))) == values
    assert saveAs["proposed"].name == "Patient_t1c_SOFA.nii.gz"
    assert segmented.said == f"Saved {saveAs['chosen']}."


def test_the_label_values_are_remembered_in_the_scene(segmented):
    segmented.ui.labelSchemeComboBox.currentIndex = 1
    assert segmented.widget._parameterNode.parameterNode.GetParameter("labelScheme") == "BRATS2023"


def test_boxes_and_report_are_saved_as_json(segmented, saveAs):
    saveAs["ending"] = ".json"
    segmented.ui.exportBoxesButton.click()
    written = json.loads(Path(saveAs["chosen"]).read_text(encoding="utf-8"))
    assert set(written["boxes"]) == set(SUB_REGIONS)
    segmented.ui.exportReportButton.click()
    report = json.loads(Path(saveAs["chosen"]).read_text(encoding="utf-8"))
    assert report["model"]["name"] == "thresholds"
    assert report["volumes_ml"]["NCR"] == pytest.approx(segmented.volume("ncr"), abs=0.05)
    assert report["inputs"]["t1c"] == "Patient_t1c"


def test_the_report_is_a_page_with_the_volumes_of_the_panel(segmented, saveAs, slicer_stand_in):
    segmented.ui.exportReportButton.click()
    assert saveAs["proposed"].name == "Patient_t1c_SOFA_report.html"
    page = Path(saveAs["chosen"]).read_text(encoding="utf-8")
    assert page.count("data:image/png") >= 2
    assert f"{segmented.volume('et'):.1f}" in page
    assert segmented.said == f"Saved {saveAs['chosen']}."
    assert {"jinja2>=3.1", "matplotlib>=3.9"} == set(slicer_stand_in.installed[-1])


def test_a_report_whose_packages_are_declined_is_a_sentence_and_no_file(segmented, saveAs, slicer_stand_in):
    slicer_stand_in.declines_install = True
    segmented.ui.exportReportButton.click()
    assert "could not be installed" in segmented.said
    assert not Path(saveAs["chosen"]).exists()


def test_nothing_is_saved_while_another_patient_is_chosen_and_the_panel_says_why(segmented, saveAs):
    ours = {name: getattr(segmented.ui, f"{name}Selector").currentNode() for name in ("t1", "t1c", "t2", "flair")}
    buttons = ("exportNiftiButton", "exportBoxesButton", "exportReportButton")
    segmented.choose(segmented.addCase())
    assert not any(getattr(segmented.ui, name).enabled for name in buttons)
    assert segmented.ui.noticeLabel.text.startswith("The segmentation is of other volumes than those chosen above")
    assert not segmented.ui.noticeLabel._native.isHidden()
    segmented.choose(ours)
    assert all(getattr(segmented.ui, name).enabled for name in buttons)
    assert segmented.ui.noticeLabel._native.isHidden()


def test_a_file_that_cannot_be_written_is_answered_with_a_sentence(segmented, monkeypatch, tmp_path):
    import qt

    path = tmp_path / "missing" / "labels.nii.gz"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(path), raising=False)
    segmented.ui.exportNiftiButton.click()
    assert "cannot be written" in segmented.said


def test_cancelling_the_file_dialog_writes_nothing(segmented, monkeypatch):
    import qt

    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: "", raising=False)
    segmented.ui.exportNiftiButton.click()
    assert segmented.said == ""


def test_dicom_seg_says_what_is_missing_for_volumes_that_are_not_dicom(segmented):
    segmented.ui.exportDicomButton.click()
    assert "was not loaded from DICOM" in segmented.said
    assert "QuantitativeReporting" in segmented.said
    assert native.qSlicerDICOMExportDialog.opened == []


def test_dicom_seg_opens_slicers_own_dialog_on_the_segmentation(panel):
    nodes = panel.addCase()
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "P"), "MR head")
    for node in nodes.values():
        hierarchy.CreateItem(study, node)
        node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    panel.choose(nodes)
    panel.segment()
    # What QuantitativeReporting's module does when Slicer starts.
    slicer.modules.dicomPlugins = {"DICOMSegmentationPlugin": object}
    native.qSlicerDICOMExportDialog.opened.clear()
    panel.ui.exportDicomButton.click()
    assert panel.said == ""
    opened = [hierarchy.GetItemDataNode(item).GetClassName() for item in native.qSlicerDICOMExportDialog.opened]
    assert opened == ["vtkMRMLSegmentationNode"]
    native.qSlicerDICOMExportDialog.opened.clear()
