"""SOFASegment: a Slicer module that segments brain tumours and follows the boxes that the user drags.

Shells only: what happens to the scene is in `SOFASegmentLib`, what is computed in `sofa_engine`, and the sections of
the panel are in `SOFASegmentQt`.
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

import qt
from sofa_engine.types import LabelScheme
from SOFASegmentLib.controller import Phase, SegmentController
from SOFASegmentLib.scene_state import SceneState
from SOFASegmentQt.advanced import AdvancedSection
from SOFASegmentQt.dependencies import DependencyError, ensureDependencies
from SOFASegmentQt.drops import CaseDropFilter, CaseFileDialog
from SOFASegmentQt.engine import EngineLink
from SOFASegmentQt.export import ExportSection
from SOFASegmentQt.inputs import InputsSection
from SOFASegmentQt.scheduler import QtScheduler
from SOFASegmentQt.segment import SegmentSection
from SOFASegmentQt.settings import EngineSettings
from SOFASegmentQt.shortcuts import Shortcuts
from SOFASegmentQt.sub_regions import SubRegionsSection
from SOFASegmentQt.understand import UnderstandSection

#: Packages whose modules a reload of this file loads again.
_OWN_PACKAGES = ("SOFASegmentQt", "SOFASegmentLib", "sofa_service", "sofa_engine")


class SOFASegment(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("SOFA Brain Tumor Segmentation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Markups"]
        self.parent.contributors = ["SOFA for 3D Slicer contributors"]
        self.parent.helpText = _(
            "Segments the necrotic core, the oedema and the enhancing tumour of adult brain tumours from T1, T1c, T2"
            " and FLAIR MRI. The model puts a box around each sub-region; drag a face of a box and the segmentation"
            " inside it follows. Lock what is right, undo what is not, see where the model is unsure, and save NIfTI or"
            " DICOM SEG. For research use only; not a medical device."
        )
        self.parent.acknowledgementText = _(
            "An implementation of SOFA (Aljani et al.), which combines LiteMedSAM, an attention over the MRI sequences"
            " for each sub-region, and box prompts. LiteMedSAM is by J. Ma, B. Wang and colleagues; the structure of"
            " the data and the labels are those of the BraTS challenges."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


class SOFASegmentFileDialog(CaseFileDialog):
    """Slicer finds this class by its name, and asks it about what is dropped onto the main window."""


def registerSampleData() -> None:
    """Offer the BraTS case in the Sample Data module."""
    import SampleData

    from SOFASegmentLib import sample_data

    thumbnail = Path(__file__).parent / "Resources" / "Icons" / "SOFASegment.png"
    sample_data.registerSampleData(SampleData.SampleDataLogic, str(thumbnail))


class ExportLabels(enum.Enum):
    """Label values of exported NIfTI files; the names are what the scene stores."""

    BRATS2020 = LabelScheme.BRATS2020
    BRATS2023 = LabelScheme.BRATS2023

    def label(self) -> str:
        """Text in the panel's list."""
        return _("BraTS 2020 (1, 2, 4)") if self is ExportLabels.BRATS2020 else _("BraTS 2023 (1, 2, 3)")


@parameterNodeWrapper
class SOFASegmentParameterNode:
    """What the scene remembers of the panel; `SOFASegmentLib.scene_state` reads the same node.

    t1, t1c, t2, flair - the sequences, any of which may be missing
    segmentation - the result
    labelScheme - label values of exported NIfTI files
    """

    t1: vtkMRMLScalarVolumeNode
    t1c: vtkMRMLScalarVolumeNode
    t2: vtkMRMLScalarVolumeNode
    flair: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    labelScheme: ExportLabels = ExportLabels.BRATS2020


class SOFASegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: makes its sections and tells them when scene, controller or parameters change."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: SOFASegmentLogic | None = None
        self._parameterNode: SOFASegmentParameterNode | None = None
        self._guiTag: int | None = None

    def setup(self) -> None:
        """Build the panel; called once, when the module is first shown."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/SOFASegment.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = SOFASegmentLogic()

        self.inputs = InputsSection(
            self.ui,
            lambda: self.logic.state,
            lambda: self._parameterNode,
            self._prepareModule,
            self._tell,
            self._onNewCase,
            self._onCopies,
            self.logic.scheduler,
        )
        self.segment = SegmentSection(self.ui, self._prepareEngine, self._updateSections)
        self.subRegions = SubRegionsSection(self.ui, self._icon)
        self.understand = UnderstandSection(self.ui, self._icon)
        self.export = ExportSection(
            self.ui, lambda: self._parameterNode.labelScheme.value, self._prepareReport, self._tell
        )
        self.advanced = AdvancedSection(self.ui, self.logic.configureEngine, self.logic.restartEngine)
        self.shortcuts = Shortcuts(
            {
                "Ctrl+Z": self.subRegions.onUndo,
                "Z": self.subRegions.onUndo,
                "Ctrl+Y": self.subRegions.onRedo,
                "Y": self.subRegions.onRedo,
                "Ctrl+B": self.subRegions.onToggleBoxes,
                "]": self.understand.onNextSlice,
                "[": self.understand.onPreviousSlice,
            }
        )
        self._dropFilter = CaseDropFilter(self.inputs.loadFiles)
        uiWidget.acceptDrops = True
        uiWidget.installEventFilter(self._dropFilter)

        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.EndImportEvent, self.onSceneEndClose)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Let go of everything; called when the module is reloaded or Slicer closes."""
        self.shortcuts.deactivate()
        self.setParameterNode(None)
        self.removeObservers()
        self.logic.close()

    def enter(self) -> None:
        """Take the keys and look at the scene again; called each time the module is shown."""
        self.initializeParameterNode()
        self.inputs.guessIfEmpty()
        self.shortcuts.activate(slicer.util.mainWindow() or self.parent)

    def exit(self) -> None:
        """Give the keys back; called each time another module is shown. A running segmentation goes on."""
        self.shortcuts.deactivate()

    def onReload(self) -> None:
        """Load the packages of this module again, not this file alone."""
        import sys

        for name in [n for n in sys.modules if n.partition(".")[0] in _OWN_PACKAGES]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event) -> None:
        """Forget the parameter node, which is about to be reset, and what was allowed for this patient."""
        self.setParameterNode(None)
        self._onNewCase()

    def onSceneEndClose(self, caller, event) -> None:
        """Start afresh where the panel is being shown."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Make sure that a parameter node exists and is shown."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode: SOFASegmentParameterNode | None) -> None:
        """Show and observe a parameter node; None shows nothing.

        A node that is shown already is bound again: a scene that was imported writes into it behind the wrapper.
        """
        followers = (self.segment, self.subRegions, self.understand, self.export)
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._updateSections)
        self._parameterNode = parameterNode
        if parameterNode is None:
            for section in followers:
                section.unfollow()
            self.logic.release()
        else:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._updateSections)
            controller = self.logic.controllerOf(parameterNode)
            for section in followers:
                section.follow(controller)
        self._updateSections()

    def _updateSections(self, caller=None, event=None) -> None:
        controller = self.logic.controller
        running = controller is not None and controller.phase is Phase.RUNNING
        self.inputs.update()
        self.inputs.setEnabled(controller is not None and not running)
        self.segment.update(self.inputs.fits, self.logic.resumable)
        self.subRegions.update()
        self.understand.update()
        self.export.update()
        self.advanced.followInputs(() if controller is None else controller.state.inputs().values())
        self.advanced.showEngine(self.logic.engine.running)

    def _onNewCase(self) -> None:
        """Ask again before the images of another patient are sent anywhere."""
        self.advanced.withdrawConsent()

    def _onCopies(self, copies: list[tuple[vtkMRMLScalarVolumeNode, vtkMRMLScalarVolumeNode]]) -> None:
        """Let what was allowed for volumes hold for what Align made of them."""
        self.advanced.coverCopies(copies)

    def _prepareModule(self) -> bool:
        """Install what reading and aligning need; False, with a sentence, where the user declined."""
        return self._install(["SOFASegment-requirements.txt"], withTorch=False)

    def _prepareReport(self) -> bool:
        """Install what draws the report's pictures; False, with a sentence, where the user declined."""
        return self._install(["SOFASegment-report-requirements.txt"], withTorch=False)

    def _prepareEngine(self) -> bool:
        """Install what is missing and ask for consent; False, with a sentence, where the user declined."""
        settings = self.advanced.settings
        if settings.remote and not settings.consent:
            self.ui.advancedCollapsibleButton.collapsed = False
            self._tell(
                _("Allow sending this patient's images to {url} below, or empty the address.").format(url=settings.url)
            )
            return False
        if settings.remote:
            return self._prepareModule()
        return self._install(["SOFASegment-requirements.txt", "SOFASegment-engine-requirements.txt"], withTorch=True)

    def _install(self, files: list[str], *, withTorch: bool) -> bool:
        try:
            ensureDependencies([Path(self.resourcePath(name)) for name in files], withTorch=withTorch)
        except DependencyError as error:
            self._tell(str(error))
            return False
        return True

    def _tell(self, sentence: str) -> None:
        self.segment.tell(sentence)

    def _icon(self, name: str) -> qt.QIcon:
        return qt.QIcon(self.resourcePath(f"Icons/SOFA-{name}.svg"))


class SOFASegmentLogic(ScriptedLoadableModuleLogic):
    """The module without its panel.

    Example, in Slicer's Python console::

        logic = SOFASegmentLogic()
        parameters = logic.getParameterNode()
        parameters.t1c, parameters.flair = slicer.util.getNode("T1c"), slicer.util.getNode("FLAIR")
        logic.controllerOf(parameters).segment()    # returns at once; phaseChanged tells when it is done
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        # A widget's logic and a script's are made under different names; both mean the same parameter node.
        self.moduleName = "SOFASegment"
        self.scheduler = QtScheduler()
        self.engine = EngineLink(_("Starting the engine"))
        self.engine.configure(EngineSettings.load())
        self.controller: SegmentController | None = None

    def getParameterNode(self) -> SOFASegmentParameterNode:
        """Return the scene's parameter node, wrapped."""
        node = super().getParameterNode()
        for name in SOFASegmentParameterNode.__annotations__:
            # The wrapper takes a node without the parameter for one that was never set, and clears the reference. A
            # scene that the browser face saved has the reference alone.
            if node.GetNodeReferenceID(name) and not node.HasParameter(name):
                node.SetParameter(name, "")
        return SOFASegmentParameterNode(node)

    @property
    def state(self) -> SceneState | None:
        """What the scene remembers, None while no parameter node is followed."""
        return None if self.controller is None else self.controller.state

    @property
    def resumable(self) -> bool:
        """Whether the chosen volumes have a segmentation in the scene that no session knows yet."""
        return self.controller is not None and self.controller.canResume

    def controllerOf(self, parameterNode: SOFASegmentParameterNode) -> SegmentController:
        """Return the controller of a parameter node, made on first use; the one before is closed."""
        node = parameterNode.parameterNode
        if self.controller is None or self.controller.state.node is not node:
            self.release()
            self.controller = SegmentController(
                SceneState(node), self.scheduler, self.engine.openSession, self.engine.setup
            )
        return self.controller

    def configureEngine(self, settings: EngineSettings) -> None:
        """Use these settings from the next time that a case is segmented."""
        self.engine.configure(settings)

    def restartEngine(self) -> None:
        """End the engine process; the next question starts it again."""
        # The background thread may be waiting for the very engine that is to be ended.
        self.scheduler.runBeside(self.engine.restart)

    def release(self) -> None:
        """Let go of the controller; what it put into the scene stays."""
        if self.controller is not None:
            self.controller.close()
        self.controller = None

    def close(self) -> None:
        """End everything, the engine process too; the logic cannot be used afterwards."""
        self.release()
        # At once, which frees what hangs in it, and behind what is still asked, which would start it again.
        self.scheduler.runBeside(self.engine.close)
        self.scheduler.runInBackground(self.engine.close)
        self.scheduler.close()


class SOFASegmentTest(ScriptedLoadableModuleTest):
    """Self test in Slicer: a small made-up head, a tiny model with random weights, nothing downloaded."""

    def setUp(self) -> None:
        """Start with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all tests."""
        self.setUp()
        self.test_SegmentAndDragABox()

    def test_SegmentAndDragABox(self) -> None:
        """Segment the made-up head, move a box, and see the segment change inside it and its volume follow."""
        from SOFASegmentQt.self_test import missingPackages, segmentAndDragABox

        missing = missingPackages()
        if missing:
            self.delayDisplay(f"Test skipped: not installed are {', '.join(missing)}; press Segment once to get them")
            return
        self.delayDisplay("Segmenting a small made-up head with a tiny random model")
        logic = SOFASegmentLogic()
        try:
            segmentAndDragABox(self, logic)
        finally:
            logic.close()
        self.delayDisplay("Test passed")
