"""The section where the four volumes are chosen, loaded and put on one grid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

import qt
from sofa_engine.errors import SofaError
from sofa_engine.types import MODALITIES, Modality
from SOFASegmentLib import case_files, volumes
from SOFASegmentLib.scene_state import SceneState
from SOFASegmentQt.scheduler import QtScheduler


class InputsSection:
    """Selectors, "Load case…", the line about the grid, and Align.

    Attributes:
        fits: whether at least one volume is chosen and all lie on one grid.
    """

    def __init__(
        self,
        ui: object,
        getState: Callable[[], SceneState | None],
        getParameters: Callable[[], Any],
        prepare: Callable[[], bool],
        tell: Callable[[str], None],
        onNewCase: Callable[[], None],
        onCopies: Callable[[Iterable[tuple[Any, Any]]], None],
        scheduler: QtScheduler,
    ) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            getState: the scene's memory, None while the scene is closing.
            getParameters: the module's parameter node, through which the selectors are set.
            prepare: makes sure that files can be read and resampled; False where the user declined.
            tell: shows one sentence to the user.
            onNewCase: called when another case has been loaded.
            onCopies: called with a chosen volume and what was made from it, each, before that is chosen instead.
            scheduler: how to leave the main thread.
        """
        self.fits = False
        self._ui, self._getState, self._getParameters = ui, getState, getParameters
        self._prepare, self._tell, self._scheduler = prepare, tell, scheduler
        self._onNewCase, self._onCopies = onNewCase, onCopies
        self._aligning = False
        self._enabled = True
        ui.loadCaseButton.connect("clicked(bool)", self.onLoadCase)
        ui.matchByNameButton.connect("clicked(bool)", self.onMatchByName)
        ui.alignButton.connect("clicked(bool)", self.onAlign)
        ui.registerCheckBox.connect("toggled(bool)", self.onRegisterToggled)
        self.update()

    def onLoadCase(self) -> None:
        """Ask for a folder and load the case in it."""
        folder = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Choose the folder with one patient's T1, T1c, T2 and FLAIR")
        )
        if folder:
            self.loadFiles([Path(folder)])

    def loadFiles(self, paths: list[Path]) -> None:
        """Load a case from a folder or from image files, and choose its volumes."""
        state = self._getState()
        if not self._enabled or self._aligning:
            self._tell(_("Wait until the volumes are segmented or aligned, or cancel, before loading another case."))
            return
        if state is None or not self._prepare():
            return
        try:
            with slicer.util.WaitCursor():
                loaded, notes = case_files.loadCase(state.scene, case_files.folderOfDrop(paths))
        except SofaError as error:
            self._tell(str(error))
            return
        self._onNewCase()
        self._choose(loaded)
        slicer.util.setSliceViewerLayers(background=state.reference(), fit=True)
        self._tell(" ".join(notes))

    def onMatchByName(self) -> None:
        """Choose the scene's volumes whose names say what they are; what is chosen of another patient is let go."""
        state = self._getState()
        if state is None:
            return
        guessed = volumes.guessModalities(volumes.scalarVolumes(state.scene))
        if not guessed:
            self._tell(_("No volume in the scene has T1, T1c, T2 or FLAIR in its name; choose the volumes by hand."))
            return
        group = volumes.groupOf(next(iter(guessed.values())))
        kept = {m: node for m, node in state.inputs().items() if volumes.groupOf(node) == group}
        self._choose({**kept, **guessed})

    def guessIfEmpty(self) -> None:
        """Choose volumes by name where nothing is chosen yet; says nothing if there are none."""
        state = self._getState()
        if state is not None and not state.inputs():
            guessed = volumes.guessModalities(volumes.scalarVolumes(state.scene))
            if guessed:
                self._choose(guessed)

    def _choose(self, nodes: Mapping[Modality, Any]) -> None:
        """Choose volumes; a sequence that `nodes` lacks is cleared.

        Through the wrapper: it keeps values, and VTK tells the observer of its first field last, after the selectors
        have been set from what is kept.
        """
        parameters = self._getParameters()
        with slicer.util.NodeModify(parameters):
            for modality in MODALITIES:
                setattr(parameters, modality.value, nodes.get(modality))

    def onAlign(self) -> None:
        """Resample what does not fit into new volumes, in the background, and choose those."""
        state = self._getState()
        if self._aligning or state is None or not state.inputs() or not self._prepare():
            return
        try:
            alignment = volumes.Alignment(
                state.inputs(), state.referenceModality(), register=self._ui.registerCheckBox.checked
            )
        except SofaError as error:
            self._tell(str(error))
            return
        self._aligning = True
        self._tell("")
        self.update()

        def work() -> None:
            problem: Exception | None = None
            try:
                alignment.compute()
            except Exception as error:
                problem = error
            self._scheduler.post(lambda: self._onAligned(alignment, problem))

        # Not behind the session's work, nor before it: boxes can be dragged while volumes are registered.
        self._scheduler.runBeside(work)

    def _onAligned(self, alignment: volumes.Alignment, problem: Exception | None) -> None:
        self._aligning = False
        if problem is None and alignment.wanted and self._getState() is not None:
            aligned = alignment.show()
            self._onCopies([(alignment.nodes[m], node) for m, node in aligned.items()])
            self._choose(aligned)
            self._tell(" ".join(alignment.warnings))
        elif isinstance(problem, SofaError):
            self._tell(str(problem))
        elif problem is not None:
            logging.error("SOFASegment: aligning failed", exc_info=problem)
            self._tell(_("The volumes could not be aligned ({error}); the log has the details.").format(error=problem))
        self.update()

    def onRegisterToggled(self, register: bool) -> None:
        """Say on the button what it will do."""
        self._ui.alignButton.text = _("Register and align") if register else _("Align")

    def update(self) -> None:
        """Say whether the chosen volumes share a grid."""
        state = self._getState()
        inputs = {} if state is None else state.inputs()
        if not inputs:
            self.fits, sentence = False, _("Choose at least one volume, or load a case.")
        else:
            self.fits, sentence = volumes.gridReport(inputs, state.referenceModality())
        if self._aligning:
            self.fits, sentence = False, _("Aligning the volumes; registering takes up to a minute…")
        self._ui.gridStatusLabel.text = sentence
        for widget in (self._ui.alignButton, self._ui.registerCheckBox):
            widget.visible = bool(inputs) and not self.fits and len(inputs) > 1
        self._enable()

    def setEnabled(self, enabled: bool) -> None:
        """Lock the selectors while a case is being segmented."""
        self._enabled = enabled
        self._enable()

    def _enable(self) -> None:
        enabled = self._enabled and not self._aligning
        for name in ("t1Selector", "t1cSelector", "t2Selector", "flairSelector"):
            getattr(self._ui, name).enabled = enabled
        for name in ("loadCaseButton", "matchByNameButton", "alignButton", "registerCheckBox"):
            getattr(self._ui, name).enabled = enabled
