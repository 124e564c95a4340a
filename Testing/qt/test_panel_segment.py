"""The panel: a first pass, boxes that are dragged, added, locked and deleted, and what helps to judge the result."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from panel_tools import SUB_REGIONS, Panel, boxes, drag
from PySide6 import QtWidgets
from standin import native, pythonqt
from vtk.util.numpy_support import vtk_to_numpy


def test_segmenting_shows_progress_can_be_cancelled_and_leaves_nothing_behind(panel):
    panel.useSessions(panel.endless)
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


def test_all_warnings_of_a_case_are_shown_and_stay(panel, monkeypatch, tmp_path):
    import qt
    from sofa_engine.session import SegmentationSession

    untrained = "The model has random weights, so its answers mean nothing."
    real = SegmentationSession.warnings.fget
    monkeypatch.setattr(SegmentationSession, "warnings", property(lambda session: (untrained, *real(session))))
    panel.choose(panel.addCase("t1", "flair"))
    panel.segment()
    shown = panel.ui.noticeLabel.text
    assert shown.startswith(untrained)
    assert "Without T1c" in shown
    assert "Without T2" in shown
    assert panel.said == ""
    path = tmp_path / "labels.nii.gz"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(path), raising=False)
    panel.ui.exportNiftiButton.click()
    assert panel.said.startswith("Saved")
    assert panel.ui.noticeLabel.text == shown
    assert not panel.ui.noticeLabel._native.isHidden()
    slicer.mrmlScene.Clear(0)
    assert panel.ui.noticeLabel._native.isHidden()


def test_a_warning_of_something_that_happens_is_told(segmented):
    slicer.mrmlScene.RemoveNode(segmented.controller.live.segmentationNode)
    assert segmented.said == "The segmentation was removed from the scene; press Segment to start again."


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
    for row in (0, segmented.ui.uncertainTable.rowCount - 1):
        segmented.ui.uncertainTable._native.cellClicked.emit(row, 0)
        assert segmented.ui.uncertainTable.item(row, 0).text() == f"S: {view.GetSliceOffset():.1f} mm"


def test_confidence_is_laid_over_the_views_and_taken_away(segmented, monkeypatch):
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    composite = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    composite.SetLayoutName("Red")
    segmented.ui.confidenceCheckBox.click()
    segmented.wait(composite.GetForegroundVolumeID)
    segmented.ui.segmentButton.click()
    segmented.wait(lambda: segmented.ui.segmentButton.text == "Segment again" and segmented.controller.measured)
    assert segmented.ui.confidenceCheckBox.checked
    segmented.wait(composite.GetForegroundVolumeID)
    segmented.ui.confidenceCheckBox.click()
    assert not composite.GetForegroundVolumeID()


def test_after_the_first_pass_the_views_show_the_tumour(panel, monkeypatch):
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    view.SetLayoutName("Red")
    view.SetOrientationToAxial()
    view.SetSliceOffset(-500)
    panel.choose(panel.addCase())
    panel.segment()
    bounds = [0.0] * 6
    boxes(panel, "ed")[0].GetRASBounds(bounds)
    assert bounds[4] < view.GetSliceOffset() < bounds[5]
    view.SetSliceOffset(bounds[4])
    drag(panel, "ncr", -4)
    panel.wait(lambda: panel.controller.canUndo)
    assert view.GetSliceOffset() == bounds[4], "a drag must not turn the views"
    panel.useSessions(panel.endless)
    panel.controller._opened = ()
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.ui.progressBar.value > 0)
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.ui.segmentButton.text == "Segment again")
    assert view.GetSliceOffset() == bounds[4], "cancelling must not turn the views"


def test_the_sub_regions_are_shown_in_3d_and_follow_a_drag(segmented):
    segmentation = segmented.ui.show3DButton.segmentationNode().GetSegmentation()
    assert not segmentation.ContainsRepresentation("Closed surface")
    segmented.ui.show3DButton.click()
    segment = segmentation.GetNthSegment(0)
    before = segment.GetRepresentation("Closed surface").GetNumberOfPoints()
    assert before > 0
    drag(segmented, "ncr", -4)
    segmented.wait(lambda: segment.GetRepresentation("Closed surface").GetNumberOfPoints() not in (0, before))
    segmented.ui.show3DButton.click()
    assert not segmentation.ContainsRepresentation("Closed surface")


def test_segment_editor_is_opened_on_the_result_and_what_is_painted_there_survives_a_drag(segmented, monkeypatch):
    shown, editor = [], pythonqt.wrapper_of(native.qMRMLSegmentEditorWidget)()
    native.qMRMLSegmentEditorWidget.edited.clear()
    monkeypatch.setattr(slicer.util, "selectModule", shown.append)
    # slicer.modules.segmenteditor.widgetRepresentation().self().editor, as Slicer's own callers have it
    widget = SimpleNamespace(self=lambda: SimpleNamespace(editor=editor))
    slicer.modules.segmenteditor = SimpleNamespace(widgetRepresentation=lambda: widget)
    segmented.ui.editButton.click()
    state = segmented.controller.state
    assert shown == ["SegmentEditor"]
    assert native.qMRMLSegmentEditorWidget.edited == [segmented.ui.show3DButton.segmentationNode(), state.reference()]

    segmented.host.exit()
    segment = segmented.ui.show3DButton.segmentationNode().GetSegmentation().GetNthSegment(1)
    scalars = segment.GetRepresentation("Binary labelmap").GetPointData().GetScalars()
    voxels = vtk_to_numpy(scalars)
    painted = np.flatnonzero(voxels == 0)[:50]
    voxels[painted] = segment.GetLabelValue()
    scalars.Modified()
    state.get("segmentation").GetSegmentation().InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)
    segmented.wait(lambda: segmented.controller.canUndo)
    segmented.host.enter()
    before = segmented.volume("ncr")
    drag(segmented, "ncr", -4)
    segmented.wait(lambda: segmented.volume("ncr") < before)
    assert (vtk_to_numpy(segment.GetRepresentation("Binary labelmap").GetPointData().GetScalars())[painted] != 0).all()
