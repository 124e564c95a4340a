"""What holds for gliomas in general, where three one-vs-all answers contradict each other or leave a voxel to nobody.

The rules and their figures are read off expert masks alone, those of 19 adult gliomas (BraTS 2021). Ten of them hold
more than 3 ml of enhancing tumour; in nine of these, 81 to 100 % of the necrotic core lies inside the slice-wise
outline of the enhancing rim, in one it is 45 %. What the rim encloses in a slice is core wherever it is not enhancing
itself, in 99 of 100 voxels. Tumours that hardly enhance keep their core wherever the network sees it. What a tumour
encloses in a slice without its being tumour is at most 0.8 % of its volume, and no part that lies apart from the
largest one holds more than 1 % of that.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from sofa_engine.combine import combine
from sofa_engine.types import Box, SubRegion

#: A voxel is tumour where the probabilities of its parts add up to this share of tau. The overlap (Dice) that
#: calibrated probabilities reach is largest when they are cut at half of that overlap (Lipton et al. 2014, Thresholding
#: classifiers to maximize F1 score), and whole tumours are found with a Dice of about 0.8: 0.4 instead of 0.5.
_TUMOUR = 0.8
#: Necrotic core is believed where it is at least half as likely as the likeliest part. Core that does not enhance looks
#: like oedema, and a network that has seen few of them calls it that: in ten cases that it had not been trained on,
#: 20 ml less core and 39 ml more oedema were found on average than experts drew.
_FAVOUR = 2.0
#: What such a voxel's likeliest part gets at least, above tau.
_JUST = 0.01
#: From this volume on, in mm3, enhancing tumour is a rim that holds the necrotic core.
_RIM_MM3 = 3000.0
#: A rim with gaps of up to about this, in mm, is as good as closed (twice as wide where it is thick).
_GAP_MM = 8.0
#: Probability of core where the rim encloses it.
_ENCLOSED = 0.9
#: Oedema without any core that holds less than this share of the largest part is something else that is bright.
_LONE = 0.05

_NCR, _ED, _ET = SubRegion.NCR.index, SubRegion.ED.index, SubRegion.ET.index


def settle(probabilities: np.ndarray, present: np.ndarray, spacing: tuple[float, float, float], tau: float) -> None:
    """Change the answer of a first pass in place.

    - A voxel that is tumour, and core about as likely as oedema, is core.
    - A voxel that is tumour, but no sub-region alone is likely, goes to the likeliest: the three are exclusive, so
      their probabilities add up.
    - What the enhancing rim encloses in a slice is necrotic core.
    - Where there is a rim, necrotic core outside it is oedema: outside in the slice and in both planes across it, for
      a rim may be open in one of them.
    - A small part of nothing but oedema that lies apart is no tumour.
    - What the tumour encloses in a slice is tumour, and oedema if it is nothing else.

    Args:
        probabilities: float (3, D, H, W), order of `SUB_REGIONS`.
        present: bool (3, D), slices in which a sub-region was found; its probability elsewhere is a doubt and adds up
            to nothing.
        spacing: mm between voxels (z, y, x).
        tau: threshold of `combine`.
    """
    doubtful = _doubtful_core(probabilities, present, tau)
    _share_out(probabilities, present, tau)
    enhancing = combine(probabilities, tau) == SubRegion.ET.label
    voxel_mm3 = float(np.prod(spacing))
    has_rim = np.count_nonzero(enhancing) * voxel_mm3 >= _RIM_MM3
    core, oedema = probabilities[_NCR], probabilities[_ED]
    enclosed = holes(enhancing)
    core[enclosed] = np.maximum(np.maximum(core, oedema)[enclosed], core.dtype.type(_ENCLOSED))
    if has_rim:
        inside = _inside(enhancing, spacing)
        outside = (core > tau) & ~inside
        oedema[outside] = np.maximum(oedema, core)[outside]
        core[outside] = core.dtype.type(tau)
        # Where core cannot be, oedema is not doubted either.
        doubtful &= inside
    core[doubtful] = np.maximum(core, oedema)[doubtful]
    fill(core, doubtful, tau)
    oedema[doubtful] = np.minimum(oedema, oedema.dtype.type(tau))[doubtful]
    found = probabilities > tau
    tumour = np.any(found, axis=0)
    lone = _lone_oedema(tumour, found[_NCR] | found[_ET])
    probabilities[:, lone] = np.minimum(probabilities[:, lone], probabilities.dtype.type(tau))
    fill(oedema, holes(tumour & ~lone), tau)


def holes(tumour: np.ndarray) -> np.ndarray:
    """Return what a tumour encloses in each slice without being part of it, bool (D, H, W)."""
    enclosed = np.zeros_like(tumour)
    for z in np.flatnonzero(tumour.any(axis=(1, 2))):
        # Four times as fast as filling, which counts in a drag.
        gaps, count = ndimage.label(~tumour[z])
        closed = np.ones(count + 1, dtype=bool)
        closed[[0, *gaps[0], *gaps[-1], *gaps[:, 0], *gaps[:, -1]]] = False
        enclosed[z] = closed[gaps]
    return enclosed


def fill(probabilities: np.ndarray, where: np.ndarray, tau: float) -> None:
    """Make a sub-region just likely enough to be present there, in place; where it is likelier already, it stays so."""
    probabilities[where] = np.maximum(probabilities[where], probabilities.dtype.type(tau + _JUST))


def _lone_oedema(tumour: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Return the voxels of small parts of a tumour that hold no core; all are bool (D, H, W)."""
    parts, count = ndimage.label(tumour, structure=np.ones((3, 3, 3)))
    if count < 2:
        return np.zeros(tumour.shape, dtype=bool)
    size = np.bincount(parts.ravel())
    size[0] = 0
    has_core = np.zeros(count + 1, dtype=bool)
    has_core[parts[core]] = True
    small = (size < _LONE * size.max()) & ~has_core
    small[0] = False
    return small[parts]


def _doubtful_core(probabilities: np.ndarray, present: np.ndarray, tau: float) -> np.ndarray:
    """Return the voxels of a tumour where oedema is likelier than core, but not by much, bool (D, H, W)."""
    doubtful = np.zeros(probabilities.shape[1:], dtype=bool)
    for z in np.flatnonzero(present.any(axis=0)):
        core, oedema, enhancing = parts = probabilities[:, z].astype(np.float32)
        doubtful[z] = (oedema >= core) & (_FAVOUR * core > np.maximum(oedema, enhancing))
        doubtful[z] &= np.sum(parts * present[:, z, None, None], axis=0) > _TUMOUR * tau
    return doubtful


def _share_out(probabilities: np.ndarray, present: np.ndarray, tau: float) -> None:
    """Give the likeliest sub-region all of the probability where a voxel is tumour and no part alone exceeds `tau`."""
    for z in np.flatnonzero(present.any(axis=0)):
        found = probabilities[:, z] * present[:, z, None, None]
        total = found.sum(axis=0, dtype=np.float32)
        rows, columns = np.nonzero((total > _TUMOUR * tau) & (probabilities[:, z].max(axis=0) <= tau))
        winner = found[:, rows, columns].argmax(axis=0)
        probabilities[winner, z, rows, columns] = np.clip(total[rows, columns], tau + _JUST, 1)


def _inside(rim: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Return what lies inside a rim, its small gaps closed, in any of the three planes, bool (D, H, W)."""
    outlined = np.zeros_like(rim)
    box = Box.of_mask(rim)
    if box is None:
        return outlined
    # All of it lies in the rim's box; the margin keeps the box's own border from counting as rim.
    margin = [(math.ceil(_GAP_MM / s) + 1,) * 2 for s in spacing]
    closed = _closed(np.pad(rim[box.slices], margin), spacing)
    inside = closed.copy()
    for axis in range(3):
        across = np.moveaxis(inside, axis, 0)
        for found, plane in zip(across, np.moveaxis(closed, axis, 0), strict=True):
            np.logical_or(found, ndimage.binary_fill_holes(plane), out=found)
    inner = tuple(slice(before, before + n) for (before, _), n in zip(margin, box.shape, strict=True))
    outlined[box.slices] = _closed(inside, spacing)[inner]
    return outlined


def _closed(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Return a mask closed by a ball of `_GAP_MM`."""
    grown = ndimage.distance_transform_edt(~mask, sampling=spacing) <= _GAP_MM
    return mask | (ndimage.distance_transform_edt(grown, sampling=spacing) > _GAP_MM)
