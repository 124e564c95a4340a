"""The panel with a real engine process: what the user sees when it starts, dies and comes back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from panel_tools import Panel, drag

from fakes import fake_case

for package in ("fastapi", "uvicorn", "httpx", "zstandard"):
    pytest.importorskip(package, reason=f"the engine process needs {package}")

_TESTING = Path(__file__).resolve().parents[1]


@pytest.fixture
def panel(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Panel]:
    path = os.pathsep.join([str(_TESTING), str(_TESTING / "service"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    engine = panel.widget.logic.engine
    # The real way into the engine, which `Panel` replaces for the other tests; only the model is made of thresholds.
    del engine.openSession
    engine._options = {"factory": "service_fakes:open_quick", "python": sys.executable}
    panel.controller._openSession = engine.openSession
    yield panel
    engine.close()


def test_a_case_is_segmented_in_a_process_of_its_own(panel):
    panel.choose(panel.addCase())
    panel.segment()
    assert panel.volume("ncr") > 0
    engine = panel.widget.logic.engine
    assert engine._local.pid != os.getpid()
    panel.widget._updateSections()
    assert panel.ui.engineStatusLabel.text == "The engine runs on this computer."
    assert panel.ui.restartEngineButton.enabled


def test_when_the_engine_dies_the_user_is_told_and_the_next_drag_brings_it_back(panel):
    panel.choose(panel.addCase())
    panel.segment()
    engine = panel.widget.logic.engine
    died, before = engine._local.pid, panel.volume("ncr")
    os.kill(died, signal.SIGKILL)
    panel.wait(lambda: not engine.running)
    drag(panel, "ncr", -4)
    panel.wait(lambda: panel.said or panel.volume("ncr") < before)
    if panel.said:
        assert panel.said.endswith(".")
        drag(panel, "ncr", -1)
    panel.wait(lambda: panel.volume("ncr") < before)
    assert engine._local.pid != died


def test_restart_engine_ends_the_process_and_keeps_the_segmentation(panel):
    panel.choose(panel.addCase())
    panel.segment()
    engine = panel.widget.logic.engine
    before, volume = engine._local.pid, panel.volume("ed")
    panel.widget._updateSections()
    panel.ui.restartEngineButton.click()
    panel.wait(lambda: not engine.running)
    assert panel.volume("ed") == volume
    drag(panel, "ncr", -4)
    panel.wait(lambda: engine.running and panel.controller.canUndo)
    assert engine._local.pid != before


def test_other_settings_are_used_by_segment_again_and_one_engine_is_left(panel):
    panel.choose(panel.addCase())
    panel.segment()
    engine = panel.widget.logic.engine
    before = engine._local
    pid = before.pid
    panel.ui.deviceComboBox.currentIndex = 1
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.ui.segmentButton.text == "Segment again")
    assert engine._local is not before
    assert engine._local.pid != pid
    assert not before.alive


def test_an_engine_that_an_open_case_brings_back_is_ended_with_the_others(panel, tmp_path):
    panel.choose(panel.addCase())
    panel.segment()
    engine, volume = panel.widget.logic.engine, panel.volume("ncr")
    working = engine._options
    engine._options = {"python": str(_TESTING / "no-such-python")}
    panel.ui.weightsPathLineEdit.currentPath = str(tmp_path / "another.safetensors")
    panel.ui.segmentButton.click()
    panel.wait(lambda: "cannot be started" in panel.said)
    drag(panel, "ncr", -4)
    panel.wait(lambda: panel.volume("ncr") < volume)
    assert engine.running
    engine._options = working
    engine.close()
    assert not engine.running


def test_restart_engine_ends_an_engine_that_hangs(panel):
    panel.choose(panel.addCase())
    panel.segment()
    engine = panel.widget.logic.engine
    pid, before = engine._local.pid, panel.volume("ncr")
    os.kill(pid, signal.SIGSTOP)
    drag(panel, "ncr", -4)
    panel.wait(lambda: panel.controller._jobs._running)
    panel.widget._updateSections()
    panel.ui.restartEngineButton.click()
    panel.wait(lambda: panel.said)
    assert panel.said.startswith("The connection to the engine broke")
    panel.wait(lambda: engine._local.pid != pid)
    drag(panel, "ncr", -4)
    panel.wait(lambda: panel.volume("ncr") < before)


def test_a_server_that_was_left_for_a_mistyped_one_still_answers_for_its_case(panel):
    from sofa_engine.errors import SofaError
    from sofa_engine.progress import CancelToken
    from sofa_service.launcher import LocalEngine
    from SOFASegmentQt.settings import EngineSettings

    link, (case, _) = panel.widget.logic.engine, fake_case()
    with LocalEngine(**link._options) as server:
        right = EngineSettings(url=server.url, token=server.token)
        link.configure(right)
        session = link.openSession(case, lambda _: None, CancelToken())
        session.first_pass()
        link.configure(EngineSettings(url=server.url, token="mistyped"))
        with pytest.raises(SofaError, match="token"):
            link.openSession(case, lambda _: None, CancelToken())
        link.configure(right)
        assert session.labels().any()
        link.close()
        with pytest.raises(SofaError, match="gone"):
            session.labels()


def test_an_engine_that_cannot_start_is_answered_with_a_sentence(panel):
    panel.widget.logic.engine._options = {"python": str(_TESTING / "no-such-python")}
    panel.choose(panel.addCase())
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.said)
    assert "cannot be started" in panel.said
    assert panel.ui.segmentButton.text == "Segment"
    assert panel.ui.segmentButton.enabled
