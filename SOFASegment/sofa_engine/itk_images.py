"""Between the engine's arrays and SimpleITK images."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from sofa_engine.geometry import Geometry


def to_itk(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """Return (D, H, W) voxels as an image on `geometry`. A sheared grid keeps its shear."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    matrix = geometry.lps_matrix
    spacing = np.array(geometry.spacing[::-1])
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    return image


def geometry_of(image: sitk.Image) -> Geometry:
    """Return the grid of a three-dimensional image."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return Geometry.from_matrix(image.GetSize()[::-1], np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)
