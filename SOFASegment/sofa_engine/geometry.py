"""Where voxels are: the only place that converts between index, LPS and RAS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sofa_engine.types import Box

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Geometry:
    """Grid of a volume.

    Attributes:
        shape: voxels (D, H, W).
        ijk_to_ras: 4x4 float64, from voxel index (i, j, k) = (x, y, z) to RAS millimetres. Voxel centres are whole
            indices, so voxel i reaches from i - 0.5 to i + 0.5.
    """

    shape: tuple[int, int, int]
    ijk_to_ras: tuple[tuple[float, float, float, float], ...]

    @staticmethod
    def from_matrix(shape: tuple[int, int, int], ijk_to_ras: np.ndarray) -> Geometry:
        """Build from a 4x4 array (index (i, j, k) to RAS mm)."""
        matrix = np.asarray(ijk_to_ras, dtype=np.float64)
        return Geometry(
            tuple(int(n) for n in shape),  # type: ignore[arg-type]
            tuple(tuple(float(v) for v in row) for row in matrix),  # type: ignore[misc]
        )

    @property
    def matrix(self) -> np.ndarray:
        """Return `ijk_to_ras` as a (4, 4) float64 array."""
        return np.array(self.ijk_to_ras, dtype=np.float64)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Return mm between voxel centres, in array order (z, y, x)."""
        lengths = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(lengths[2]), float(lengths[1]), float(lengths[0])

    @property
    def voxel_ml(self) -> float:
        """Return the volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.matrix[:3, :3]))) / 1000.0

    @property
    def lps_matrix(self) -> np.ndarray:
        """Return the 4x4 from (i, j, k) to LPS mm, which is what ITK stores."""
        return _LPS_TO_RAS @ self.matrix

    def index_to_ras(self, zyx: np.ndarray) -> np.ndarray:
        """Map continuous indices (..., 3) in (z, y, x) order to RAS mm (..., 3)."""
        ijk = np.asarray(zyx, dtype=np.float64)[..., ::-1]
        return ijk @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def ras_to_index(self, ras: np.ndarray) -> np.ndarray:
        """Map RAS mm (..., 3) to continuous indices (..., 3) in (z, y, x) order."""
        inverse = np.linalg.inv(self.matrix)
        ijk = np.asarray(ras, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
        return ijk[..., ::-1]

    def box_corners_ras(self, box: Box) -> np.ndarray:
        """Return the 8 corners of the box's outer surface (half a voxel beyond the centres), (8, 3) RAS mm."""
        lower = np.array(box.lower, dtype=np.float64) - 0.5
        upper = np.array(box.upper, dtype=np.float64) - 0.5
        bounds = np.stack([lower, upper])
        picks = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3)
        return self.index_to_ras(bounds[picks, np.arange(3)])

    def box_from_corners_ras(self, corners: np.ndarray) -> Box | None:
        """Return the box of the voxels that 8 corners (8, 3) in RAS mm hold, or None if it misses the volume.

        All eight corners are used, so a rotated or flipped box is enclosed. A face is snapped to the nearest voxel
        border, and a box thinner than a voxel keeps the one voxel in its middle.
        """
        index = self.ras_to_index(np.asarray(corners, dtype=np.float64).reshape(-1, 3))
        low, high = index.min(axis=0) + 0.5, index.max(axis=0) + 0.5
        lower, upper = np.rint(low).astype(int), np.rint(high).astype(int)
        thin = upper <= lower
        middle = np.floor((low + high) / 2).astype(int)
        lower, upper = np.where(thin, middle, lower), np.where(thin, middle + 1, upper)
        lower, upper = np.maximum(lower, 0), np.minimum(upper, self.shape)
        if np.any(upper <= lower):
            return None
        z, y, x = (int(v) for v in lower)
        end_z, end_y, end_x = (int(v) for v in upper)
        return Box((z, y, x), (end_z, end_y, end_x))

    def same_grid(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same voxels: equal shape, and corners no further apart than the tolerance."""
        if self.shape != other.shape:
            return False
        whole = Box((0, 0, 0), self.shape)
        return bool(np.abs(self.box_corners_ras(whole) - other.box_corners_ras(whole)).max() <= tolerance_mm)
