"""The five regions that every table reports, as masks of a label map."""

from __future__ import annotations

import numpy as np

from sofa_engine.types import COMPOSITES, SUB_REGIONS, SubRegion

#: Names of the reported regions, in the order of the tables: the model's three, then the unions of BraTS.
REGIONS: tuple[str, ...] = ("NCR", "ED", "ET", "WT", "TC")

_PARTS: dict[str, tuple[SubRegion, ...]] = {r.value.upper(): (r,) for r in SUB_REGIONS} | COMPOSITES


def region_mask(labels: np.ndarray, region: str) -> np.ndarray:
    """Return where a label map shows a region.

    Args:
        labels: (D, H, W), values of `SubRegion.label` and 0.
        region: one of `REGIONS`.

    Returns:
        bool (D, H, W).
    """
    first, *others = (labels == part.label for part in _PARTS[region])  # three times as fast as np.isin
    for mask in others:
        first |= mask
    return first


def sub_region_masks(labels: np.ndarray) -> np.ndarray:
    """Return the one-vs-all masks of a label map (section 3.4).

    Args:
        labels: (...), values of `SubRegion.label` and 0.

    Returns:
        bool (3, ...), order of `SUB_REGIONS`.
    """
    return np.stack([labels == sub_region.label for sub_region in SUB_REGIONS])
