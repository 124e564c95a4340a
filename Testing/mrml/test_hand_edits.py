"""What the user paints in Segment Editor is kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from mrml_tools import Bench
from sofa_engine.errors import SofaError
from sofa_engine.types import Box, Modality, Patch, SubRegion
from SOFASegmentLib.geometry import localGeometry
from SOFASegmentLib.segments import Segments

#: Inside the brain, outside all tumour and boxes.
_FAR = Box((20, 60, 20), (23, 64, 24))


def test_painted_voxels_reach_the_session_and_survive_a_drag_elsewhere(bench: Bench):
    bench.segment()
    bench.paint(SubRegion.ED, _FAR)
    bench.run()
    assert (bench.session.labels()[_FAR.slices] == SubRegion.ED.label).all()

    bench.drag(SubRegion.ET, 4)
    bench.drag(SubRegion.NCR, 2)

    assert (bench.labels()[_FAR.slices] == SubRegion.ED.label).all()
    assert np.array_equal(bench.labels(), bench.session.labels())


def test_erased_voxels_stay_erased_when_another_box_is_dragged(bench: Bench):
    bench.segment()
    inside = Box((28, 40, 30), (30, 44, 34))
    assert (bench.labels()[inside.slices] > 0).any()
    for subRegion in SubRegion:
        bench.paint(subRegion, inside, erase=True)
    bench.run()
    assert not bench.session.labels()[inside.slices].any()
    bench.drag(SubRegion.NCR, 1)
    assert not bench.labels()[inside.slices].any()


def test_painting_just_before_a_drag_is_not_lost(bench: Bench):
    bench.segment()
    bench.paint(SubRegion.ED, _FAR)
    roi = bench.roi(SubRegion.ET)
    bench.grab(roi)
    bench.grow(roi, 4)
    bench.letGo(roi)
    bench.run()
    assert (bench.labels()[_FAR.slices] == SubRegion.ED.label).all()
    assert np.array_equal(bench.labels(), bench.session.labels())


def test_where_painted_segments_overlap_the_painted_one_counts(bench: Bench):
    bench.segment()
    core = Box((21, 33, 27), (24, 36, 30))
    assert (bench.labels()[core.slices] == SubRegion.NCR.label).all()
    bench.paint(SubRegion.ET, core)
    bench.run()
    assert (bench.session.labels()[core.slices] == SubRegion.ET.label).all()
    assert not bench.mask(SubRegion.NCR)[core.slices].any()


def test_strokes_on_both_sides_of_a_dragged_tumour_do_not_undo_the_drag(bench: Bench):
    bench.segment()
    bench.drag(SubRegion.ET, 6)
    dragged = bench.labels()
    strokes = (Box((4, 16, 10), (5, 18, 12)), Box((40, 52, 46), (41, 54, 48)))
    for stroke in strokes:
        bench.paint(SubRegion.NCR, stroke)
    bench.run()
    expected = dragged.copy()
    for stroke in strokes:
        expected[stroke.slices] = SubRegion.NCR.label
    assert np.array_equal(bench.session.labels(), expected)
    assert np.array_equal(bench.labels(), expected)


def test_a_stroke_is_one_step_of_undo(bench: Bench):
    bench.segment()
    before = bench.labels()
    bench.paint(SubRegion.ED, _FAR)
    bench.run()
    painted = bench.labels()
    bench.controller.undo()
    bench.run()
    assert np.array_equal(bench.labels(), before)
    bench.controller.redo()
    bench.run()
    assert np.array_equal(bench.labels(), painted)


def test_painting_while_a_drag_is_computed_is_not_lost(bench: Bench):
    bench.segment()
    roi = bench.roi(SubRegion.ET)
    bench.grab(roi)
    bench.grow(roi, 4)
    bench.letGo(roi)
    bench.scheduler.step()
    bench.scheduler.step()
    bench.paint(SubRegion.ED, _FAR)
    bench.run()
    assert (bench.labels()[_FAR.slices] == SubRegion.ED.label).all()
    assert np.array_equal(bench.labels(), bench.session.labels())


#: Oedema in the box of the enhancing tumour that `_refine` draws, which becomes enhancing tumour.
_IN_BOX = Box((20, 30, 41), (24, 38, 42))


def _refine(bench: Bench, millimetres: float) -> None:
    """Drag the box of the enhancing tumour and let go; the refinement waits for its turn."""
    roi = bench.roi(SubRegion.ET)
    bench.grab(roi)
    bench.grow(roi, millimetres)
    bench.letGo(roi)
    bench.scheduler.step()


def _refined(bench: Bench, millimetres: float) -> np.ndarray:
    """What a drag makes of the labels; it is undone again."""
    bench.drag(SubRegion.ET, millimetres)
    labels = bench.labels()
    bench.controller.undo()
    bench.run()
    return labels


@pytest.mark.parametrize("shown", range(3))
def test_a_stroke_beside_what_a_drag_takes_away_is_kept_as_a_step_of_its_own(bench: Bench, shown: int):
    bench.segment()
    before, dragged = bench.labels(), _refined(bench, -4)
    middle = before.shape[0] // 2
    reach = Box.of_mask((before != dragged)[middle : middle + 1])
    oedema = (before == dragged)[middle] & (before == SubRegion.ED.label)[middle]
    y, x = next(v for v in np.argwhere(oedema) if np.all(v >= reach.lower[1:]) and np.all(v < reach.upper[1:]))
    stroke = Box((middle, int(y), int(x)), (middle + 1, int(y) + 1, int(x) + 1))

    _refine(bench, -4)
    for _ in range(shown):
        bench.scheduler.step()
    bench.paint(SubRegion.ET, stroke)
    bench.run()
    expected = dragged.copy()
    expected[stroke.slices] = SubRegion.ET.label
    for labels in (expected, dragged, before):
        assert np.array_equal(bench.labels(), labels)
        assert np.array_equal(bench.session.labels(), labels)
        bench.controller.undo()
        bench.run()
    assert not bench.controller.canUndo


def test_what_is_erased_where_a_drag_is_being_computed_stays_erased(bench: Bench):
    bench.segment()
    assert (bench.labels()[_IN_BOX.slices] == SubRegion.ED.label).all()
    assert (_refined(bench, 6)[_IN_BOX.slices] == SubRegion.ET.label).all()
    _refine(bench, 6)
    bench.paint(SubRegion.ED, _IN_BOX, erase=True)
    bench.run()
    assert not bench.labels()[_IN_BOX.slices].any()
    assert not bench.session.labels()[_IN_BOX.slices].any()


def test_strokes_stay_where_a_refinement_that_showed_the_same_fails(bench: Bench, monkeypatch):
    bench.segment()
    before, refine = bench.labels(), bench.session.refine

    def failing(*args: Any, **kwargs: Any) -> Iterator[Patch]:
        yield from itertools.islice(refine(*args, **kwargs), 6)
        raise SofaError("The engine stopped.")

    monkeypatch.setattr(bench.session, "refine", failing)
    _refine(bench, 6)
    bench.paint(SubRegion.ET, _IN_BOX)
    bench.run()
    assert bench.failures == ["The engine stopped."]
    expected = before.copy()
    expected[_IN_BOX.slices] = SubRegion.ET.label
    assert np.array_equal(bench.labels(), expected)
    assert np.array_equal(bench.session.labels(), expected)


def test_what_is_painted_while_a_scene_is_gone_on_with_is_a_step_of_its_own(bench: Bench):
    bench.segment()
    bench.drag(SubRegion.ET, 4)
    before, node, grid = bench.labels(), bench.segmentation, bench.controller.live.grids.reference
    bench.controller.close()
    again = Bench(bench.scene, bench.nodes, bench.makePredictor)
    again.controller.resume()
    again.scheduler.step()
    Segments(node, grid).write(_FAR, np.full(_FAR.shape, SubRegion.ED.label, np.uint8))
    again.run()
    assert (again.labels()[_FAR.slices] == SubRegion.ED.label).all()
    assert np.array_equal(again.labels(), again.session.labels())
    again.controller.undo()
    again.run()
    assert np.array_equal(again.labels(), before)
    assert not again.controller.canUndo
    again.controller.close()


def test_going_on_where_segments_overlap_changes_nothing(bench: Bench):
    bench.segment()
    core = Box((21, 33, 27), (24, 36, 30))
    bench.controller.close()
    again = Bench(bench.scene, bench.nodes, bench.makePredictor)
    segments = Segments(bench.segmentation, localGeometry(bench.nodes[Modality.T1C]))
    segments.write(core, np.full(core.shape, SubRegion.ET.label, np.uint8), (SubRegion.ET,))
    masks = {r: segments.read(r) for r in SubRegion}
    assert (masks[SubRegion.NCR] & masks[SubRegion.ET]).any()
    again.controller.resume()
    again.run()
    assert all(np.array_equal(segments.read(r), masks[r]) for r in SubRegion)
    assert not again.controller.canUndo
    again.controller.close()


def test_a_segment_that_the_user_deletes_is_emptied_and_comes_back_with_undo(bench: Bench):
    bench.segment()
    before = bench.mask(SubRegion.ED)
    bench.segmentation.GetSegmentation().RemoveSegment(bench.segments().segmentId(SubRegion.ED))
    bench.run()
    assert not (bench.session.labels() == SubRegion.ED.label).any()
    bench.controller.undo()
    bench.run()
    assert np.array_equal(bench.mask(SubRegion.ED), before)


def test_collapsed_labelmaps_are_understood_and_written(bench: Bench):
    bench.segment()
    before = bench.labels()
    bench.segmentation.GetSegmentation().CollapseBinaryLabelmaps(True)
    assert np.array_equal(bench.labels(), before)
    bench.run()
    bench.drag(SubRegion.ET, 4)
    assert np.array_equal(bench.labels(), bench.session.labels())


def test_a_segment_of_the_users_own_in_the_same_segmentation_stays(bench: Bench):
    import slicer

    bench.segment()
    segmentation = bench.segmentation.GetSegmentation()
    own = segmentation.AddEmptySegment("", "Ventricle", (0, 0, 1))
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(
        segmentation.GetSegment(bench.segments().segmentId(SubRegion.ED)).GetRepresentation("Binary labelmap")
    )
    segmentation.GetSegment(own).AddRepresentation("Binary labelmap", image)
    before = slicer.util.arrayFromSegmentInternalBinaryLabelmap(bench.segmentation, own).copy()
    bench.run()
    bench.drag(SubRegion.ED, 4)
    bench.controller.segment()
    bench.run()
    assert np.array_equal(slicer.util.arrayFromSegmentInternalBinaryLabelmap(bench.segmentation, own), before)


def test_where_nobody_painted_a_drag_reads_no_voxels(bench: Bench, monkeypatch):
    bench.segment()
    bench.drag(SubRegion.ET, 3)
    read: list[SubRegion] = []
    whole = Segments.read

    def counting(self: Segments, subRegion: SubRegion) -> np.ndarray:
        read.append(subRegion)
        return whole(self, subRegion)

    monkeypatch.setattr(Segments, "read", counting)
    bench.drag(SubRegion.ET, 3)
    assert read == []
    bench.paint(SubRegion.NCR, _FAR)
    bench.drag(SubRegion.ET, -3)
    assert read != []
    assert whole(bench.segments(), SubRegion.NCR)[_FAR.slices].all()


def test_voxels_that_a_script_sets_and_tells_of_by_an_event_alone_are_taken_over(bench: Bench):
    bench.segment()
    bench.drag(SubRegion.ET, 3)
    segmentation = bench.segmentation.GetSegmentation()
    image = segmentation.GetSegment(bench.segments().segmentId(SubRegion.ED)).GetRepresentation("Binary labelmap")
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    voxels[2, 3, 4] = 1
    segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)
    bench.run()
    assert bench.session.labels()[2, 3, 4] == SubRegion.ED.label
