"""SOFATraining: a Slicer module that fine-tunes SOFA on the site's own cases and shows how it goes.

Shells only: what happens to the scene and to processes is in `SOFATrainingLib`, training itself in `sofa_training`, and
the sections of the panel are in `SOFATrainingQt`.
"""

import enum
from pathlib import Path

import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

import SOFASegmentQt
from SOFASegmentQt.dependencies import DependencyError, ensureDependencies
from SOFASegmentQt.scheduler import QtScheduler
from SOFATrainingLib.controller import TrainingController
from SOFATrainingLib.state import DEFAULT_EPOCHS, Part, TrainingState
from SOFATrainingQt.add_case import AddCaseSection
from SOFATrainingQt.cases import CasesSection
from SOFATrainingQt.progress import ProgressSection
from SOFATrainingQt.quit_guard import QuitGuard
from SOFATrainingQt.result import ResultSection
from SOFATrainingQt.settings import SettingsBinding
from SOFATrainingQt.training import TrainingSection

#: Packages whose modules a reload of this file loads again.
_OWN_PACKAGES = ("SOFATrainingQt", "SOFATrainingLib")


class SOFATraining(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("SOFA Brain Tumor Training")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["SOFASegment", "Segmentations", "Plots", "Tables"]
        self.parent.contributors = ["SOFA for 3D Slicer contributors"]
        self.parent.helpText = _(
            "Fine-tunes the model of SOFA Brain Tumor Segmentation on cases of your own. Choose a folder of cases, add"
            " cases that you have corrected, and watch loss, Dice and a prediction while it learns. Training runs in a"
            " process of its own, can be paused and resumed, and hands its checkpoint to the segmentation module."
            " For research use only; not a medical device."
        )
        self.parent.acknowledgementText = _(
            "An implementation of SOFA (Aljani et al.), which combines LiteMedSAM, an attention over the MRI sequences"
            " for each sub-region, and box prompts. The structure of the data is that of the BraTS challenges."
        )


class TrainedPart(enum.Enum):
    """Which weights move; the names are those of `SOFATrainingLib.state.Part`, which reads the same node."""

    DECODER = Part.DECODER
    ALL = Part.ALL

    def label(self) -> str:
        """Text in the panel's list."""
        if self is TrainedPart.DECODER:
            return _("Decoder and attention (no GPU needed)")
        return _("All weights")


@parameterNodeWrapper
class SOFATrainingParameterNode:
    """What the scene remembers of the panel; `SOFATrainingLib.state` reads the same node.

    t1, t1c, t2, flair, truth - a case to add to the dataset
    part - which weights move
    epochs - passes over the cases
    dataset, startWeights, configuration, results, runFolder - paths, empty where nothing is chosen
    """

    t1: vtkMRMLScalarVolumeNode
    t1c: vtkMRMLScalarVolumeNode
    t2: vtkMRMLScalarVolumeNode
    flair: vtkMRMLScalarVolumeNode
    truth: vtkMRMLSegmentationNode
    part: TrainedPart = TrainedPart.DECODER
    epochs: int = DEFAULT_EPOCHS
    dataset: str = ""
    startWeights: str = ""
    configuration: str = ""
    results: str = ""
    runFolder: str = ""


class SOFATrainingWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: makes its sections and tells them when scene, controller or parameters change."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: SOFATrainingLogic | None = None
        self._parameterNode: SOFATrainingParameterNode | None = None
        self._guiTag: int | None = None

    def setup(self) -> None:
        """Build the panel; called once, when the module is first shown."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/SOFATraining.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = SOFATrainingLogic()
        controller = self.logic.controller

        self.training = TrainingSection(self.ui, controller, self._prepareTraining, self._updateSections)
        self.cases = CasesSection(self.ui, controller, self._prepareReading)
        self.addCase = AddCaseSection(
            self.ui,
            controller,
            lambda: self._parameterNode,
            self._prepareReading,
            self.training.tell,
            self.cases.onCheck,
        )
        self.progress = ProgressSection(self.ui, controller, self._prepareTraining)
        self.result = ResultSection(self.ui, controller, self.training.tell)
        self.settings = SettingsBinding(self.ui, lambda: controller.state)
        self.quitGuard = QuitGuard(controller)

        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.EndImportEvent, self.onSceneEndClose)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Let go of everything but a running training; called when the module is reloaded or Slicer closes."""
        self.quitGuard.close()
        self.setParameterNode(None)
        self.removeObservers()
        for section in (self.training, self.cases, self.progress):
            section.close()
        self.logic.close()

    def enter(self) -> None:
        """Look at the scene again; called each time the module is shown."""
        self.initializeParameterNode()

    def exit(self) -> None:
        """Do nothing: a training goes on while another module is shown."""

    def onReload(self) -> None:
        """Load the packages of this module again, not this file alone."""
        import sys

        for name in [n for n in sys.modules if n.partition(".")[0] in _OWN_PACKAGES]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event) -> None:
        """Forget the parameter node, which is about to be reset; a training goes on."""
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        """Show a running training in the new scene too."""
        self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Make sure that a parameter node exists and is shown."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode: SOFATrainingParameterNode | None) -> None:
        """Show and observe a parameter node; None shows nothing."""
        if parameterNode is not None and self._parameterNode is not None:
            if parameterNode.parameterNode is self._parameterNode.parameterNode:
                self._updateSections()
                return
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._updateSections)
        self._parameterNode = parameterNode
        if parameterNode is None:
            self.logic.controller.follow(None)
        else:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._updateSections)
            self.logic.controller.follow(TrainingState(parameterNode.parameterNode))
        self._updateSections()

    def _updateSections(self, caller=None, event=None) -> None:
        self.settings.update()
        for section in (self.cases, self.addCase, self.training, self.progress, self.result):
            section.update()

    def _prepareReading(self) -> bool:
        """Install what reading and writing cases needs; False, with a sentence, where the user declined."""
        return self._install(["SOFASegment-requirements.txt"], withTorch=False)

    def _prepareTraining(self) -> bool:
        """Install what training, and showing a run, needs; False, with a sentence, where the user declined."""
        names = ("SOFASegment-requirements.txt", "SOFASegment-engine-requirements.txt", "SOFATraining-requirements.txt")
        return self._install(names, withTorch=True)

    def _install(self, names, *, withTorch: bool) -> bool:
        shared = Path(SOFASegmentQt.__file__).resolve().parents[1] / "Resources"
        own = Path(self.resourcePath(""))
        try:
            files = [(own if name.startswith("SOFATraining") else shared) / name for name in names]
            ensureDependencies(files, withTorch=withTorch)
        except DependencyError as error:
            self.training.tell(str(error))
            return False
        return True


class SOFATrainingLogic(ScriptedLoadableModuleLogic):
    """The module without its panel.

    Example, in Slicer's Python console::

        logic = SOFATrainingLogic()
        parameters = logic.getParameterNode()
        parameters.dataset, parameters.epochs = "/data/cases", 20
        logic.controller.follow(TrainingState(parameters.parameterNode))
        logic.controller.start()          # returns at once; phaseChanged tells when it is done
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        # A widget's logic and a script's are made under different names; both mean the same parameter node.
        self.moduleName = "SOFATraining"
        self.scheduler = QtScheduler()
        self.controller = TrainingController(self.scheduler)

    def getParameterNode(self) -> SOFATrainingParameterNode:
        """Return the scene's parameter node, wrapped."""
        return SOFATrainingParameterNode(super().getParameterNode())

    def close(self) -> None:
        """Let go of everything; a running training goes on. The logic cannot be used afterwards."""
        self.controller.close()
        self.scheduler.close()


class SOFATrainingTest(ScriptedLoadableModuleTest):
    """Self test in Slicer: two small made-up heads, a tiny network, one epoch; nothing downloaded."""

    def setUp(self) -> None:
        """Start with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all tests."""
        self.setUp()
        self.test_AddACaseOfTheScene()

    def test_AddACaseOfTheScene(self) -> None:
        """Write a made-up head with its truth as a case, and be told that nothing is wrong with it."""
        from SOFATrainingQt.self_test import addAndCheckACase

        self.delayDisplay("Adding a small made-up head to a dataset")
        logic = SOFATrainingLogic()
        try:
            addAndCheckACase(self, logic)
        finally:
            logic.close()
        self.delayDisplay("Test passed")
