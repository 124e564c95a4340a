"""The panel, on the real .ui, real MRML and the real session; Qt and Slicer's application are stood in for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import slicer
from panel_tools import SUB_REGIONS, Panel, boxes, drag
from PySide6 import QtCore, QtGui, QtWidgets
from standin import native

from fakes import ThresholdPredictor, fake_case


@pytest.fixture
def panel(slicer_stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Panel]:
    QtCore.QSettings().clear()
    yield Panel(slicer_stand_in)


@pytest.fixture
def segmented(panel: Panel) -> Panel:
    panel.choose(panel.addCase())
    panel.segment()
    return panel


def test_without_volumes_there_is_nothing_to_press_but_loading(panel):
    assert not panel.ui.segmentButton.enabled
    assert panel.ui.loadCaseButton.enabled
    assert panel.ui.gridStatusLabel.text == "Choose at least one volume, or load a case."
    for name in (
        "undoButton",
        "redoButton",
        "editButton",
        "exportNiftiButton",
        "exportDicomButton",
        "exportBoxesButton",
        "exportReportButton",
        "confidenceCheckBox",
        "attentionChartButton",
        "nextSliceButton",
        "ncrLockButton",
        "edAddButton",
        "etDeleteButton",
    ):
        assert not getattr(panel.ui, name).enabled, name


def test_four_volumes_are_chosen_by_name_when_the_module_is_opened(panel):
    panel.host.exit()
    nodes = panel.addCase()
    panel.host.enter()
    assert {name: getattr(panel.ui, f"{name}Selector").currentNode() for name in nodes} == nodes
    assert panel.ui.segmentButton.enabled
    assert "share one grid" in panel.ui.gridStatusLabel.text


def test_match_by_name_says_so_when_no_name_tells_anything(panel):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Something")
    slicer.util.updateVolumeFromArray(node, np.zeros((3, 4, 5), np.float32))
    panel.ui.matchByNameButton.click()
    assert "No volume in the scene has T1, T1c, T2 or FLAIR in its name" in panel.said


def test_three_volumes_are_enough_and_the_missing_one_is_mentioned(panel):
    panel.choose(panel.addCase("t1", "t1c", "flair"))
    assert panel.ui.t2Selector.currentNode() is None
    panel.segment()
    assert panel.ui.attentionTable.item(0, 2).text() == "–"


def test_volumes_on_different_grids_offer_align_and_align_makes_them_fit(panel):
    nodes = panel.addCase("t1c", "flair")
    nodes["flair"].SetSpacing(1.5, 1.0, 1.0)
    before = slicer.util.arrayFromVolume(nodes["flair"]).copy()
    panel.choose(nodes)
    assert not panel.ui.segmentButton.enabled
    assert panel.ui.segmentButton.toolTip == "Choose volumes on one grid first"
    assert "another grid" in panel.ui.gridStatusLabel.text
    assert not panel.ui.alignButton._native.isHidden()
    panel.ui.alignButton.click()
    aligned = panel.ui.flairSelector.currentNode()
    assert aligned is not nodes["flair"]
    assert aligned.GetImageData().GetDimensions() == nodes["t1c"].GetImageData().GetDimensions()
    assert np.array_equal(slicer.util.arrayFromVolume(nodes["flair"]), before)
    assert panel.ui.alignButton._native.isHidden()
    assert panel.ui.segmentButton.enabled


def writeCase(folder: Path) -> Path:
    folder.mkdir()
    case = fake_case()[0]
    for modality, image in case.images.items():
        nibabel.save(nibabel.Nifti1Image(image.T, case.geometry.matrix), folder / f"patient_{modality.value}.nii.gz")
    return folder


def test_a_folder_that_is_loaded_fills_the_selectors(panel, tmp_path, monkeypatch):
    import qt

    folder = writeCase(tmp_path / "patient")
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(folder), raising=False)
    panel.ui.loadCaseButton.click()
    for name in ("t1", "t1c", "t2", "flair"):
        assert getattr(panel.ui, f"{name}Selector").currentNode().GetName() == f"patient_{name}"
    assert panel.ui.segmentButton.enabled


def test_a_folder_dropped_onto_the_panel_is_loaded(panel, tmp_path):
    folder = writeCase(tmp_path / "patient")
    assert panel.drop(folder)
    panel.wait(lambda: panel.ui.flairSelector.currentNode() is not None)
    assert panel.ui.segmentButton.enabled


def test_a_dropped_folder_without_images_is_answered_with_a_sentence(panel, tmp_path):
    assert panel.drop(tmp_path)
    panel.wait(lambda: panel.said)
    assert panel.ui.t1Selector.currentNode() is None


def test_dropping_text_leaves_the_panel_alone(panel):
    assert not panel.drop()


def test_segmenting_shows_progress_can_be_cancelled_and_leaves_nothing_behind(panel):
    from sofa_engine.session import SegmentationSession

    class Slow(ThresholdPredictor):
        def encode(self, images, modalities, *, progress=None, cancel=None):
            while True:
                cancel.check()
                from sofa_engine.progress import Progress

                progress(Progress("Encoding slices", 0.4, 12.0))
                time.sleep(0.01)

    panel.useSessions(lambda case, _p, _c: SegmentationSession(case, Slow()))
    panel.choose(panel.addCase())
    panel.ui.segmentButton.click()
    assert panel.ui.segmentButton.text == "Cancel"
    assert not panel.ui.t1Selector.enabled
    assert not panel.ui.loadCaseButton.enabled
    panel.wait(lambda: "Encoding slices" in panel.ui.stageLabel.text)
    assert panel.ui.stageLabel.text.endswith("left")
    assert panel.ui.progressBar.value > 0
    assert not panel.ui.progressFrame._native.isHidden()
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.ui.segmentButton.text == "Segment")
    assert panel.ui.progressFrame._native.isHidden()
    assert panel.ui.t1Selector.enabled
    assert panel.said == ""
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "Encoding"),
        (0.2, "Encoding · about 1 s left"),
        (59, "Encoding · about 59 s left"),
        (130, "Encoding · about 2 min left"),
    ],
)
def test_the_time_left_is_told_in_seconds_and_then_in_minutes(panel, seconds, text):
    from sofa_engine.progress import Progress
    from SOFASegmentQt.segment import stageText

    assert stageText(Progress("Encoding", 0.5, seconds)) == text


def test_a_segmented_case_fills_every_section(segmented):
    ui = segmented.ui
    assert ui.segmentButton.text == "Segment again"
    assert all(segmented.volume(name) > 0 for name in SUB_REGIONS)
    assert all(getattr(ui, f"{name}BoxButton").checked for name in SUB_REGIONS)
    assert ui.uncertainTable.rowCount > 0
    assert ui.attentionTable.rowCount == 3
    row = [ui.attentionTable.item(0, column).text() for column in range(4)]
    assert sum(int(text.rstrip("%")) for text in row) == pytest.approx(100, abs=2)
    assert ui.volumesTableView.mrmlTableNode() is not None
    for name in ("exportNiftiButton", "exportBoxesButton", "exportReportButton", "editButton", "nextSliceButton"):
        assert getattr(ui, name).enabled, name


def test_dragging_a_box_changes_the_volume_and_undo_and_redo_follow(segmented):
    before = segmented.volume("ncr")
    drag(segmented, "ncr", -4)
    segmented.wait(lambda: segmented.volume("ncr") < before)
    after = segmented.volume("ncr")
    assert segmented.ui.undoButton.enabled
    assert not segmented.ui.redoButton.enabled
    segmented.ui.undoButton.click()
    segmented.wait(lambda: segmented.volume("ncr") == before)
    assert segmented.ui.redoButton.enabled
    segmented.ui.redoButton.click()
    segmented.wait(lambda: segmented.volume("ncr") == after)


def test_segmenting_again_after_a_drag_asks_first(segmented, monkeypatch):
    drag(segmented, "et", -4)
    segmented.wait(lambda: segmented.controller.canUndo)
    asked = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *text, **_: asked.append(text[0]) and False)
    segmented.ui.segmentButton.click()
    assert "replaces the boxes" in asked[0]
    assert segmented.ui.segmentButton.text == "Segment again"
    assert segmented.controller.canUndo


def test_reset_puts_a_dragged_box_back(segmented):
    before = boxes(segmented, "ed")[0].GetSize()
    drag(segmented, "ed", -6)
    segmented.wait(lambda: segmented.controller.canUndo)
    segmented.ui.edResetButton.click()
    segmented.wait(lambda: np.allclose(boxes(segmented, "ed")[0].GetSize(), before))


def test_deleting_the_only_box_empties_the_sub_region_and_adding_one_brings_it_back(segmented):
    segmented.ui.ncrDeleteButton.click()
    segmented.wait(lambda: segmented.ui.ncrVolumeLabel.text == "0.0")
    assert boxes(segmented, "ncr") == []
    assert not segmented.ui.ncrDeleteButton.enabled
    segmented.ui.ncrAddButton.click()
    segmented.wait(lambda: segmented.volume("ncr") > 0)
    assert len(boxes(segmented, "ncr")) == 1


def test_a_new_box_goes_where_the_crosshair_is(segmented):
    crosshair = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCrosshairMode(slicer.vtkMRMLCrosshairNode.ShowBasic)
    node = segmented.ui.t1cSelector.currentNode()
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    place = bounds.reshape(3, 2).mean(axis=1) + np.array([8, 0, 0])
    crosshair.SetCrosshairRAS(*place)
    segmented.ui.etAddButton.click()
    segmented.wait(lambda: len(boxes(segmented, "et")) > 1)
    centres = [np.array(roi.GetCenterWorld()) for roi in boxes(segmented, "et")]
    assert min(np.abs(centre - place).max() for centre in centres) < 1.5


def splitLesions(panel: Panel) -> None:
    """Let the box reach the second lesion, which the first pass misses, and then have a box around each."""
    before = panel.volume("et")
    drag(panel, "et", 34)
    panel.wait(lambda: panel.volume("et") > before)
    panel.ui.etLesionsButton.click()
    panel.wait(lambda: len(boxes(panel, "et")) == 2)


def test_lesions_gives_each_lesion_a_box_of_its_own(segmented):
    splitLesions(segmented)
    first, second = (np.array(roi.GetCenterWorld()) for roi in boxes(segmented, "et"))
    assert np.linalg.norm(first - second) > 15


def test_one_of_several_boxes_is_deleted_from_a_menu(segmented):
    splitLesions(segmented)
    keep, drop = boxes(segmented, "et")
    segmented.ui.etDeleteButton.click()
    menu = segmented.ui.etDeleteButton._native.findChild(QtWidgets.QMenu)
    action = next(action for action in menu.actions() if drop.GetName() in action.text())
    action.trigger()
    segmented.wait(lambda: len(boxes(segmented, "et")) == 1)
    menu.close()
    assert boxes(segmented, "et") == [keep]


def test_a_locked_sub_region_keeps_its_buttons_out_of_reach(segmented):
    segmented.ui.ncrLockButton.click()
    assert segmented.controller.state.locked
    for action in ("ResetButton", "AddButton", "DeleteButton", "LesionsButton"):
        assert not getattr(segmented.ui, f"ncr{action}").enabled
        assert getattr(segmented.ui, f"ed{action}").enabled
    assert boxes(segmented, "ncr")[0].GetLocked()
    segmented.ui.ncrLockButton.click()
    assert segmented.ui.ncrResetButton.enabled


def test_the_box_button_hides_the_boxes_of_its_sub_region_alone(segmented):
    segmented.ui.edBoxButton.click()
    shown = {name: boxes(segmented, name)[0].GetDisplayVisibility() for name in SUB_REGIONS}
    assert shown == {"ncr": 1, "ed": 0, "et": 1}
    assert not segmented.ui.edBoxButton.checked


def test_a_click_on_an_uncertain_slice_shows_it(segmented):
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    view.SetLayoutName("Red")
    view.SetOrientationToAxial()
    offsets = []
    for row in (0, segmented.ui.uncertainTable.rowCount - 1):
        segmented.ui.uncertainTable._native.cellClicked.emit(row, 0)
        offsets.append(view.GetSliceOffset())
    rows = [
        int(segmented.ui.uncertainTable.item(row, 0).text()) for row in (0, segmented.ui.uncertainTable.rowCount - 1)
    ]
    assert offsets[1] - offsets[0] == pytest.approx(rows[1] - rows[0])


def test_confidence_is_laid_over_the_views_and_taken_away(segmented):
    composite = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    composite.SetLayoutName("Red")
    segmented.ui.confidenceCheckBox.click()
    segmented.wait(composite.GetForegroundVolumeID)
    segmented.ui.confidenceCheckBox.click()
    assert not composite.GetForegroundVolumeID()


@pytest.fixture
def saveAs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Choose, in the file dialog, the proposed name in a folder of the test's."""
    import qt

    seen: dict[str, Any] = {}

    def choose(_parent: Any, _title: str, proposed: str, _filter: str) -> str:
        seen["proposed"], seen["chosen"] = Path(proposed), str(tmp_path / Path(proposed).name)
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
    segmented.ui.exportBoxesButton.click()
    written = json.loads(Path(saveAs["chosen"]).read_text(encoding="utf-8"))
    assert set(written["boxes"]) == set(SUB_REGIONS)
    segmented.ui.exportReportButton.click()
    report = json.loads(Path(saveAs["chosen"]).read_text(encoding="utf-8"))
    assert report["model"]["name"] == "thresholds"
    assert report["volumes_ml"]["NCR"] == pytest.approx(segmented.volume("ncr"), abs=0.05)
    assert report["inputs"]["t1c"] == "Patient_t1c"


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
    assert native.qSlicerDICOMExportDialog.opened == []


def test_keys_work_while_the_module_is_shown_and_not_otherwise(segmented):
    drag(segmented, "ncr", -4)
    segmented.wait(lambda: segmented.controller.canUndo)
    segmented.host.exit()
    segmented.press("Ctrl+B")
    assert segmented.ui.ncrBoxButton.checked
    segmented.host.enter()
    segmented.press("Ctrl+B")
    assert not segmented.ui.ncrBoxButton.checked
    segmented.press("Ctrl+Z")
    segmented.wait(lambda: segmented.controller.canRedo)
    segmented.press("Y")
    segmented.wait(lambda: segmented.controller.canUndo)


def test_entering_and_leaving_many_times_leaves_one_set_of_keys(panel):
    for _ in range(3):
        panel.host.exit()
        panel.host.enter()
    QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
    keys = [s.key().toString() for s in panel.slicer.mainWindow.findChildren(QtGui.QShortcut)]
    assert sorted(keys) == sorted(["Ctrl+Z", "Z", "Ctrl+Y", "Y", "Ctrl+B", "]", "["])


def test_closing_the_scene_during_a_run_ends_the_run_and_empties_the_panel(panel):
    from sofa_engine.session import SegmentationSession

    class Endless(ThresholdPredictor):
        def encode(self, images, modalities, *, progress=None, cancel=None):
            while True:
                cancel.check()
                time.sleep(0.01)

    panel.useSessions(lambda case, _p, _c: SegmentationSession(case, Endless()))
    panel.choose(panel.addCase())
    panel.ui.segmentButton.click()
    assert panel.ui.segmentButton.text == "Cancel"
    slicer.mrmlScene.Clear(0)
    assert panel.ui.segmentButton.text == "Segment"
    assert not panel.ui.segmentButton.enabled
    assert panel.ui.t1Selector.currentNode() is None
    panel.useSessions(panel.quick)
    panel.choose(panel.addCase())
    panel.segment()
    assert panel.volume("ncr") > 0


def test_closing_the_scene_of_a_segmented_case_empties_the_panel(segmented):
    slicer.mrmlScene.Clear(0)
    assert segmented.ui.ncrVolumeLabel.text == "–"
    assert segmented.ui.uncertainTable.rowCount == 0
    assert not segmented.ui.undoButton.enabled
    assert segmented.ui.segmentButton.text == "Segment"


def test_leaving_and_entering_during_a_run_keeps_the_progress(panel):
    from sofa_engine.session import SegmentationSession

    class Endless(ThresholdPredictor):
        def encode(self, images, modalities, *, progress=None, cancel=None):
            while True:
                cancel.check()
                time.sleep(0.01)

    panel.useSessions(lambda case, _p, _c: SegmentationSession(case, Endless()))
    panel.choose(panel.addCase())
    panel.ui.segmentButton.click()
    panel.host.exit()
    panel.host.enter()
    assert panel.ui.segmentButton.text == "Cancel"
    assert not panel.ui.progressFrame._native.isHidden()
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.ui.segmentButton.text == "Segment")


def test_a_scene_imported_while_the_panel_is_shown_fills_the_selectors(panel, tmp_path):
    nodes = panel.addCase()
    panel.choose(nodes)
    scene = slicer.mrmlScene
    for node in nodes.values():
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(str(tmp_path / f"{node.GetID()}.nrrd"))
        assert node.GetStorageNode().WriteData(node)
    scene.SetRootDirectory(str(tmp_path))
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    scene.Clear(0)
    assert panel.ui.t1Selector.currentNode() is None
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Import()
    for name in nodes:
        assert getattr(panel.ui, f"{name}Selector").currentNode().GetName() == f"Patient_{name}"
    assert panel.ui.segmentButton.enabled


def test_a_scene_that_was_saved_is_gone_on_with(segmented, tmp_path):
    drag(segmented, "ncr", -4)
    segmented.wait(lambda: segmented.controller.canUndo)
    segmented.wait(lambda: not segmented.controller._jobs._running)
    small = segmented.volume("ncr")
    path = tmp_path / "scene.mrml"
    for index in range(slicer.mrmlScene.GetNumberOfNodes()):
        node = slicer.mrmlScene.GetNthNode(index)
        if node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLSegmentationNode") or node.IsA("vtkMRMLMarkupsROINode"):
            node.AddDefaultStorageNode()
            storage = node.GetStorageNode()
            extension = storage.GetDefaultWriteFileExtension()
            storage.SetFileName(str(tmp_path / f"{node.GetID()}.{extension}"))
            assert storage.WriteData(node), node.GetName()
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.SetRootDirectory(str(tmp_path))
    assert slicer.mrmlScene.Commit()
    slicer.mrmlScene.Clear(0)
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Connect()
    segmented.host.enter()
    segmented.useSessions(segmented.quick)
    assert segmented.ui.segmentButton.text == "Continue"
    assert not segmented.ui.startOverButton._native.isHidden()
    segmented.segment()
    assert segmented.volume("ncr") == pytest.approx(small, abs=0.11)
    assert segmented.ui.startOverButton._native.isHidden()


def test_a_reloaded_module_works_and_its_predecessor_is_silent(segmented):
    old = segmented.widget
    old.onReload()
    assert segmented.widget is not old
    assert old.logic.controller is None
    segmented.host.enter()
    segmented.useSessions(segmented.quick)
    assert segmented.ui.segmentButton.text == "Continue"
    segmented.segment()
    assert segmented.volume("et") > 0


def test_without_a_main_window_the_panel_is_built_and_segments(application):
    from standin.slicer_app import SlicerStandIn

    standIn = SlicerStandIn(application, mainWindow=False)
    try:
        assert slicer.util.mainWindow() is None
        panel = Panel(standIn)
        panel.choose(panel.addCase())
        panel.segment()
        assert panel.volume("ed") > 0
        panel.ui.editButton.click()
        panel.ui.attentionChartButton.click()
    finally:
        standIn.close()


def test_the_module_says_what_slicer_asks_of_a_module(panel):
    for name in ("title", "helpText", "acknowledgementText"):
        assert len(getattr(panel.module, name)) > 20
    assert panel.module.categories == ["Segmentation"]
    assert panel.module.contributors
    assert not panel.module.icon.isNull()


def test_what_is_missing_is_installed_when_the_user_first_segments_and_not_before(panel):
    assert panel.slicer.installed == []
    panel.choose(panel.addCase())
    assert panel.slicer.installed == []
    panel.ui.segmentButton.click()
    asked = panel.slicer.installed[0]
    assert any(line.startswith("timm") for line in asked)
    assert not any(line.startswith("torch") for line in asked)


def test_declining_the_installation_starts_nothing_and_says_so(panel):
    panel.slicer.declines_install = True
    panel.choose(panel.addCase())
    panel.ui.segmentButton.click()
    assert "could not be installed" in panel.said
    assert panel.ui.segmentButton.text == "Segment"


def test_nothing_is_sent_to_a_server_without_consent(panel):
    panel.choose(panel.addCase())
    panel.ui.engineUrlLineEdit.text = "https://gpu.example:8484"
    panel.ui.segmentButton.click()
    assert "Allow sending this patient's images to https://gpu.example:8484" in panel.said
    assert panel.ui.segmentButton.text == "Segment"
    panel.ui.uploadConsentCheckBox.checked = True
    assert panel.widget.advanced.settings.consent
    panel.ui.engineUrlLineEdit.text = "https://other.example:8484"
    assert not panel.widget.advanced.settings.consent


def test_the_computers_settings_are_remembered_but_neither_token_nor_consent(panel):
    panel.ui.deviceComboBox.currentIndex = 1
    panel.ui.engineUrlLineEdit.text = "https://gpu.example:8484"
    panel.ui.engineTokenLineEdit.text = "a-secret-token-of-the-server"
    panel.ui.uploadConsentCheckBox.checked = True
    stored = {key: QtCore.QSettings().value(key) for key in QtCore.QSettings().allKeys()}
    assert stored["SOFASegment/device"] == "cpu"
    assert stored["SOFASegment/engineUrl"] == "https://gpu.example:8484"
    assert "secret" not in str(stored)
    assert not any("onsent" in key for key in stored)
    panel.widget.onReload()
    assert panel.ui.deviceComboBox.currentIndex == 1
    assert panel.ui.engineTokenLineEdit.text == ""
    assert not panel.ui.uploadConsentCheckBox.checked


def test_every_button_of_the_panel_does_something(panel):
    """A button that is drawn in Designer and forgotten in the code would do nothing."""
    forgotten = []
    for name, widget in vars(panel.ui).items():
        if (
            widget.inherits("QAbstractButton")
            and not widget.inherits("ctkCollapsibleButton")
            and not name.startswith("qt_")
        ):
            connected = getattr(widget._native, "_standin_connections", [])
            if not connected and not widget.property("SlicerParameterName"):
                forgotten.append(name)
    assert forgotten == []
