"""A realistic patient with a known truth: the ICBM152 brain with a synthetic glioma in it.

The tissue maps are the ICBM 152 nonlinear symmetric 2009a atlas (Fonov et al., NeuroImage 2011) that nilearn carries;
nothing is downloaded. The tumour is a necrotic core in an enhancing rim of uneven thickness, in oedema that spreads
along white matter; it pushes the tissue around it aside. Nothing of a real patient is in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from sofa_engine.case import Case
from sofa_engine.cropping import brain_box, uncrop
from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.types import MODALITIES, Box, Modality, SubRegion

#: The grid of BraTS: voxels (D, H, W) of 1 mm, axes pointing superior, posterior, left.
_SHAPE = (155, 240, 240)
_IJK_TO_RAS = np.array([[-1.0, 0, 0, 119.5], [0, -1.0, 0, 101.5], [0, 0, 1.0, -71.0], [0, 0, 0, 1.0]])

#: Signal of each tissue relative to white matter in T1: white matter, grey matter, CSF, NCR, ED, ET.
_SIGNAL = {
    Modality.T1: (1.00, 0.74, 0.30, 0.42, 0.70, 0.62),
    Modality.T1C: (0.86, 0.72, 0.27, 0.36, 0.62, 1.55),
    Modality.T2: (0.46, 0.66, 1.45, 1.20, 1.05, 0.88),
    Modality.FLAIR: (0.62, 0.80, 0.22, 0.66, 1.38, 1.12),
}
#: Full scale of each sequence, as different as scanners make them.
_SCALE = {Modality.T1: 620.0, Modality.T1C: 700.0, Modality.T2: 520.0, Modality.FLAIR: 410.0}
#: Blur of each sequence, mm (z, y, x): T2 and FLAIR are taken with thicker slices.
_BLUR = {
    Modality.T1: (0.4, 0.4, 0.4),
    Modality.T1C: (0.4, 0.4, 0.4),
    Modality.T2: (0.9, 0.4, 0.4),
    Modality.FLAIR: (0.9, 0.5, 0.5),
}
_NOISE = 0.02
_BIAS = 0.08


@dataclass(frozen=True)
class _Tissue:
    """Fractions of white matter, grey matter and CSF, float32 (D, H, W), and how deep in the brain a voxel lies, mm."""

    white: np.ndarray
    grey: np.ndarray
    fluid: np.ndarray
    depth: np.ndarray

    @property
    def brain(self) -> np.ndarray:
        """The voxels of the brain, bool."""
        return self.depth > 0


@dataclass(frozen=True)
class _Tumour:
    """Labels, uint8 (D, H, W), how wet its oedema is, 0 to 1, and the unevenness of all tissue, unit variance."""

    labels: np.ndarray
    wetness: np.ndarray
    mottle: np.ndarray
    patches: np.ndarray


def synthetic_case(seed: int = 0) -> tuple[Case, np.ndarray]:
    """Make a patient with a glioma.

    Args:
        seed: chooses place, size and shape of the tumour and the noise; the same seed gives the same patient.

    Returns:
        The case, four sequences of 155 x 240 x 240 voxels of 1 mm, and its true labels, uint8 (D, H, W), values of
        `SubRegion.label` and 0.

    Raises:
        InputError: nilearn, which carries the atlas, is not installed.
    """
    rng = np.random.default_rng(seed)
    healthy, box = _atlas()
    centre, radius = _place(healthy, rng)
    tissue = _pushed_aside(healthy, centre, radius)
    tumour = _tumour(tissue, centre, radius, rng)
    images = {m: uncrop(_image(m, tissue, tumour, rng), box, _SHAPE) for m in MODALITIES}
    geometry = Geometry.from_matrix(_SHAPE, _IJK_TO_RAS)
    sources = dict.fromkeys(MODALITIES, "synthetic glioma in the ICBM152 atlas")
    return Case(images, geometry, f"synthetic-{seed}", sources), uncrop(tumour.labels, box, _SHAPE)


def _atlas() -> tuple[_Tissue, Box]:
    """Return the atlas' tissue inside the brain's box of the BraTS grid, and that box."""
    try:
        from nilearn import datasets  # noqa: PLC0415 (an optional package, slow to import)
    except ImportError as error:
        raise InputError(
            "The synthetic case needs the atlas in the nilearn package; install it with: pip install nilearn"
        ) from error
    brain_image = datasets.load_mni152_brain_mask(resolution=1)
    maps = [datasets.load_mni152_wm_template(resolution=1), datasets.load_mni152_gm_template(resolution=1)]
    target = Geometry.from_matrix(_SHAPE, _IJK_TO_RAS)
    # Both grids are 1 mm and upright: whole voxels and flips, nothing to interpolate.
    index = np.rint(np.linalg.inv(brain_image.affine) @ target.matrix)
    brain, white, grey = (
        ndimage.affine_transform(
            np.asarray(image.dataobj, dtype=np.float32), index[:3, :3], index[:3, 3], _SHAPE[::-1], order=0
        ).T
        for image in (brain_image, *maps)
    )
    box = brain_box(brain > 0)
    brain = brain[box.slices] > 0
    white, grey = (np.clip(part[box.slices] / part.max(), 0, 1) for part in (white, grey))
    fluid = np.clip(1 - white - grey, 0, 1)
    # The atlas averages 152 people; squaring the fractions gives back some of one person's sharpness.
    parts = [part**2 * brain for part in (white, grey, fluid)]
    total = np.maximum(sum(parts), 1e-6)
    depth = _depth_in(brain)
    white, grey, fluid = (part / total for part in parts)
    return _Tissue(white, grey, fluid, depth), box


def _place(tissue: _Tissue, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Choose the tumour's centre (z, y, x), in white matter of one hemisphere, and its core's radius, both in mm."""
    depth, height, width = tissue.depth.shape
    z, y, x = np.ogrid[:depth, :height, :width]
    lateral = np.abs(x - width / 2) > 0.17 * width
    level = (z > 0.5 * depth) & (z < 0.72 * depth) & (y > 0.22 * height) & (y < 0.75 * height)
    candidates = np.argwhere((tissue.white > 0.7) & (tissue.depth > 22) & lateral & level)
    return candidates[rng.integers(len(candidates))].astype(np.float32), float(rng.uniform(15, 20))


def _pushed_aside(tissue: _Tissue, centre: np.ndarray, radius: float) -> _Tissue:
    """Return the tissue displaced away from the tumour, most at its border and not at all at the skull."""
    around = Box(
        tuple(int(v) for v in np.maximum(centre - 4 * radius, 0)),  # type: ignore[arg-type]
        tuple(int(v) for v in np.minimum(centre + 4 * radius, tissue.depth.shape)),  # type: ignore[arg-type]
    )
    here = np.indices(around.shape, dtype=np.float32)
    offset = [g - (c - low) for g, c, low in zip(here, centre, around.lower, strict=True)]
    distance = np.sqrt(sum(o**2 for o in offset)) + 1e-3
    push = 0.4 * radius * np.exp(-((distance / (1.7 * radius)) ** 2)) * np.minimum(tissue.depth[around.slices] / 12, 1)
    coordinates = [g - push * o / distance for g, o in zip(here, offset, strict=True)]
    moved = []
    for part in (tissue.white, tissue.grey, tissue.fluid):
        pushed = part.copy()
        pushed[around.slices] = ndimage.map_coordinates(part[around.slices], coordinates, order=1, mode="nearest")
        moved.append(pushed)
    return _Tissue(moved[0], moved[1], moved[2], tissue.depth)


def _tumour(tissue: _Tissue, centre: np.ndarray, radius: float, rng: np.random.Generator) -> _Tumour:
    shape = tissue.depth.shape
    grid = np.ogrid[: shape[0], : shape[1], : shape[2]]
    stretch = rng.uniform(0.8, 1.25, 3)
    distance = np.sqrt(sum(((grid[axis] - centre[axis]) / stretch[axis]) ** 2 for axis in range(3)))
    allowed = (tissue.depth > 3) & (tissue.fluid < 0.6)
    lobes = 3.5 * _smooth_noise(shape, 7, rng) + 1.2 * _smooth_noise(shape, 2.5, rng)
    core = _largest((distance + lobes < radius) & allowed)
    # The rim's thickness wanders between one and eight millimetres.
    depth = _depth_in(core)
    thickness = np.clip(4.0 + 2.2 * _smooth_noise(shape, 6, rng) + 0.8 * _smooth_noise(shape, 2, rng), 1.2, 9.0)
    necrosis = core & (depth > thickness)
    # Oedema creeps along white matter, hardly into the cortex, and not through fluid.
    speed = (0.02 + tissue.white**2 + 0.10 * tissue.grey) * allowed * np.exp(0.45 * _smooth_noise(shape, 5, rng))
    arrival = _arrival(core, speed.astype(np.float32))
    oedema = _largest(core | ((arrival < rng.uniform(13, 20)) & allowed & (tissue.white + 0.3 * tissue.grey > 0.25)))
    oedema = ndimage.binary_opening(oedema, iterations=1) | core
    labels = np.zeros(shape, dtype=np.uint8)
    labels[oedema] = SubRegion.ED.label
    labels[core] = SubRegion.ET.label
    labels[necrosis] = SubRegion.NCR.label
    mottle, patches = _smooth_noise(shape, 2.0, rng), _smooth_noise(shape, 6.0, rng)
    # Oedema is a matter of degree: it fades towards its border and lets the tissue shine through.
    fade = np.minimum(_depth_in(oedema) / 5, 1)
    wetness = np.where(labels == SubRegion.ED.label, 0.45 + 0.5 * fade + 0.06 * patches, 0)
    return _Tumour(labels, wetness, mottle, patches)


def _arrival(start: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Return when a front that leaves `start` reaches each voxel (fast marching)."""
    seeds = np.argwhere(start & ~ndimage.binary_erosion(start))
    march = sitk.FastMarchingImageFilter()
    march.SetTrialPoints([tuple(int(v) for v in seed[::-1]) for seed in seeds])
    march.SetStoppingValue(40.0)
    return sitk.GetArrayFromImage(march.Execute(sitk.GetImageFromArray(speed)))


def _image(modality: Modality, tissue: _Tissue, tumour: _Tumour, rng: np.random.Generator) -> np.ndarray:
    """Return one sequence, float32 (D, H, W): signal, partial volume, coil shading, Rician noise."""
    white, grey, fluid, ncr, ed, et = _SIGNAL[modality]
    signal = white * tissue.white + grey * tissue.grey + fluid * tissue.fluid
    signal = signal * (1 - tumour.wetness) + ed * tumour.wetness
    for sub_region, value, spread in ((SubRegion.NCR, ncr, 0.12), (SubRegion.ET, et, 0.10)):
        inside = tumour.labels == sub_region.label
        signal[inside] = value * (1 + spread * (tumour.patches[inside] + 0.6 * tumour.mottle[inside]))
    signal *= 1 + 0.02 * tumour.mottle + 0.015 * tumour.patches
    signal = ndimage.gaussian_filter(np.maximum(signal, 0.05), _BLUR[modality])
    signal *= np.exp(_BIAS * _smooth_noise(signal.shape, 45, rng))
    real, imaginary = _NOISE * rng.standard_normal((2, *signal.shape), dtype=np.float32)
    magnitude = np.hypot(signal + real, imaginary)
    return (np.maximum(np.rint(_SCALE[modality] * magnitude), 1) * tissue.brain).astype(np.float32)


def _depth_in(mask: np.ndarray) -> np.ndarray:
    """Return how many voxels deep in the mask each voxel lies, 1 at its border and 0 outside, float32."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False)
    return np.where(mask, sitk.GetArrayFromImage(distance) + 1, 0).astype(np.float32)


def _smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random field of unit variance whose features are about `sigma` voxels wide, float32."""
    step = max(1, int(sigma / 2))
    coarse = rng.standard_normal([n // step + 3 for n in shape]).astype(np.float32)
    coarse = ndimage.gaussian_filter(coarse, sigma / step, mode="wrap")
    field = sitk.GetImageFromArray(coarse)
    fine = sitk.GetArrayFromImage(
        sitk.Resample(field, shape[::-1], sitk.Transform(), sitk.sitkLinear, (0, 0, 0), (1 / step,) * 3)
    )
    return (fine - fine.mean()) / fine.std()


def _largest(mask: np.ndarray) -> np.ndarray:
    components, count = ndimage.label(mask)
    if count < 2:
        return mask
    return components == 1 + int(np.argmax(np.bincount(components.ravel())[1:]))
