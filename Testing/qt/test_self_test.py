"""The self test that users and Slicer's dashboard run, on the stand-in of Slicer's application."""

from __future__ import annotations

import sys

import pytest
from panel_tools import Panel


def test_the_modules_own_self_test_passes(slicer_stand_in):
    Panel(slicer_stand_in)
    from SOFASegmentQt.self_test import missingPackages

    missing = missingPackages()
    if missing:
        pytest.skip(f"a real engine with a network needs {', '.join(missing)}")
    sys.modules["SOFASegment"].SOFASegmentTest().runTest()


def test_the_self_test_says_what_is_missing_instead_of_failing(slicer_stand_in, monkeypatch):
    Panel(slicer_stand_in)
    from SOFASegmentQt import self_test

    monkeypatch.setattr(self_test, "isInstalled", lambda name: name not in {"torch", "httpx"})
    assert self_test.missingPackages() == ["torch", "httpx"]
    said = []
    test = sys.modules["SOFASegment"].SOFASegmentTest()
    test.delayDisplay = said.append
    test.runTest()
    assert said == ["Test skipped: not installed are torch, httpx; press Segment once to get them"]
