"""A hand on the mouse: handles are dragged by interactor events in views that are really rendered."""

from __future__ import annotations

import numpy as np

from mrml_tools import Bench, digest
from mrml_views import SliceMouse, picture
from sofa_engine.types import Modality, SubRegion


def _turnTo(view: SliceMouse, bench: Bench, roi) -> None:
    view.show(bench.nodes[Modality.T1C])
    view.view.get_view_node().JumpSliceByCentering(*roi.GetCenterWorld())
    view.view.render()


def test_dragging_a_face_outward_grows_the_segment_inside_the_box(realBench: Bench, axialView: SliceMouse):
    bench = realBench
    bench.segment()
    volumes = digest(bench.nodes.values())
    roi = bench.roi(SubRegion.ET)
    _turnTo(axialView, bench, roi)
    before, (old,) = bench.labels(), bench.boxes(SubRegion.ET)
    drawnBefore = picture(axialView.view)
    during: list[int] = []

    def moved() -> None:
        bench.run()
        during.append(int((bench.labels() != before).any(axis=(1, 2)).sum()))

    axialView.dragFace(roi, axis=0, sign=1, millimetres=12, onStep=moved)
    bench.run()

    after, (new,) = bench.labels(), bench.boxes(SubRegion.ET)
    assert bench.failures == []
    assert max(during) == 1, "while the mouse was down more than the visible slice changed"
    assert during[-1] == 1, "the visible slice did not follow the mouse"
    assert new != old
    assert np.prod(new.shape) > np.prod(old.shape)
    grown = (after == SubRegion.ET.label) & (before != SubRegion.ET.label)
    assert grown.any(axis=(1, 2)).sum() > 5
    outside = np.ones(after.shape, bool)
    outside[new.slices] = False
    assert np.array_equal(after[outside], before[outside])
    assert np.array_equal(after, bench.session.labels())
    assert digest(bench.nodes.values()) == volumes
    assert (picture(axialView.view) != drawnBefore).any()


def test_dragging_a_face_inward_gives_up_what_lies_outside(realBench: Bench, axialView: SliceMouse):
    bench = realBench
    bench.segment()
    roi = bench.roi(SubRegion.ET)
    _turnTo(axialView, bench, roi)
    before = bench.labels()
    axialView.dragFace(roi, axis=0, sign=-1, millimetres=-8)
    bench.run()
    (box,) = bench.boxes(SubRegion.ET)
    outside = np.ones(before.shape, bool)
    outside[box.slices] = False
    assert (before[outside] == SubRegion.ET.label).any()
    assert not bench.mask(SubRegion.ET)[outside].any()


def test_a_drag_in_the_coronal_view_follows_in_all_its_slices(realBench: Bench, coronalView: SliceMouse):
    bench = realBench
    bench.segment()
    roi = bench.roi(SubRegion.ET)
    _turnTo(coronalView, bench, roi)
    before = bench.labels()
    seen: list[np.ndarray] = []

    def moved() -> None:
        bench.run()
        seen.append(bench.labels())

    coronalView.dragFace(roi, axis=2, sign=1, millimetres=6, onStep=moved)
    assert (seen[-1] != before).any(axis=(1, 2)).sum() > 5
    bench.run()
    assert np.array_equal(bench.labels(), bench.session.labels())
    assert not np.array_equal(bench.labels(), before)


def test_undo_after_a_drag_by_the_mouse_draws_the_old_picture(realBench: Bench, axialView: SliceMouse):
    bench = realBench
    bench.segment()
    roi = bench.roi(SubRegion.ET)
    _turnTo(axialView, bench, roi)
    axialView.move(np.array([-200.0, 0, 0]))
    before, drawn = bench.labels(), picture(axialView.view)
    axialView.dragFace(roi, axis=0, sign=1, millimetres=12)
    bench.run()
    axialView.move(np.array([-200.0, 0, 0]))
    assert (picture(axialView.view) != drawn).any()
    bench.controller.undo()
    bench.run()
    assert np.array_equal(bench.labels(), before)
    assert np.array_equal(picture(axialView.view), drawn)


def test_the_handles_of_a_locked_box_do_not_move_it(realBench: Bench, axialView: SliceMouse):
    bench = realBench
    bench.segment()
    bench.controller.setLocked(SubRegion.ET, True)
    roi = bench.roi(SubRegion.ET)
    for other in (SubRegion.NCR, SubRegion.ED):
        bench.roi(other).SetDisplayVisibility(False)
    _turnTo(axialView, bench, roi)
    before, size = bench.labels(), list(roi.GetSize())
    axialView.dragFace(roi, axis=0, sign=1, millimetres=12)
    bench.run()
    assert list(roi.GetSize()) == size
    assert np.array_equal(bench.labels(), before)
