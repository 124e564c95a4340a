"""The Segment button, its progress, undo and redo, and what the controller has to say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from sofa_engine.progress import Progress
from SOFASegmentLib.controller import Phase, SegmentController

if TYPE_CHECKING:
    from trame_server import Server

    from sofa_web.logic.question import QuestionLogic
    from sofa_web.workspace import Workspace


class SegmentLogic:
    """Runs the first pass and shows how far it is."""

    def __init__(self, server: Server, workspace: Workspace, question: QuestionLogic) -> None:
        self._state = server.state
        self._workspace = workspace
        self._question = question
        workspace.opened.connect(self._follow)
        self._follow(())

    async def segment_or_cancel(self) -> None:
        """Do what the button says; ask first where that would undo somebody's work."""
        controller = self._workspace.controller
        if controller.phase is Phase.RUNNING:
            self._state.stage = "Cancelling"
            controller.cancel()
        elif self._state.grid_fits and not self._state.opening:
            work, live = self._workspace.work, controller.live
            loss = work.lostBySegmenting()
            # This page has no Continue: what is shown now would be out of reach behind another study's result.
            if not loss and live is not None and controller.state.chosenSegmentation() is not live.segmentationNode:
                loss = work.lostByLeaving()
            await self._question.ask_before(loss, "Segment again?", "Segment again", self._segment)

    async def _segment(self) -> None:
        with self._state:
            self._state.failure, self._state.notices = "", []
            self._state.phase, self._state.stage = Phase.RUNNING.value, "Reading the volumes"
        # The voxels are copied first, on this thread: let the page say so before.
        await asyncio.sleep(0.05)
        controller = self._workspace.controller
        controller.segment()
        self._state.phase = controller.phase.value

    def undo(self) -> None:
        """Take back the last change."""
        if self._workspace.controller.canUndo:
            self._workspace.controller.undo()

    def redo(self) -> None:
        """Repeat what was taken back."""
        if self._workspace.controller.canRedo:
            self._workspace.controller.redo()

    def _follow(self, _notes: tuple[str, ...]) -> None:
        controller = self._workspace.controller
        for signal, told in (
            (controller.phaseChanged, self._on_phase),
            (controller.progressChanged, self._on_progress),
            (controller.historyChanged, self._on_history),
            (controller.failed, self._on_failed),
            (controller.warned, self._on_warned),
        ):
            signal.connect(self._while_open(controller, told))
        self._on_phase(controller.phase)
        self._on_history()

    def _while_open(self, controller: SegmentController, told: Callable[..., None]) -> Callable[..., None]:
        """Return what passes on what a controller tells, but nothing of a case that has been closed meanwhile."""

        def pass_on(*news: object) -> None:
            if controller is self._workspace.controller:
                told(*news)

        return pass_on

    def _on_phase(self, phase: Phase) -> None:
        state, controller = self._state, self._workspace.controller
        state.phase = phase.value
        state.stage = "Starting" if phase is Phase.RUNNING else ""
        state.fraction = 0.0
        model = controller.model
        state.model = "" if model is None else f"{model.name} on {model.device}"
        if model is not None and not model.trained:
            state.notices = ["This model is not trained: its answers mean nothing."]
        if phase is Phase.READY:
            controller.showTumour()

    def _on_progress(self, progress: Progress) -> None:
        self._state.stage = _stage_text(progress)
        self._state.fraction = round(100 * progress.fraction, 1)
        self._state.working = progress.fraction < 1

    def _on_history(self) -> None:
        controller = self._workspace.controller
        self._state.can_undo = controller.canUndo
        self._state.can_redo = controller.canRedo
        self._state.working = False

    def _on_failed(self, sentence: str) -> None:
        self._state.failure = sentence
        self._state.working = False

    def _on_warned(self, sentence: str) -> None:
        if sentence not in self._state.notices:
            self._state.notices = [*self._state.notices, sentence]


def _stage_text(progress: Progress) -> str:
    if progress.remaining_s is None:
        return progress.stage
    seconds = max(1, round(progress.remaining_s))
    return f"{progress.stage} · about {f'{seconds} s' if seconds < 60 else f'{round(seconds / 60)} min'} left"
