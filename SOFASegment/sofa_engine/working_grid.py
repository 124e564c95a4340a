"""The grid that the model works on, axial slices of about 1 mm, and the way back to the patient's own grid."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from sofa_engine.case import Case
from sofa_engine.foreground import background_of
from sofa_engine.geometry import Geometry
from sofa_engine.itk_images import to_itk
from sofa_engine.types import SUB_REGIONS, Box
from sofa_engine.voxels import sound_case

#: Where the axes (z, y, x) of a working volume point, in RAS: superior, posterior, left (as in BraTS).
_WORKING_DIRECTIONS = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
_PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
_IN_PLANE_MM = 1.0
#: In-plane spacing this close to 1 mm stays as it is.
_IN_PLANE_TOLERANCE = 0.1
#: Slices closer than this are resampled to 1 mm; thicker ones stay, since no slice can be invented.
_FINEST_SLICES_MM = 0.8
#: Grids turned further than this from the patient's axes are resampled to axial slices; scans along AC-PC lie within.
_MOST_TILT_DEGREES = 30.0


@dataclass(frozen=True)
class WorkingGrid:
    """A reference grid and the working grid that belongs to it.

    Attributes:
        reference: the patient's own grid.
        working: what the model sees.
        axes: which axis of the reference's (D, H, W) becomes each axis of the working array.
        flips: whether that axis then runs backwards.
        resampled: whether voxels are interpolated; if not, axes and flips are all there is and both ways are exact.
    """

    reference: Geometry
    working: Geometry
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    resampled: bool

    @staticmethod
    def of(reference: Geometry) -> WorkingGrid:
        """Choose the working grid for a reference grid: the reference itself if it is axial, 1 mm and ordered LPS."""
        directions = (reference.matrix[:3, :3] / reference.spacing[::-1]).T[::-1]
        cosines = _WORKING_DIRECTIONS @ directions.T
        axes = max(_PERMUTATIONS, key=lambda order: sum(abs(cosines[i, order[i]]) for i in range(3)))
        flips = (bool(cosines[0, axes[0]] < 0), bool(cosines[1, axes[1]] < 0), bool(cosines[2, axes[2]] < 0))
        turned = _turned(reference, axes, flips)
        tilt = np.degrees(np.arccos(min(1.0, *(abs(cosines[i, axes[i]]) for i in range(3)))))
        target = _axial_around(turned) if tilt > _MOST_TILT_DEGREES else _with_spacing(turned, _spacing_for(turned))
        return WorkingGrid(reference, target, axes, flips, resampled=target != turned)

    @property
    def identity(self) -> bool:
        """Whether working and reference volumes are the same array."""
        return self.working == self.reference

    def to_working(self, array: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Carry an image (D, H, W) on the reference grid over to the working grid, linearly where it is resampled."""
        if self.identity:
            return array
        if self.resampled:
            return _resample(array, self.reference, self.working, fill)
        return self._turn(array)

    def to_reference(self, array: np.ndarray) -> np.ndarray:
        """Carry an image (D, H, W) on the working grid back to the reference grid; zero outside the working grid."""
        if self.identity:
            return array
        if self.resampled:
            return _resample(array, self.working, self.reference, 0.0)
        return self._turn_back(array)

    def _turn(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.flip(np.transpose(array, self.axes), self._flipped_axes))

    def _turn_back(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.transpose(np.flip(array, self._flipped_axes), np.argsort(self.axes)))

    @property
    def _flipped_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, flip in enumerate(self.flips) if flip)


def to_working(case: Case) -> Case:
    """Return the case on its working grid; the case itself if that is the same and all its voxels are numbers.

    Raises:
        InputError: a sequence has no image in it.
    """
    case = sound_case(case)
    grid = WorkingGrid.of(case.geometry)
    if grid.identity:
        return case
    images = {m: grid.to_working(image, background_of(image) or 0.0) for m, image in case.images.items()}
    return replace(case, images=images, geometry=grid.working)


def labels_to_reference(labels: np.ndarray, grid: WorkingGrid) -> np.ndarray:
    """Put a label map, uint8 (D, H, W) on the working grid, back on the reference grid.

    Where voxels are resampled, each sub-region's mask is interpolated linearly and the largest share wins, background
    included: borders come out smooth, unlike with the nearest voxel.
    """
    if not grid.resampled:
        return grid.to_reference(labels)
    result = np.zeros(grid.reference.shape, dtype=np.uint8)
    extent = _reference_extent(labels, grid)
    if extent is None:
        return result
    part = _cropped(grid.reference, extent)
    winner = result[extent.slices]
    # What is left of 1 is background, and all of it outside the working grid, where nothing was segmented.
    shares = [_resample(labels == r.label, grid.working, part, 0.0) for r in SUB_REGIONS]
    best = 1.0 - sum(shares)
    for sub_region, share in zip(SUB_REGIONS, shares, strict=True):
        winner[share > best] = sub_region.label
        best = np.maximum(best, share)
    return result


def probabilities_to_reference(probabilities: np.ndarray, grid: WorkingGrid) -> np.ndarray:
    """Put probabilities (C, D, H, W) on the working grid back on the reference grid, interpolated linearly."""
    channels = [grid.to_reference(channel) for channel in probabilities]
    return np.stack(channels).astype(probabilities.dtype, copy=False)


def _reference_extent(labels: np.ndarray, grid: WorkingGrid) -> Box | None:
    """Return the box of the reference grid that the labels can reach, a voxel's interpolation included."""
    box = Box.of_mask(labels)
    if box is None:
        return None
    corners = grid.working.box_corners_ras(box.grown((1, 1, 1), labels.shape))
    there = grid.reference.box_from_corners_ras(corners)
    return there and there.grown((1, 1, 1), grid.reference.shape)


def _cropped(geometry: Geometry, box: Box) -> Geometry:
    matrix = geometry.matrix
    matrix[:3, 3] = geometry.index_to_ras(np.array(box.lower))
    return Geometry.from_matrix(box.shape, matrix)


def _turned(reference: Geometry, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Geometry:
    """Return the geometry of an array after its axes were permuted and flipped."""
    shape = (reference.shape[axes[0]], reference.shape[axes[1]], reference.shape[axes[2]])
    index = np.zeros((4, 4))
    index[3, 3] = 1.0
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        index[2 - old, 2 - new] = -1.0 if flip else 1.0
        index[2 - old, 3] = reference.shape[old] - 1 if flip else 0.0
    return Geometry.from_matrix(shape, reference.matrix @ index)


def _spacing_for(geometry: Geometry) -> tuple[float, float, float]:
    slices, *in_plane = geometry.spacing
    rows, columns = (s if abs(s - _IN_PLANE_MM) <= _IN_PLANE_TOLERANCE else _IN_PLANE_MM for s in in_plane)
    return (slices if slices >= _FINEST_SLICES_MM else _IN_PLANE_MM), rows, columns


def _with_spacing(geometry: Geometry, spacing: tuple[float, float, float]) -> Geometry:
    """Return a grid over the same extent with other spacing (z, y, x); axes whose spacing stays are not touched."""
    if spacing == geometry.spacing:
        return geometry
    ratio = np.array(spacing) / np.array(geometry.spacing)
    shape = np.maximum(1, np.ceil(np.array(geometry.shape) / ratio - 1e-6)).astype(int)
    matrix = geometry.matrix
    matrix[:3, :3] *= ratio[::-1]
    # The middles of both extents coincide.
    middle = (np.array(geometry.shape) - 1) / 2 - ratio * (shape - 1) / 2
    matrix[:3, 3] = geometry.index_to_ras(middle)
    return Geometry.from_matrix((int(shape[0]), int(shape[1]), int(shape[2])), matrix)


def _axial_around(geometry: Geometry) -> Geometry:
    """Return an upright axial grid of 1 mm that holds the whole extent of a tilted one."""
    shape = np.array(geometry.shape)
    corners = np.array(list(itertools.product(*((-0.5, n - 0.5) for n in shape))))
    ras = geometry.index_to_ras(corners)
    low, high = ras.min(axis=0), ras.max(axis=0)
    size = np.ceil((high - low) / _IN_PLANE_MM - 1e-6).astype(int)
    matrix = np.diag([-_IN_PLANE_MM, -_IN_PLANE_MM, _IN_PLANE_MM, 1.0])
    start = (low + high) / 2 - matrix[:3, :3] @ (size - 1) / 2
    matrix[:3, 3] = start
    return Geometry.from_matrix((int(size[2]), int(size[1]), int(size[0])), matrix)


def _resample(array: np.ndarray, source: Geometry, target: Geometry, fill: float) -> np.ndarray:
    image = sitk.Resample(
        to_itk(array.astype(np.float32, copy=False), source),
        to_itk(np.zeros(target.shape, dtype=np.uint8), target),
        sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkLinear,
        fill,
        sitk.sitkFloat32,
    )
    return sitk.GetArrayFromImage(image)
