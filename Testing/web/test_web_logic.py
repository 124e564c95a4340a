"""What the page's logic does with news that a browser can hardly be made to bring in time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sofa_engine.errors import SofaError
from sofa_engine.progress import Progress
from sofa_web.logic.case import CaseLogic
from sofa_web.logic.segment import SegmentLogic
from SOFASegmentLib.controller import Phase
from SOFASegmentLib.signals import Signal


class State(SimpleNamespace):
    """The page's state."""

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def controller() -> SimpleNamespace:
    signals = {f"{name}Changed": Signal() for name in ("phase", "progress", "history")}
    more = {"failed": Signal(), "warned": Signal(), "model": None, "canUndo": False, "canRedo": False}
    return SimpleNamespace(phase=Phase.IDLE, **signals, **more)


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run on a thread of its own: a browser of the same test process has a loop on this one."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


@pytest.fixture
def workspace() -> SimpleNamespace:
    opened: list[Path] = []
    return SimpleNamespace(
        controller=controller(),
        opened=Signal(),
        chosen=Signal(),
        work=SimpleNamespace(lostByLeaving=lambda: ""),
        folders=opened,
        open_case=lambda folder, _title: opened.append(folder),
    )


def test_work_that_was_done_while_an_upload_came_is_not_lost_unless_the_user_had_agreed(workspace):
    question = SimpleNamespace(may_upload=lambda loss: not loss)
    case = CaseLogic(SimpleNamespace(state=State(opening=False)), workspace, None, question)
    assert case.may_upload()
    workspace.work.lostByLeaving = lambda: "A box was dragged."
    with pytest.raises(SofaError, match="changed while the files came; export it"):
        finish(case.open_uploaded(Path("first")))
    assert not case.may_upload()  # the page asks, and sends the files after a yes
    finish(case.open_uploaded(Path("second")))
    assert workspace.folders == [Path("second")]


def test_progress_of_a_case_that_was_closed_does_not_show_on_the_next(workspace):
    state = State(notices=[])
    SegmentLogic(SimpleNamespace(state=state), workspace, SimpleNamespace())
    before, workspace.controller = workspace.controller, controller()
    workspace.opened.emit(())
    before.progressChanged.emit(Progress("Refining", 0.5))
    assert not state.working
    workspace.controller.progressChanged.emit(Progress("Refining", 0.5))
    assert state.working
