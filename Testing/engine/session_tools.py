"""What the tests of a session do with it and look at."""

from __future__ import annotations

import numpy as np

from fakes import FAKE_SATELLITE, FAKE_SHAPE
from sofa_engine.types import SUB_REGIONS, Box, Patch

NCR, ED, ET = SUB_REGIONS
WHOLE = Box((0, 0, 0), FAKE_SHAPE)
SATELLITE_BOX = Box(tuple(c - 6 for c in FAKE_SATELLITE), tuple(c + 7 for c in FAKE_SATELLITE))


def refine(session, sub_region, boxes, **options) -> list[Patch]:
    return list(session.refine(sub_region, boxes, **options))


def snapshot(session) -> tuple:
    """Everything that a user can see."""
    return (
        session.labels().tobytes(),
        session.probabilities().tobytes(),
        session.confidence().tobytes(),
        session.boxes(),
        session.uncertain_slices(),
    )


def only_box(session, sub_region) -> Box:
    (box,) = session.boxes()[sub_region]
    return box


def voxels(session, sub_region) -> np.ndarray:
    return session.labels() == sub_region.label


def outward(session, sub_region, by: int = 3) -> Box:
    return only_box(session, sub_region).grown((by, by, by), FAKE_SHAPE)


def inward(session, sub_region, by: int = 3) -> Box:
    box = only_box(session, sub_region)
    return Box(tuple(a + by for a in box.lower), tuple(b - by for b in box.upper))


def paint(session, extent: Box, label: int) -> None:
    session.edit(Patch(extent, np.full(extent.shape, label, np.uint8)))
