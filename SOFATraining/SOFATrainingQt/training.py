"""The section with Start, Pause, Resume and Stop; how far it is, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from SOFASegmentQt.segment import stageText
from SOFATrainingLib.controller import Phase

if TYPE_CHECKING:
    from sofa_engine.progress import Progress
    from SOFATrainingLib.controller import TrainingController


class TrainingSection:
    """The two buttons, the progress bar and the line for messages."""

    def __init__(
        self, ui: object, controller: TrainingController, prepare: Callable[[], bool], changed: Callable[[], None]
    ) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            controller: of the training.
            prepare: makes sure that a training can be started; False where the user declined.
            changed: called when the phase has changed, so that other sections follow.
        """
        self._ui, self._controller, self._prepare, self._changed = ui, controller, prepare, changed
        ui.startButton.connect("clicked()", self.onStart)
        ui.stopButton.connect("clicked()", self.onStop)
        controller.phaseChanged.connect(self._onPhase)
        controller.progressChanged.connect(self._onProgress)
        controller.warned.connect(self.tell)
        controller.failed.connect(self.tell)
        self.tell("")
        self.update()

    def close(self) -> None:
        """Stop listening."""
        self._controller.phaseChanged.disconnect(self._onPhase)
        self._controller.progressChanged.disconnect(self._onProgress)
        self._controller.warned.disconnect(self.tell)
        self._controller.failed.disconnect(self.tell)

    def tell(self, sentence: str) -> None:
        """Show one sentence; an empty one clears the line."""
        self._ui.messageLabel.text = sentence
        self._ui.messageLabel.visible = bool(sentence)

    def update(self) -> None:
        """Show what the buttons do now."""
        controller, phase = self._controller, self._controller.phase
        start, stop = self._ui.startButton, self._ui.stopButton
        if controller.resumable:
            start.text, start.toolTip = _("Resume"), _("Go on exactly where the run was interrupted")
        elif controller.training:
            start.text = _("Pause")
            start.toolTip = _("Write a checkpoint and free the memory; Resume goes on as if nothing had happened")
        else:
            start.text = _("Start training")
            start.toolTip = _("Check the cases, prepare them, and train on all that can be used")
        chosen = controller.state is not None and controller.state.dataset is not None
        start.enabled = phase is Phase.TRAINING or controller.resumable or (chosen and not controller.busy)
        stop.enabled = controller.busy or controller.resumable
        stop.toolTip = _("End the run; what was learned so far stays and can be used")
        editable = controller.state is not None and not controller.busy and not controller.resumable
        for name in (
            "startWeightsPathLineEdit",
            "partComboBox",
            "epochsSpinBox",
            "configurationPathLineEdit",
            "resultsPathLineEdit",
        ):
            getattr(self._ui, name).enabled = editable
        self._ui.progressFrame.visible = controller.busy or controller.resumable

    def onStart(self) -> None:
        """Start, pause or resume."""
        controller = self._controller
        if controller.phase is Phase.TRAINING:
            controller.pause()
            return
        self.tell("")
        if self._prepare():
            controller.resume() if controller.resumable else controller.start()

    def onStop(self) -> None:
        """End the run, after asking where it is worth asking."""
        controller = self._controller
        if controller.phase is Phase.TRAINING and not slicer.util.confirmOkCancelDisplay(
            _("Stop the training? What was learned so far stays and can be used."), _("Stop training")
        ):
            return
        controller.stop()

    def _onPhase(self, phase: Phase) -> None:
        ui = self._ui
        if phase is Phase.PAUSED:
            run = self._controller.run
            progress = run.status.progress
            ui.progressBar.value = round(1000 * progress.fraction)
            ui.stageLabel.text = _("Paused · {stage}").format(stage=progress.stage)
        elif phase is Phase.STOPPING:
            ui.stageLabel.text = _("Writing a checkpoint…")
        elif not self._controller.busy:
            ui.progressBar.value, ui.stageLabel.text = 0, ""
        self._changed()

    def _onProgress(self, progress: Progress) -> None:
        if self._controller.phase is not Phase.STOPPING:
            self._ui.progressBar.value = round(1000 * progress.fraction)
            self._ui.stageLabel.text = stageText(progress)
