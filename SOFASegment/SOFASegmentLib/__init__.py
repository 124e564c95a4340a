"""What SOFA does to a MRML scene. No Qt, no torch: the Slicer module and the browser face stand on this package.

A face needs four things::

    from SOFASegmentLib import SceneState, SegmentController, volumes

    state = SceneState.fromScene(scene)                 # or SceneState(parameterNode) in Slicer
    state.setInputs(volumes.guessModalities(volumes.scalarVolumes(scene)))
    controller = SegmentController(state, scheduler, openSession)
    controller.segment()                                # first pass; then the user drags boxes

`scheduler` is a `Scheduler`: `callLater(milliseconds, function)` and `post(function)` on the main thread, and
`runInBackground(work)`. Slicer implements it with QTimer, the browser face with asyncio; `ManualScheduler.drain()` runs
everything that waits (scripts, tests); `BackgroundThread` is the worker thread that both faces can use.
`openSession(case, progress, cancel)` returns a `sofa_engine.api.Session` and is called in the background.

Where things are kept: the scene alone. `SceneState` wraps one vtkMRMLScriptedModuleNode, whose node references are
`t1`, `t1c`, `t2`, `flair` (inputs, the names that a parameterNodeWrapper gives fields of these names), `segmentation`,
`SOFA.confidence`, `SOFA.volumesTable`, `SOFA.attentionTable`, `SOFA.attentionChart`. What belongs to one study is with
its segmentation node: the node references `SOFA.box.ncr|ed|et` (several each) and the attribute `SOFA.locked`. Choosing
a study's volumes finds its segmentation by the volume that it lies on. Nothing is ever found by its name.

SegmentController
    Properties: `phase` (`Phase.IDLE`, `RUNNING`, `READY`), `progress`, `canResume`, `canUndo`, `canRedo`, `warnings`,
    `model`, `insights` (volumes in ml, attention, uncertain slices; None before the first pass), `changing` (a drag or
    what it caused is at work), `measured` (`insights` is about the result as it is), `inputs` (the volumes that were
    segmented), `sameInputs` (whether they are those chosen now).
    Verbs, all returning at once: `segment()`, `resume()` (go on with a saved scene or study), `cancel()`, `undo()`,
    `redo()`, `resetBox(subRegion)`, `addBox(subRegion, centreRas=None)`, `deleteBox(roiNode)`,
    `splitLesions(subRegion)`, `setLocked(subRegion, locked)`, `isLocked(subRegion)`, `setBoxesVisible(visible)`,
    `boxesVisible()`, `nextUncertainSlice(step=1)`, `jumpToSlice(index)`, `slicePosition(index)`,
    `showTumour()`, `setConfidenceVisible(visible)`, `setSurfacesVisible(visible)`, `close()`.
    Signals (`connect(f)`, `disconnect(f)`), always on the main thread: `phaseChanged(phase)`,
    `progressChanged(Progress)`, `labelsChanged(Box)`, `historyChanged()`, `insightsChanged(Insights)`,
    `warned(str)` and `failed(str)`: one sentence for the user each.

Modules
    volumes       guess modalities, compare grids (`gridReport`), `Alignment` into new nodes, nodes -> engine `Case`
    case_files    load a folder or dropped files; sample_data registers the BraTS case of Slicer's Sample Data
    segments      the segmentation node and its voxels; boxes: the ROI nodes; labels: what the scene shows
    insights      tables and chart; overlays: confidence volume; slices: visible slices and jumping
    export        NIfTI, what still misses for DICOM SEG; report: boxes and report
    work          what segmenting again or leaving a case would destroy, and the sentence to ask with
    i18n          texts in the user's language
"""

from SOFASegmentLib.controller import Phase, SegmentController
from SOFASegmentLib.scene_state import SceneState
from SOFASegmentLib.scheduler import BackgroundThread, ManualScheduler, Scheduler
from SOFASegmentLib.signals import Signal

__all__ = [
    "BackgroundThread",
    "ManualScheduler",
    "Phase",
    "SceneState",
    "Scheduler",
    "SegmentController",
    "Signal",
]
