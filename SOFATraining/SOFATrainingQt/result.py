"""The section with the result: its card, and the button that gives it to the segmentation module."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from SOFASegmentQt.settings import EngineSettings
from SOFATrainingLib.follow import REGIONS

if TYPE_CHECKING:
    from SOFATrainingLib.card import ResultCard
    from SOFATrainingLib.controller import TrainingController


class ResultSection:
    """Card and "Use for segmentation"."""

    def __init__(self, ui: object, controller: TrainingController, tell: Callable[[str], None]) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            controller: of the training.
            tell: shows one sentence to the user.
        """
        self._ui, self._controller, self._tell = ui, controller, tell
        ui.useResultButton.connect("clicked()", self.onUse)
        self.update()

    def update(self) -> None:
        """Show the card of the newest result."""
        result = None if self._controller.busy else self._controller.result
        self._ui.useResultButton.enabled = result is not None
        waiting = _("The checkpoint appears here when the training ends or is paused.")
        self._ui.cardLabel.text = waiting if result is None else cardText(result)

    def onUse(self) -> None:
        """Let the segmentation module use the checkpoint, and go there."""
        result = self._controller.result
        if result is None:
            return
        settings = replace(EngineSettings.load(), weights=str(result.path))
        settings.save()
        module = getattr(slicer.modules, "sofasegment", None)
        if module is not None:
            # The panel has its own widgets for these settings, once it is made.
            module.widgetRepresentation().self().ui.weightsPathLineEdit.currentPath = str(result.path)
            slicer.util.selectModule("SOFASegment")
        if settings.remote:
            self._tell(
                _(
                    "The segmentation runs on {url}, which has its own checkpoint; empty that address to use this one."
                ).format(url=settings.url)
            )
        else:
            self._tell(_("The next segmentation uses {path}.").format(path=result.path))


def seenWarning(seen: int, validating: int) -> str:
    """Return what to think of a validation on cases that the start was trained on."""
    return _(
        "The start was trained on {seen} of the {validating} validation cases, whose Dice says nothing about new"
        " patients."
    ).format(seen=seen, validating=validating)


def cardText(card: ResultCard) -> str:
    """Return the card as the little table that the panel shows."""
    cases = _("{training} for training, {validating} for validation").format(
        training=card.trainingCases, validating=card.validationCases
    )
    inOrder = [(name, card.dice[name]) for name in REGIONS if name in card.dice]
    dice = "&nbsp;&nbsp; ".join(f"{name}&nbsp;<b>{value:.3f}</b>" for name, value in inOrder)
    if card.seenCases and dice:
        dice += f"<br>{seenWarning(card.seenCases, card.validationCases)}"
    lines = {
        _("Checkpoint"): html.escape(str(card.path)),
        _("Cases"): f"{cases}<br>{html.escape(card.dataset)}" if card.dataset else cases,
        _("Epochs"): str(card.epochs),
        _("Dice"): dice or _("not measured: no case was left for validation"),
        _("Started with"): html.escape(card.start),
        _("Trained on"): html.escape(card.device),
    }
    rows = "".join(
        f'<tr><td style="padding-right: 10px; white-space: nowrap">{name}:</td><td>{text}</td></tr>'
        for name, text in lines.items()
        if text
    )
    return f"<table>{rows}</table>"
