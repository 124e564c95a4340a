"""The user drags boxes; the segments follow, and nothing else moves."""

from __future__ import annotations

import numpy as np

from mrml_tools import Bench, digest
from sofa_engine.types import SUB_REGIONS, Box, SubRegion
from SOFASegmentLib import Phase


def test_one_button_makes_three_segments_and_three_boxes(bench: Bench):
    bench.segment()

    assert bench.controller.phase is Phase.READY
    labels = bench.session.labels()
    assert np.array_equal(bench.labels(), labels)
    assert all((labels == r.label).any() for r in SUB_REGIONS)
    assert {r: bench.boxes(r) for r in SUB_REGIONS} == bench.session.boxes()
    assert bench.segmentation.GetSegmentation().GetNumberOfSegments() == 3


def test_dragging_a_box_outward_grows_the_segment_inside_it_and_nowhere_else(bench: Bench):
    bench.segment()
    before = bench.labels()

    bench.drag(SubRegion.ET, 6)

    after, (box,) = bench.labels(), bench.boxes(SubRegion.ET)
    outside = np.ones(after.shape, bool)
    outside[box.slices] = False
    assert (after == SubRegion.ET.label).sum() > (before == SubRegion.ET.label).sum()
    changed = after != before
    assert changed.any()
    assert not changed[outside].any()
    assert np.array_equal(after, bench.session.labels())
    assert bench.failures == []


def test_the_users_volumes_are_never_touched(bench: Bench):
    before = digest(bench.nodes.values())
    bench.segment()
    bench.drag(SubRegion.ED, -4)
    bench.controller.undo()
    bench.run()
    assert digest(bench.nodes.values()) == before


def test_undo_brings_back_voxels_and_box_together_and_redo_repeats_both(bench: Bench):
    bench.segment()
    labels, boxes = bench.labels(), bench.boxes(SubRegion.ET)
    bench.drag(SubRegion.ET, 6)
    dragged, draggedBoxes = bench.labels(), bench.boxes(SubRegion.ET)
    assert bench.controller.canUndo
    assert not bench.controller.canRedo

    bench.controller.undo()
    bench.run()
    assert np.array_equal(bench.labels(), labels)
    assert bench.boxes(SubRegion.ET) == boxes
    assert not bench.controller.canUndo

    bench.controller.redo()
    bench.run()
    assert np.array_equal(bench.labels(), dragged)
    assert bench.boxes(SubRegion.ET) == draggedBoxes


def test_a_locked_segment_gives_up_nothing(bench: Bench):
    bench.segment()
    bench.controller.setLocked(SubRegion.ED, True)
    before = bench.mask(SubRegion.ED)

    bench.drag(SubRegion.ET, 6)

    assert np.array_equal(bench.mask(SubRegion.ED), before)
    assert bench.roi(SubRegion.ED).GetLocked()


def test_undo_and_redo_do_not_change_what_was_locked_since(bench: Bench):
    bench.segment()
    before = bench.labels()
    bench.drag(SubRegion.ET, 6)
    dragged, boxes = bench.labels(), bench.session.boxes()
    bench.controller.setLocked(SubRegion.ET, True)
    bench.controller.undo()
    bench.run()
    assert bench.failures == ["Enhancing tumour is locked; unlock it to undo or redo this step."]
    assert np.array_equal(bench.labels(), dragged)
    assert np.array_equal(bench.session.labels(), dragged)
    assert {r: bench.boxes(r) for r in SUB_REGIONS} == boxes == bench.session.boxes()
    assert bench.controller.canUndo and not bench.controller.canRedo

    bench.controller.setLocked(SubRegion.ET, False)
    bench.controller.undo()
    bench.run()
    assert np.array_equal(bench.labels(), before)
    bench.controller.setLocked(SubRegion.ET, True)
    bench.controller.redo()
    bench.run()
    assert np.array_equal(bench.labels(), before)
    assert len(bench.failures) == 2
    assert bench.controller.canRedo and not bench.controller.canUndo


def test_a_step_that_leaves_what_is_locked_alone_is_undone(bench: Bench):
    bench.segment()
    bench.controller.setLocked(SubRegion.NCR, True)
    before = bench.labels()
    bench.drag(SubRegion.ET, 6)
    assert not np.array_equal(bench.labels(), before)
    bench.controller.undo()
    bench.run()
    assert np.array_equal(bench.labels(), before)
    assert bench.failures == []


def test_a_locked_box_that_is_moved_by_code_goes_back_and_says_why(bench: Bench):
    bench.segment()
    bench.controller.setLocked(SubRegion.ED, True)
    boxes, labels = bench.boxes(SubRegion.ED), bench.labels()
    bench.grow(bench.roi(SubRegion.ED), 5)
    bench.run()
    assert bench.boxes(SubRegion.ED) == boxes
    assert np.array_equal(bench.labels(), labels)
    assert bench.failures == ["Oedema is locked; unlock it to change its boxes."]


def test_a_box_moved_by_a_script_is_refined_once_it_is_still(bench: Bench):
    bench.segment()
    bench.grow(bench.roi(SubRegion.ET), 6)
    bench.run()
    assert bench.session.boxes()[SubRegion.ET] == bench.boxes(SubRegion.ET)
    assert np.array_equal(bench.labels(), bench.session.labels())
    assert bench.controller.canUndo


def test_a_box_that_slicers_own_undo_puts_back_is_refined_too(bench: Bench):
    bench.scene.SetUndoOn()
    bench.segment()
    roi, labels, boxes = bench.roi(SubRegion.ET), bench.labels(), bench.boxes(SubRegion.ET)
    roi.SetUndoEnabled(True)
    bench.scene.SaveStateForUndo(roi)
    bench.drag(SubRegion.ET, 6)
    assert not np.array_equal(bench.labels(), labels)
    bench.scene.Undo()
    bench.run()
    assert bench.boxes(SubRegion.ET) == bench.session.boxes()[SubRegion.ET] == boxes
    assert bench.failures == []


def test_a_box_under_a_moved_transform_is_read_where_it_is(bench: Bench):
    bench.segment()
    (before,) = bench.boxes(SubRegion.ET)
    transform = bench.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    bench.roi(SubRegion.ET).SetAndObserveTransformNodeID(transform.GetID())
    import slicer

    matrix = np.eye(4)
    matrix[2, 3] = 3.0
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    bench.run()
    (after,) = bench.session.boxes()[SubRegion.ET]
    assert after.lower == (before.lower[0] + 3, *before.lower[1:])
    assert after.upper == (before.upper[0] + 3, *before.upper[1:])


def test_a_rotated_box_is_read_by_its_eight_corners(bench: Bench):
    import slicer

    bench.segment()
    (before,) = bench.boxes(SubRegion.ET)
    roi = bench.roi(SubRegion.ET)
    matrix = slicer.util.arrayFromVTKMatrix(roi.GetObjectToNodeMatrix())
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]
    roi.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(matrix @ turn))
    (turned,) = bench.boxes(SubRegion.ET)
    assert turned.shape[0] == before.shape[0]
    assert turned.shape[1] > before.shape[1]
    assert turned.shape[2] > before.shape[2]
    bench.run()
    assert bench.session.boxes()[SubRegion.ET] == (turned,)


def test_while_dragging_only_the_visible_slice_follows_and_letting_go_refines_the_whole_box(bench: Bench, axialView):
    bench.segment()
    before = bench.labels()
    (box,) = bench.boxes(SubRegion.ET)
    bench.controller.jumpToSlice(box.lower[0] + 2)
    roi = bench.roi(SubRegion.ET)
    bench.grab(roi)
    bench.grow(roi, 6)
    bench.run()

    during = bench.labels()
    assert np.unique(np.nonzero(during != before)[0]).tolist() == [box.lower[0] + 2]
    assert np.array_equal(bench.session.labels(), before)

    bench.letGo(roi)
    bench.run()
    after = bench.labels()
    assert np.unique(np.nonzero(after != before)[0]).size > 5
    assert np.array_equal(after, bench.session.labels())


def test_a_drag_that_returns_to_where_it_began_leaves_no_trace(bench: Bench, axialView):
    bench.segment()
    before, boxes = bench.labels(), bench.boxes(SubRegion.ET)
    roi = bench.roi(SubRegion.ET)
    bench.grab(roi)
    bench.grow(roi, 6)
    bench.run()
    assert not np.array_equal(bench.labels(), before)
    bench.grow(roi, -6)
    bench.letGo(roi)
    bench.run()
    assert np.array_equal(bench.labels(), before)
    assert bench.boxes(SubRegion.ET) == boxes
    assert not bench.controller.canUndo


def test_scrolling_during_a_drag_leaves_no_slice_behind(bench: Bench, axialView):
    bench.segment()
    before = bench.labels()
    (box,) = bench.boxes(SubRegion.ET)
    roi = bench.roi(SubRegion.ET)
    bench.grab(roi)
    for index in (box.lower[0] + 2, box.lower[0] + 9):
        bench.controller.jumpToSlice(index)
        bench.grow(roi, 3)
        bench.run()
        assert not np.array_equal(bench.labels()[index], before[index])
    bench.grow(roi, -6)
    bench.letGo(roi)
    bench.run()
    assert np.array_equal(bench.labels(), before)


def test_the_newest_of_two_quick_drags_wins(bench: Bench):
    bench.segment()
    roi = bench.roi(SubRegion.ET)
    for millimetres in (6, -3):
        bench.grab(roi)
        bench.grow(roi, millimetres)
        bench.letGo(roi)
        for _ in range(3):
            bench.scheduler.step()
    expected = bench.boxes(SubRegion.ET)
    bench.run()
    assert bench.session.boxes()[SubRegion.ET] == expected
    assert bench.boxes(SubRegion.ET) == expected
    assert np.array_equal(bench.labels(), bench.session.labels())


def test_the_user_adds_a_box_where_there_is_none_and_deletes_it_again(bench: Bench):
    bench.segment()
    bench.scene.RemoveNode(bench.roi(SubRegion.NCR))
    bench.run()
    assert not bench.mask(SubRegion.NCR).any()
    assert bench.session.boxes()[SubRegion.NCR] == ()

    bench.controller.addBox(SubRegion.NCR)
    bench.run()
    assert len(bench.state.boxNodes(SubRegion.NCR)) == 1
    assert bench.mask(SubRegion.NCR).any()

    bench.controller.deleteBox(bench.roi(SubRegion.NCR))
    bench.run()
    assert bench.state.boxNodes(SubRegion.NCR) == []
    assert not bench.mask(SubRegion.NCR).any()

    bench.controller.undo()
    bench.run()
    assert len(bench.state.boxNodes(SubRegion.NCR)) == 1
    assert bench.mask(SubRegion.NCR).any()


def test_a_new_box_is_put_where_the_visible_slices_cross(bench: Bench):
    bench.segment()
    middle = np.array([18.0, 30.0, 12.0])
    for name, turn in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
        view = bench.scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        view.SetLayoutName(name)
        getattr(view, f"SetOrientationTo{turn}")()
        view.SetMappedInLayout(1)
        view.JumpSlice(*bench.session.geometry.index_to_ras(middle))
    bench.controller.addBox(SubRegion.ET)
    bench.run()
    box = bench.boxes(SubRegion.ET)[-1]
    assert all(low < where < high for low, where, high in zip(box.lower, middle, box.upper, strict=True))
    assert len(bench.boxes(SubRegion.ET)) == 2


def test_reset_goes_back_to_the_box_of_the_first_pass(bench: Bench):
    bench.segment()
    boxes = bench.boxes(SubRegion.ET)
    bench.drag(SubRegion.ET, -4)
    bench.controller.resetBox(SubRegion.ET)
    bench.run()
    assert bench.boxes(SubRegion.ET) == boxes


def test_several_lesions_get_a_box_each(bench: Bench):
    bench.segment()
    bench.drag(SubRegion.ET, 24)
    bench.controller.splitLesions(SubRegion.ET)
    bench.run()
    boxes = bench.boxes(SubRegion.ET)
    assert len(boxes) == len(bench.state.boxNodes(SubRegion.ET)) == 2
    assert boxes == bench.session.boxes()[SubRegion.ET]
    assert np.array_equal(bench.labels(), bench.session.labels())


def test_lesions_too_small_for_a_box_each_stay_as_they_are(bench: Bench):
    bench.segment()
    bench.paint(SubRegion.NCR, Box((0, 0, 0), bench.labels().shape), erase=True)
    bench.paint(SubRegion.NCR, Box((20, 33, 27), (22, 36, 30)))
    bench.run()
    before, boxes = bench.labels(), bench.session.boxes()
    assert (before == SubRegion.NCR.label).sum() == 18
    bench.controller.splitLesions(SubRegion.NCR)
    bench.run()
    assert bench.failures == ["No lesion is large enough for a box of its own."]
    assert np.array_equal(bench.labels(), before)
    assert {r: bench.boxes(r) for r in SUB_REGIONS} == boxes == bench.session.boxes()


def test_a_box_dragged_out_of_the_volume_empties_the_sub_region(bench: Bench):
    bench.segment()
    roi = bench.roi(SubRegion.NCR)
    bench.grab(roi)
    roi.SetCenterWorld(500, 500, 500)
    bench.letGo(roi)
    bench.run()
    assert not bench.mask(SubRegion.NCR).any()
    assert bench.failures == []


def test_someone_elses_roi_and_segmentation_are_left_alone(bench: Bench):
    import slicer

    roi = bench.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    roi.SetSize(10, 10, 10)
    mine = bench.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "SOFA")
    mine.GetSegmentation().AddEmptySegment("", "Enhancing tumour", (0, 0, 1))
    bench.segment()
    roi.SetSize(20, 20, 20)
    bench.run()
    bench.drag(SubRegion.ET, 4)
    assert bench.scene.IsNodePresent(roi)
    assert bench.scene.IsNodePresent(mine)
    assert list(roi.GetSize()) == [20, 20, 20]
    assert mine.GetSegmentation().GetNumberOfSegments() == 1
    assert bench.segmentation is not mine
    assert slicer.util.arrayFromSegmentInternalBinaryLabelmap(mine, mine.GetSegmentation().GetNthSegmentID(0)).size == 0


def test_segments_whose_voxels_stay_are_not_written(bench: Bench):
    bench.segment()
    times = {r: _labelmap(bench, r).GetMTime() for r in SUB_REGIONS}
    bench.controller.setLocked(SubRegion.ED, True)
    bench.controller.setLocked(SubRegion.NCR, True)

    bench.drag(SubRegion.ET, -6)

    assert _labelmap(bench, SubRegion.ET).GetMTime() > times[SubRegion.ET]
    assert _labelmap(bench, SubRegion.NCR).GetMTime() == times[SubRegion.NCR]
    assert _labelmap(bench, SubRegion.ED).GetMTime() == times[SubRegion.ED]


def _labelmap(bench: Bench, subRegion: SubRegion):
    segmentation = bench.segmentation.GetSegmentation()
    return segmentation.GetSegment(bench.segments().segmentId(subRegion)).GetRepresentation("Binary labelmap")
