"""The self test that users and Slicer's dashboard run, on the stand-in of Slicer's application."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from panel_tools import Panel

for package in ("torch", "timm", "segment_anything", "fastapi", "uvicorn", "zstandard"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"a real engine with a network needs {package}", allow_module_level=True)


def test_the_modules_own_self_test_passes(slicer_stand_in):
    Panel(slicer_stand_in)
    sys.modules["SOFASegment"].SOFASegmentTest().runTest()
