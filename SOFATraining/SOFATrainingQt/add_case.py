"""The section that makes a case of the dataset out of volumes and a corrected segmentation in the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from sofa_engine.errors import SofaError
from sofa_engine.types import MODALITIES, Modality
from SOFASegmentLib import scene_state
from SOFASegmentLib.scene_state import SceneState
from SOFATrainingLib.case_folder import addCase, proposedName
from SOFATrainingLib.state import TRUTH

if TYPE_CHECKING:
    from SOFATrainingLib.controller import TrainingController


class AddCaseSection:
    """Selectors, "Take segmented case" and "Add to the cases"."""

    def __init__(
        self,
        ui: object,
        controller: TrainingController,
        getParameters: Callable[[], object],
        prepare: Callable[[], bool],
        tell: Callable[[str], None],
        added: Callable[[], None],
    ) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            controller: of the training.
            getParameters: the wrapper that the selectors are connected to, None while the scene is closing.
            prepare: makes sure that files can be written; False where the user declined.
            tell: shows one sentence to the user.
            added: called when the dataset has one case more.
        """
        self._ui, self._controller, self._getParameters = ui, controller, getParameters
        self._prepare, self._tell, self._added = prepare, tell, added
        ui.takeCaseButton.connect("clicked()", self.onTake)
        ui.addCaseButton.connect("clicked()", self.onAdd)

    def update(self) -> None:
        """Show what can be done."""
        state = self._controller.state
        ready = state is not None and len(state.inputs()) == len(Modality) and state.get(TRUTH) is not None
        self._ui.addCaseButton.enabled = ready and state.dataset is not None
        self._ui.takeCaseButton.enabled = self._segmented() is not None
        if ready and not self._ui.caseNameLineEdit.text:
            self._ui.caseNameLineEdit.placeholderText = proposedName(state.dataset, state.inputs()[Modality.T1C])

    def onTake(self) -> None:
        """Choose what the segmentation module works on.

        Through the wrapper: it keeps values, and VTK tells the observer of its first field last, after the selectors
        have been set from what is kept.
        """
        parameters, segmented = self._getParameters(), self._segmented()
        if parameters is None or segmented is None:
            return
        nodes = segmented.inputs()
        with slicer.util.NodeModify(parameters):
            for modality in MODALITIES:
                setattr(parameters, modality.value, nodes.get(modality))
            setattr(parameters, TRUTH, segmented.chosenSegmentation())

    def onAdd(self) -> None:
        """Write the case."""
        state = self._controller.state
        if state is None or state.dataset is None or not self._prepare():
            return
        name = self._ui.caseNameLineEdit.text.strip() or self._ui.caseNameLineEdit.placeholderText
        try:
            with slicer.util.WaitCursor():
                folder = addCase(state.dataset, name, state.inputs(), state.get(TRUTH))
        except SofaError as error:
            self._tell(str(error))
            return
        self._ui.caseNameLineEdit.text = ""
        self._tell(_("Added {folder}.").format(folder=folder))
        self._added()

    def _segmented(self) -> SceneState | None:
        """Return what the segmentation module remembers in this scene, if the volumes chosen there have a result."""
        state = self._controller.state
        node = (
            None
            if state is None or state.scene is None
            else state.scene.GetSingletonNode(scene_state.MODULE_NAME, "vtkMRMLScriptedModuleNode")
        )
        segmented = None if node is None else SceneState(node)
        return segmented if segmented is not None and segmented.chosenSegmentation() is not None else None
