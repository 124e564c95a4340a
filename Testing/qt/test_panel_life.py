"""The panel as Slicer treats it: shown and left, its scene closed and opened, reloaded, without a main window."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer
from panel_tools import Panel, boxes, drag
from PySide6 import QtCore, QtGui, QtWidgets


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


def test_keys_turn_the_views_to_the_next_uncertain_slice_and_back(segmented):
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    view.SetLayoutName("Red")
    view.SetOrientationToAxial()
    listed = [segmented.ui.uncertainTable.item(row, 0).text() for row in range(segmented.ui.uncertainTable.rowCount)]
    shown = []
    for key in ("]", "]", "["):
        segmented.press(key)
        shown.append(f"S: {view.GetSliceOffset():.1f} mm")
    assert shown == [listed[0], listed[1], listed[0]]


def test_entering_and_leaving_many_times_leaves_one_set_of_keys(panel):
    for _ in range(3):
        panel.host.exit()
        panel.host.enter()
    QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
    keys = [s.key().toString() for s in panel.slicer.mainWindow.findChildren(QtGui.QShortcut)]
    assert sorted(keys) == sorted(["Ctrl+Z", "Z", "Ctrl+Y", "Y", "Ctrl+B", "]", "["])


def test_closing_the_scene_during_a_run_ends_the_run_and_empties_the_panel(panel):
    panel.useSessions(panel.endless)
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
    panel.useSessions(panel.endless)
    panel.choose(panel.addCase())
    panel.ui.segmentButton.click()
    panel.host.exit()
    panel.host.enter()
    assert panel.ui.segmentButton.text == "Cancel"
    assert not panel.ui.progressFrame._native.isHidden()
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.ui.segmentButton.text == "Segment")


def test_leaving_and_coming_back_shows_the_same_as_before(segmented):
    before = segmented.volume("ncr")
    segmented.host.exit()
    segmented.host.enter()
    assert segmented.volume("ncr") == before
    assert segmented.ui.uncertainTable.rowCount > 0


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


def test_a_study_that_was_segmented_before_is_gone_on_with_when_its_volumes_are_chosen_again(segmented, monkeypatch):
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    first = {name: getattr(segmented.ui, f"{name}Selector").currentNode() for name in ("t1", "t1c", "t2", "flair")}
    drag(segmented, "ncr", -4)
    segmented.wait(lambda: segmented.controller.canUndo and not segmented.controller._jobs._running)
    rois, small = boxes(segmented, "ncr"), segmented.volume("ncr")
    later = segmented.addCase()
    segmented.choose(later)
    assert segmented.ui.segmentButton.text == "Segment again"
    assert segmented.ui.startOverButton._native.isHidden()
    live = segmented.controller.live
    segmented.ui.segmentButton.click()
    segmented.wait(lambda: segmented.controller.live is not live and segmented.controller.insights is not None)
    assert boxes(segmented, "ncr") != rois
    assert segmented.volume("ncr") > small

    segmented.choose(first)
    assert segmented.ui.segmentButton.text == "Continue"
    assert not segmented.ui.startOverButton._native.isHidden()
    live = segmented.controller.live
    segmented.ui.segmentButton.click()
    segmented.wait(lambda: segmented.controller.live is not live and segmented.controller.insights is not None)
    assert segmented.volume("ncr") == pytest.approx(small, abs=0.11)
    assert boxes(segmented, "ncr") == rois
    assert segmented.ui.segmentButton.text == "Segment again"


def test_adding_a_saved_case_to_the_scene_offers_to_go_on_with_it(segmented, tmp_path):
    path = _save(tmp_path)
    work, rois = segmented.ui.show3DButton.segmentationNode(), boxes(segmented, "ncr")
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Import()
    assert segmented.said.startswith("The added scene has its own volumes chosen")
    assert segmented.ui.segmentButton.text == "Continue"
    assert segmented.ui.show3DButton.segmentationNode() is not work
    assert not set(boxes(segmented, "ncr")) & set(rois)
    segmented.segment()
    assert segmented.volume("ncr") > 0


def _save(folder) -> Path:
    """Save the scene as Slicer does, and return the .mrml."""
    scene = slicer.mrmlScene
    for index in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(index)
        if node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLSegmentationNode") or node.IsA("vtkMRMLMarkupsROINode"):
            node.AddDefaultStorageNode()
            storage = node.GetStorageNode()
            extension = storage.GetDefaultWriteFileExtension()
            storage.SetFileName(str(folder / f"{node.GetID()}.{extension}"))
            assert storage.WriteData(node), node.GetName()
    scene.SetURL(str(folder / "scene.mrml"))
    scene.SetRootDirectory(str(folder))
    assert scene.Commit()
    return folder / "scene.mrml"


def test_a_scene_that_was_saved_is_gone_on_with(segmented, tmp_path):
    drag(segmented, "ncr", -4)
    segmented.wait(lambda: segmented.controller.canUndo)
    segmented.wait(lambda: not segmented.controller._jobs._running)
    small = segmented.volume("ncr")
    path = _save(tmp_path)
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


def test_every_button_of_the_panel_does_something(panel):
    """A button that is drawn in Designer and forgotten in the code would do nothing."""
    forgotten = []
    for name, widget in vars(panel.ui).items():
        if (
            widget.inherits("QAbstractButton")
            and not widget.inherits("ctkCollapsibleButton")
            and not widget.inherits("qMRMLSegmentationShow3DButton")
            and not name.startswith("qt_")
        ):
            connected = getattr(widget._native, "_standin_connections", [])
            if not connected and not widget.property("SlicerParameterName"):
                forgotten.append(name)
    assert forgotten == []
