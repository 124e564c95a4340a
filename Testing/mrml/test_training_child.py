"""A training's process is known again, also when the computer's clock is set meanwhile."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from SOFATrainingLib.child import Child


def test_setting_the_clock_hides_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    child = Child.start(["-c", "import time; time.sleep(600)"], tmp_path / "out.txt", tmp_path / "note.json")
    born = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: born(process) + 60)
    found = Child.find(tmp_path / "note.json", tmp_path / "out.txt")
    assert found is not None
    assert found.running
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: born(process) + 86400)
    assert Child.find(tmp_path / "note.json", tmp_path / "out.txt") is None
    child.end()
    assert not child.running
