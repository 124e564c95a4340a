"""What tests of a real engine process share."""

from __future__ import annotations

import os
import time
from pathlib import Path

import sofa_service
from sofa_engine.types import SubRegion


def until(condition, seconds=20.0):
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return True


def environment(**more):
    """Return what a child needs to find the package and the fakes."""
    package = Path(sofa_service.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ["PYTHONPATH"]]), **more}


def drag(session, by=3):
    (box,) = session.boxes()[SubRegion.ET]
    return list(session.refine(SubRegion.ET, [box.grown((0, by, by), session.geometry.shape)]))
