"""The section with the one big button: segment, cancel, go on; how far it is, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from SOFASegmentLib.controller import Phase
from SOFASegmentLib.work import Work

if TYPE_CHECKING:
    from sofa_engine.progress import Progress
    from SOFASegmentLib.controller import SegmentController
    from SOFASegmentLib.live_case import LiveCase


class SegmentSection:
    """The button, the progress bar, the line for messages, and what the user should know of the result."""

    def __init__(self, ui: object, prepare: Callable[[], bool], changed: Callable[[], None]) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            prepare: makes sure that the engine can be started; False where the user declined.
            changed: called when the phase has changed, so that other sections follow.
        """
        self._ui, self._prepare, self._changed = ui, prepare, changed
        self._controller: SegmentController | None = None
        self._work: Work | None = None
        self._resumable = False
        self._before: LiveCase | None = None
        self._fresh = False
        ui.segmentButton.connect("clicked(bool)", self.onSegment)
        ui.startOverButton.connect("clicked(bool)", self.onStartOver)
        self.tell("")
        self._showProgress(False)

    def follow(self, controller: SegmentController) -> None:
        """Show this controller from now on."""
        self.unfollow()
        self._controller, self._work = controller, Work(controller)
        controller.phaseChanged.connect(self._onPhase)
        controller.progressChanged.connect(self._onProgress)
        controller.warned.connect(self._onWarned)
        controller.failed.connect(self.tell)
        self._showProgress(controller.phase is Phase.RUNNING)

    def unfollow(self) -> None:
        """Stop listening."""
        if self._work is not None:
            self._work.close()
        if self._controller is not None:
            self._controller.phaseChanged.disconnect(self._onPhase)
            self._controller.progressChanged.disconnect(self._onProgress)
            self._controller.warned.disconnect(self._onWarned)
            self._controller.failed.disconnect(self.tell)
        self._controller = self._work = None
        self._showProgress(False)

    def tell(self, sentence: str) -> None:
        """Show one sentence; an empty one clears the line."""
        self._ui.messageLabel.text = sentence
        self._ui.messageLabel.visible = bool(sentence)

    def update(self, canSegment: bool, resumable: bool) -> None:
        """Show what the button does now.

        Args:
            canSegment: whether the volumes are chosen and fit.
            resumable: whether the chosen volumes have a segmentation in the scene that no session knows yet.
        """
        self._showNotices()
        phase = Phase.IDLE if self._controller is None else self._controller.phase
        self._resumable = resumable
        running = phase is Phase.RUNNING
        button = self._ui.segmentButton
        button.enabled = running or (canSegment and self._controller is not None)
        self._ui.startOverButton.visible = self._resumable
        self._ui.startOverButton.enabled = canSegment
        if running:
            button.text, button.toolTip = _("Cancel"), _("Stop; everything stays as it was")
        elif self._resumable:
            button.text = _("Continue")
            button.toolTip = _("Go on with the segmentation and the boxes of this scene")
        else:
            button.text = _("Segment again") if phase is Phase.READY else _("Segment")
            button.toolTip = (
                _("Find the necrotic core, the oedema and the enhancing tumour, and put a box around each")
                if canSegment
                else _("Choose volumes on one grid first")
            )

    def onSegment(self) -> None:
        """Segment, go on with what the scene holds, or cancel."""
        if self._controller is None:
            return
        if self._controller.phase is Phase.RUNNING:
            self._controller.cancel()
        elif self._resumable:
            self._start(self._controller.resume, fresh=False)
        else:
            self.onStartOver()

    def onStartOver(self) -> None:
        """Segment from scratch; ask before work is dropped."""
        if self._controller is None or self._work is None:
            return
        loss = self._work.lostBySegmenting()
        if not loss or slicer.util.confirmOkCancelDisplay(loss, _("Segment again")):
            self._start(self._controller.segment)

    def _start(self, verb: Callable[[], None], *, fresh: bool = True) -> None:
        self.tell("")
        self._fresh, self._before = fresh, self._controller.live
        if self._prepare():
            verb()

    def _onPhase(self, phase: Phase) -> None:
        self._showProgress(phase is Phase.RUNNING)
        if phase is not Phase.RUNNING:
            # A new result's boxes may lie on slices that nobody looks at. A scene that is gone on with stays as it was.
            if self._fresh and self._controller.live is not self._before:
                self._controller.showTumour()
            self._fresh, self._before = False, None
        self._changed()

    def _onWarned(self, sentence: str) -> None:
        """Show what happened; what holds for the case as a whole is shown as long as the case is."""
        if sentence not in self._controller.warnings:
            self.tell(sentence)

    def _showNotices(self) -> None:
        """Show what stays true while the case is there, apart from the line in which one message replaces another."""
        controller = self._controller
        sentences = [] if controller is None else [*controller.warnings]
        if controller is not None and controller.phase is Phase.READY and not controller.sameInputs:
            sentences.append(
                _(
                    "The segmentation is of other volumes than those chosen above; press Segment again to segment"
                    " these, or choose those again to save it."
                )
            )
        model = None if controller is None else controller.model
        made = "" if model is None else _("Segmented by {model} on {device}.")
        self._ui.modelLabel.text = made and made.format(model=model.name, device=model.device)
        self._ui.modelLabel.visible = model is not None
        self._ui.noticeLabel.text = "\n".join(sentences)
        self._ui.noticeLabel.visible = bool(sentences)

    def _showProgress(self, running: bool) -> None:
        self._ui.progressFrame.visible = running
        self._ui.progressBar.value = 0
        self._ui.stageLabel.text = _("Starting…") if running else ""

    def _onProgress(self, progress: Progress) -> None:
        self._ui.progressBar.value = round(1000 * progress.fraction)
        self._ui.stageLabel.text = stageText(progress)


def stageText(progress: Progress) -> str:
    """Return the stage and, where it is known, the time left."""
    if progress.remaining_s is None:
        return translatedStage(progress.stage)
    seconds = round(progress.remaining_s)
    if seconds < 60:
        left = _("about {seconds} s left").format(seconds=max(1, seconds))
    else:
        left = _("about {minutes} min left").format(minutes=round(seconds / 60))
    return f"{translatedStage(progress.stage)} · {left}"


def translatedStage(stage: str) -> str:
    """Return a stage that the engine names, in the user's language; the engine itself speaks English."""
    known = {
        "Opening the case": _("Opening the case"),
        "Preparing the images": _("Preparing the images"),
        "Encoding slices": _("Encoding slices"),
        "Finding the tumour": _("Finding the tumour"),
        "Refining with its boxes": _("Refining with its boxes"),
    }
    return known.get(stage, stage)
