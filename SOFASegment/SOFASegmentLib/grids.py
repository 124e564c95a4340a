"""Between the session's working grid and the reference volume's own grid, a patch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sofa_engine.geometry import Geometry
from sofa_engine.types import Box, Patch
from sofa_engine.working_grid import WorkingGrid, labels_to_reference


@dataclass(frozen=True)
class Edit:
    """Labels that the user painted.

    Attributes:
        extent: where.
        labels: uint8, shape `extent.shape`.
        where: bool, shape `extent.shape`: the voxels that were painted; the others' labels are not news.
    """

    extent: Box
    labels: np.ndarray
    where: np.ndarray


class GridMap:
    """Carries patches to the reference grid and edits back. Both grids are the same for most scans."""

    def __init__(self, grid: WorkingGrid, local: Geometry) -> None:
        """Take the grids in world coordinates, and the reference grid in its volume node's own coordinates."""
        self.grid = grid
        self.reference = local
        toLocal = local.matrix @ np.linalg.inv(grid.reference.matrix)
        #: The working grid in the reference volume node's coordinates, which boxes are laid out in.
        self.working = Geometry.from_matrix(grid.working.shape, toLocal @ grid.working.matrix)

    def toReference(self, patch: Patch, sessionLabels: np.ndarray) -> Patch:
        """Return a patch of the working grid on the reference grid.

        Args:
            patch: new labels.
            sessionLabels: uint8 (D, H, W), the labels around the patch, which smooth borders depend on.
        """
        if self.grid.identity:
            return patch
        if not self.grid.resampled:
            return Patch(self._turnBack(patch.extent), self._arrayBack(patch.labels), patch.generation)
        extent = self._reach(patch.extent, self.grid.working, self.grid.reference)
        around = self._reach(extent, self.grid.reference, self.grid.working)
        labels = sessionLabels[around.slices].copy()
        inside = patch.extent.intersection(around)
        if inside is not None:
            labels[_within(inside, around)] = patch.labels[_within(inside, patch.extent)]
        part = WorkingGrid(
            _cropped(self.grid.reference, extent),
            _cropped(self.grid.working, around),
            self.grid.axes,
            self.grid.flips,
            resampled=True,
        )
        return Patch(extent, labels_to_reference(labels, part), patch.generation)

    def toWorking(self, edit: Edit, sessionLabels: np.ndarray) -> Patch | None:
        """Return what the user painted on the reference grid as a patch of the working grid; None if nothing is left.

        Voxels that the user did not paint keep the label that they have in `sessionLabels`.
        """
        if self.grid.identity:
            extent, where, painted = edit.extent, edit.where, edit.labels
        else:
            extent = self._reach(edit.extent, self.grid.reference, self.grid.working)
            zyx = np.moveaxis(np.indices(extent.shape), 0, -1) + np.array(extent.lower)
            nearest = self.grid.reference.ras_to_index(self.grid.working.index_to_ras(zyx))
            nearest = np.rint(nearest).astype(int) - np.array(edit.extent.lower)
            inside = np.all((nearest >= 0) & (nearest < edit.extent.shape), axis=-1)
            index = tuple(np.where(inside, nearest[..., axis], 0) for axis in range(3))
            where, painted = inside & edit.where[index], edit.labels[index]
        if not where.any():
            return None
        return Patch(extent, np.where(where, painted, sessionLabels[extent.slices]).astype(np.uint8))

    def _turnBack(self, box: Box) -> Box:
        lower, upper = [0, 0, 0], [0, 0, 0]
        for working, (axis, flip) in enumerate(zip(self.grid.axes, self.grid.flips, strict=True)):
            length = self.grid.working.shape[working]
            a, b = box.lower[working], box.upper[working]
            lower[axis], upper[axis] = (length - b, length - a) if flip else (a, b)
        return Box(tuple(lower), tuple(upper))

    def _arrayBack(self, array: np.ndarray) -> np.ndarray:
        flipped = np.flip(array, tuple(axis for axis, flip in enumerate(self.grid.flips) if flip))
        return np.ascontiguousarray(np.transpose(flipped, np.argsort(self.grid.axes)))

    @staticmethod
    def _reach(box: Box, source: Geometry, target: Geometry) -> Box:
        """Return the voxels of `target` that interpolation of a box of `source` may reach."""
        corners = target.ras_to_index(source.box_corners_ras(box))
        lower = np.floor(corners.min(axis=0) - 1).astype(int)
        upper = np.ceil(corners.max(axis=0) + 2).astype(int)
        lower = np.clip(lower, 0, np.array(target.shape) - 1)
        upper = np.clip(upper, lower + 1, target.shape)
        return Box(tuple(int(v) for v in lower), tuple(int(v) for v in upper))


def _within(box: Box, outer: Box) -> tuple[slice, ...]:
    return tuple(slice(a - o, b - o) for a, b, o in zip(box.lower, box.upper, outer.lower, strict=True))


def _cropped(geometry: Geometry, box: Box) -> Geometry:
    matrix = geometry.matrix
    matrix[:3, 3] = geometry.index_to_ras(np.array(box.lower))
    return Geometry.from_matrix(box.shape, matrix)
