from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofa_engine.case import Case
from sofa_engine.geometry import Geometry
from sofa_engine.opening import open_case
from sofa_engine.types import Modality
from sofa_engine.working_grid import WorkingGrid, labels_to_reference, probabilities_to_reference, to_working
from studies import LPS, geometry_for, head


def rotation(axis: int, degrees: float) -> np.ndarray:
    turn = np.deg2rad(degrees)
    matrix = np.eye(4)
    first, second = (a for a in range(3) if a != axis)
    matrix[first, first] = matrix[second, second] = np.cos(turn)
    matrix[first, second], matrix[second, first] = -np.sin(turn), np.sin(turn)
    return matrix


def ball(geometry: Geometry, radius_mm: float) -> np.ndarray:
    """Return a ball around the middle of the grid, bool (D, H, W)."""
    middle = geometry.index_to_ras((np.array(geometry.shape) - 1) / 2)
    points = geometry.index_to_ras(np.moveaxis(np.indices(geometry.shape), 0, -1))
    return np.linalg.norm(points - middle, axis=-1) <= radius_mm


def test_a_brats_case_is_its_own_working_case(brats_case):
    case = open_case(brats_case)
    assert to_working(case) is case
    grid = WorkingGrid.of(case.geometry)
    assert grid.identity
    assert not grid.resampled
    labels = np.zeros(case.geometry.shape, np.uint8)
    assert labels_to_reference(labels, grid) is labels


ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1.0, -1.0), repeat=3)
]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_is_turned_to_axial_and_back_without_touching_a_value(order, signs):
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[:, order] * signs
    matrix[:3, 3] = 3.0, -5.0, 7.0
    geometry = geometry_for((6, 8, 10), matrix)
    grid = WorkingGrid.of(geometry)
    assert not grid.resampled
    np.testing.assert_array_equal(grid.working.matrix[:3, :3], LPS[:3, :3])
    array = np.random.default_rng(0).random(geometry.shape).astype(np.float32)
    working = grid.to_working(array)
    assert working.shape == grid.working.shape
    np.testing.assert_array_equal(grid.to_reference(working), array)
    # A voxel keeps its value and its place in the patient.
    index = np.array([1, 2, 3])
    there = np.rint(grid.working.ras_to_index(geometry.index_to_ras(index))).astype(int)
    assert working[tuple(there)] == array[tuple(index)]


def test_slices_tilted_as_for_ac_pc_are_not_resampled():
    assert not WorkingGrid.of(geometry_for((20, 40, 40), rotation(0, 20) @ LPS)).resampled


def test_steeply_tilted_slices_become_axial_slices_of_1_mm_that_hold_everything():
    geometry = geometry_for((20, 40, 40), rotation(0, 42) @ LPS)
    grid = WorkingGrid.of(geometry)
    assert grid.resampled
    np.testing.assert_array_equal(grid.working.matrix[:3, :3], LPS[:3, :3])
    corners = np.array(list(itertools.product((0, 19), (0, 39), (0, 39))))
    inside = grid.working.ras_to_index(geometry.index_to_ras(corners))
    assert (inside >= -0.5).all()
    assert (inside <= np.array(grid.working.shape) - 0.5).all()


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ((5.0, 0.47, 0.47), (5.0, 1.0, 1.0)),
        ((1.2, 0.93, 1.08), (1.2, 0.93, 1.08)),
        ((0.5, 1.0, 1.0), (1.0, 1.0, 1.0)),
        ((0.8, 0.8, 1.0), (0.8, 1.0, 1.0)),
        ((2.5, 1.5, 1.0), (2.5, 1.0, 1.0)),
    ],
)
def test_planes_get_1_mm_and_slices_keep_their_distance_unless_finer(spacing, expected):
    z, y, x = spacing
    geometry = geometry_for((12, 50, 60), LPS @ np.diag([x, y, z, 1.0]))
    grid = WorkingGrid.of(geometry)
    np.testing.assert_allclose(grid.working.spacing, expected)
    assert grid.resampled == (spacing != expected)
    # Both grids lie around the same middle, and nothing is lost at the borders.
    middles = [g.index_to_ras((np.array(g.shape) - 1) / 2) for g in (geometry, grid.working)]
    np.testing.assert_allclose(*middles, atol=1e-9)
    assert all(
        n * s >= m * t - 1e-6 for n, s, m, t in zip(grid.working.shape, expected, geometry.shape, spacing, strict=True)
    )


def test_a_thick_sagittal_scan_is_worked_on_in_axial_slices():
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, 0, -5.0], [-1.0, 0, 0], [0, -1.0, 0]])  # columns are slices' i, j and normal
    grid = WorkingGrid.of(geometry_for((30, 90, 100), matrix))
    assert grid.working.shape == (90, 100, 150)
    np.testing.assert_allclose(grid.working.spacing, (1, 1, 1))


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([-0.5, 0.5, 2.5, 1.0]),
        rotation(0, 42) @ LPS,
        rotation(1, 10) @ np.diag([-0.7, -0.7, 4.0, 1.0]),
    ],
    ids=["LAS half mm", "tilted 42 degrees", "oblique thick"],
)
def test_a_lesion_comes_back_to_where_it_is_when_voxels_are_resampled(matrix):
    geometry = geometry_for((40, 80, 80), matrix)
    grid = WorkingGrid.of(geometry)
    assert grid.resampled
    truth = ball(geometry, 12)
    middle = geometry.index_to_ras((np.array(geometry.shape) - 1) / 2)
    points = grid.working.index_to_ras(np.moveaxis(np.indices(grid.working.shape), 0, -1))
    distance = np.linalg.norm(points - middle, axis=-1)
    labels = np.select([distance <= 5, distance <= 12], [1, 4], 0).astype(np.uint8)
    back = labels_to_reference(labels, grid)
    assert back.shape == geometry.shape
    assert back.dtype == np.uint8
    assert set(np.unique(back)) == {0, 1, 4}
    overlap = 2 * np.count_nonzero((back > 0) & truth) / (np.count_nonzero(back) + np.count_nonzero(truth))
    assert overlap > 0.95


def test_probabilities_come_back_between_0_and_1_and_decide_like_the_truth():
    geometry = geometry_for((20, 80, 80), np.diag([-0.5, -0.5, 2.5, 1.0]))
    grid = WorkingGrid.of(geometry)
    probabilities = np.stack([ball(grid.working, r).astype(np.float16) for r in (4, 8, 12)])
    back = probabilities_to_reference(probabilities, grid)
    assert back.shape == (3, *geometry.shape)
    assert back.dtype == np.float16
    assert back.min() >= 0
    assert back.max() <= 1
    decided, truth = back[2] > 0.5, ball(geometry, 12)
    assert 2 * np.count_nonzero(decided & truth) / (decided.sum() + truth.sum()) > 0.95


def test_outside_the_working_grid_nothing_is_labelled():
    reference = geometry_for((8, 20, 20), np.diag([-0.5, -0.5, 3.0, 1.0]))
    smaller = geometry_for((8, 4, 4), np.diag([-1.0, -1.0, 3.0, 1.0]))
    grid = WorkingGrid(reference, smaller, (0, 1, 2), (False, False, False), resampled=True)
    back = labels_to_reference(np.full(smaller.shape, 2, np.uint8), grid)
    assert back[:, :7, :7].all()
    assert not back[:, 8:].any()


@settings(max_examples=25, deadline=None)
@given(
    spacing=st.tuples(st.floats(0.4, 6.0), st.floats(0.3, 2.0), st.floats(0.3, 2.0)),
    tilt=st.floats(-80, 80),
    yaw=st.floats(-80, 80),
    order=st.permutations(range(3)),
)
def test_the_working_grid_is_always_near_axial_and_about_1_mm(spacing, tilt, yaw, order):
    z, y, x = spacing
    matrix = rotation(0, tilt) @ rotation(2, yaw) @ np.diag([-x, -y, z, 1.0])
    matrix[:3, :3] = matrix[:3, order]
    working = WorkingGrid.of(geometry_for((10, 12, 14), matrix)).working
    directions = working.matrix[:3, :3] / np.linalg.norm(working.matrix[:3, :3], axis=0)
    assert (np.diag(directions) * (-1, -1, 1) > np.cos(np.deg2rad(31))).all()
    assert all(0.9 - 1e-9 <= s <= 1.1 + 1e-9 for s in working.spacing[1:])
    assert working.spacing[0] >= 0.8 - 1e-9


def test_a_case_on_another_grid_keeps_its_name_sources_and_background():
    geometry = geometry_for(head().shape, LPS @ np.diag([0.5, 0.5, 1, 1]))
    dark = np.where(head() > 0, head(), -1000).astype(np.float32)
    case = Case({Modality.T1: dark}, geometry, "P1", {Modality.T1: "a.nii"}, ("careful",))
    working = to_working(case)
    assert (working.name, working.sources, working.warnings) == (case.name, case.sources, case.warnings)
    assert working.images[Modality.T1].shape == working.geometry.shape == (16, 24, 20)
    assert working.images[Modality.T1][0, 0, 0] == -1000


def test_a_real_case_on_half_millimetre_planes_goes_there_and_back(real_data):
    case = open_case(real_data / "other" / "native_TCGA-DU-7294")
    grid = WorkingGrid.of(case.geometry)
    working = to_working(case)
    np.testing.assert_allclose(working.geometry.spacing, (2.5, 1.0, 1.0), atol=1e-6)
    bright = working.images[Modality.FLAIR] > 450
    back = labels_to_reference(bright.astype(np.uint8) * 2, grid) > 0
    truth = case.images[Modality.FLAIR] > 450
    assert back.shape == case.geometry.shape
    assert 2 * np.count_nonzero(back & truth) / (back.sum() + truth.sum()) > 0.85
