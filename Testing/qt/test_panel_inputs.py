"""The panel: volumes are found, chosen, dropped and brought onto one grid."""

from __future__ import annotations

import sys
import threading

import numpy as np
import slicer
from panel_tools import drag, writeCase


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


def test_match_by_name_lets_go_of_another_patients_volumes(panel):
    mine, others = panel.addCase(), panel.addCase("t1", "t1c")
    for name, node in others.items():
        node.SetName(f"Somebody_{name}")
    panel.choose(others)
    mine["t2"].SetName("Patient_something")
    panel.ui.matchByNameButton.click()
    chosen = {name: getattr(panel.ui, f"{name}Selector").currentNode() for name in mine}
    assert chosen == {**mine, "t2": None}
    panel.ui.t1cSelector.setCurrentNode(others["t1c"])
    panel.ui.matchByNameButton.click()
    assert panel.ui.t1cSelector.currentNode() is mine["t1c"]


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
    assert panel.ui.gridStatusLabel.text.startswith("Aligning")
    assert not panel.ui.flairSelector.enabled
    panel.wait(lambda: panel.ui.flairSelector.currentNode() is not nodes["flair"])
    aligned = panel.ui.flairSelector.currentNode()
    assert panel.ui.flairSelector.enabled
    assert aligned.GetImageData().GetDimensions() == nodes["t1c"].GetImageData().GetDimensions()
    assert np.array_equal(slicer.util.arrayFromVolume(nodes["flair"]), before)
    assert panel.ui.alignButton._native.isHidden()
    assert panel.ui.segmentButton.enabled


def test_a_patient_who_moved_between_sequences_is_registered(panel, monkeypatch):
    nodes = panel.addCase("t1c", "flair")
    nodes["flair"].SetSpacing(1.5, 1.0, 1.0)
    panel.choose(nodes)
    alignments = []
    whole = sys.modules["SOFASegmentLib.volumes"].Alignment

    class Noted(whole):
        def compute(self):
            alignments.append(self._register)
            self._register = False
            super().compute()
            self.warnings = ("FLAIR covers half of T1c.",)

    monkeypatch.setattr(sys.modules["SOFASegmentLib.volumes"], "Alignment", Noted)
    assert not panel.ui.registerCheckBox._native.isHidden()
    panel.ui.registerCheckBox.click()
    assert panel.ui.alignButton.text == "Register and align"
    panel.ui.alignButton.click()
    panel.wait(lambda: panel.ui.flairSelector.currentNode() is not nodes["flair"])
    assert alignments == [True]
    assert panel.said == "FLAIR covers half of T1c."


def test_boxes_can_be_dragged_while_volumes_are_registered(segmented, monkeypatch):
    whole = sys.modules["SOFASegmentLib.volumes"].Alignment
    dragged = threading.Event()

    class Patient(whole):
        def compute(self):
            assert dragged.wait(60)
            super().compute()

    monkeypatch.setattr(sys.modules["SOFASegmentLib.volumes"], "Alignment", Patient)
    moved, before = segmented.ui.flairSelector.currentNode(), segmented.volume("ncr")
    moved.SetSpacing(1.5, 1.0, 1.0)
    segmented.widget._updateSections()
    segmented.ui.alignButton.click()
    drag(segmented, "ncr", -4)
    segmented.wait(lambda: segmented.volume("ncr") < before)
    dragged.set()
    segmented.wait(lambda: segmented.ui.flairSelector.currentNode() is not moved)


def test_closing_the_scene_while_volumes_are_aligned_leaves_an_empty_panel(panel):
    nodes = panel.addCase("t1c", "flair")
    nodes["flair"].SetSpacing(1.5, 1.0, 1.0)
    panel.choose(nodes)
    panel.ui.alignButton.click()
    slicer.mrmlScene.Clear(0)
    panel.wait(lambda: panel.ui.loadCaseButton.enabled)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert panel.said == ""


def test_volumes_that_cannot_be_aligned_are_answered_with_a_sentence(panel):
    nodes = panel.addCase("t1c", "flair")
    nodes["flair"].SetOrigin(5000.0, 0.0, 0.0)
    panel.choose(nodes)
    panel.ui.alignButton.click()
    panel.wait(lambda: panel.said)
    assert panel.said.endswith(".")
    assert panel.ui.flairSelector.currentNode() is nodes["flair"]
    assert panel.ui.alignButton.enabled


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


def test_a_case_dropped_onto_slicers_main_window_opens_the_module_and_is_loaded(panel, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(slicer.util, "selectModule", shown.append)
    folder = writeCase(tmp_path / "patient")
    assert panel.slicer.dropOnMainWindow(panel.mime(folder)) == [
        "Load T1, T1c, T2 and FLAIR into SOFA Brain Tumor Segmentation"
    ]
    assert panel.ui.flairSelector.currentNode() is None, "loading makes the drag's source wait"
    panel.wait(lambda: panel.ui.flairSelector.currentNode() is not None)
    assert shown == ["SOFASegment"]
    assert panel.ui.segmentButton.enabled


def test_the_files_of_a_case_dropped_onto_the_main_window_are_loaded_too(panel, tmp_path, monkeypatch):
    monkeypatch.setattr(slicer.util, "selectModule", lambda _name: None)
    folder = writeCase(tmp_path / "patient")
    assert panel.slicer.dropOnMainWindow(panel.mime(*sorted(folder.iterdir())))
    panel.wait(lambda: panel.ui.flairSelector.currentNode() is not None)


def test_what_is_no_case_is_left_to_slicers_other_readers(panel, tmp_path):
    folder = writeCase(tmp_path / "patient")
    (tmp_path / "notes.txt").write_text("t1 t2", encoding="utf-8")
    for paths in ((), (tmp_path,), (tmp_path / "notes.txt",), (folder / "patient_t1.nii.gz",), (folder, tmp_path)):
        assert panel.slicer.dropOnMainWindow(panel.mime(*paths)) == []
