"""Hands and eyes for tests on a MRML scene."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import vtk

from sofa_engine.api import Session
from sofa_engine.case import Case
from sofa_engine.geometry import Geometry
from sofa_engine.itk_images import geometry_of, to_itk
from sofa_engine.progress import CancelToken, ProgressCallback
from sofa_engine.session import SegmentationSession
from sofa_engine.types import Box, Modality, SubRegion
from SOFASegmentLib import BackgroundThread, ManualScheduler, SceneState, SegmentController
from SOFASegmentLib.geometry import setIjkToRas
from SOFASegmentLib.scene_state import SEGMENTATION
from SOFASegmentLib.segments import Segments


def addVolume(scene: Any, array: np.ndarray, geometry: Geometry, name: str) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    setIjkToRas(node, geometry)
    node.CreateDefaultDisplayNodes()
    return node


def addVolumes(
    scene: Any,
    case: Case,
    geometry: Geometry | None = None,
    *,
    placed: np.ndarray | None = None,
    transform: Any = None,
) -> dict[Modality, Any]:
    """Add a case's images as volume nodes.

    Args:
        scene: where to.
        case: what.
        geometry: resample the images onto this grid first; None for the case's own.
        placed: give the nodes this IJK to RAS matrix instead of their own.
        transform: transform node to put them under.
    """
    nodes = {}
    for modality, image in case.images.items():
        array, grid = image, case.geometry
        if geometry is not None:
            target = to_itk(np.zeros(geometry.shape, np.uint8), geometry)
            array = sitk.GetArrayFromImage(sitk.Resample(to_itk(image, grid), target))
            grid = geometry
        if placed is not None:
            grid = Geometry.from_matrix(array.shape, placed)
        nodes[modality] = addVolume(scene, array, grid, f"Patient_{modality.value}")
        if transform is not None:
            nodes[modality].SetAndObserveTransformNodeID(transform.GetID())
    return nodes


def readVolume(scene: Any, path: Path, part: Any = ...) -> Any:
    image = sitk.ReadImage(str(path))
    geometry = geometry_of(image)
    array = sitk.GetArrayFromImage(image)[part]
    matrix = geometry.matrix
    if part is not ...:
        matrix[:3, 3] = geometry.index_to_ras(np.array([s.start for s in part]))
    return addVolume(scene, array, Geometry.from_matrix(array.shape, matrix), path.name.split(".")[0])


#: How long a test waits for what happens in another thread or process.
PATIENCE_S = 300


class ThreadedScheduler:
    """A worker thread, and a main thread that runs what arrives while the test waits for something."""

    def __init__(self) -> None:
        self.worker = BackgroundThread()
        self.arrived: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.main = threading.get_ident()

    def post(self, function: Callable[[], object]) -> None:
        self.arrived.put(function)

    def callLater(self, milliseconds: int, function: Callable[[], object]) -> threading.Timer:
        timer = threading.Timer(milliseconds / 1000, lambda: self.post(function))
        timer.daemon = True
        timer.start()
        return timer

    def runInBackground(self, work: Callable[[], object]) -> None:
        self.worker.run(work)

    def waitFor(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "what the test waits for never came"
            try:
                self.arrived.get(timeout=0.02)()
            except queue.Empty:
                continue


class Bench:
    """A scene, a controller, and a scheduler that runs when the test says so."""

    def __init__(
        self,
        scene: Any,
        nodes: dict[Modality, Any],
        makePredictor: Callable[[Case], Any],
        scheduler: Any = None,
    ) -> None:
        self.scene = scene
        self.nodes = nodes
        self.scheduler = ManualScheduler() if scheduler is None else scheduler
        self.state = SceneState.fromScene(scene)
        self.state.setInputs(nodes)
        self.sessions: list[Session] = []
        self.predictors: list[Any] = []
        self.failures: list[str] = []
        self.warnings: list[str] = []
        self.makePredictor = makePredictor
        self.controller = SegmentController(self.state, self.scheduler, self.openSession)
        self.controller.failed.connect(self.failures.append)
        self.controller.warned.connect(self.warnings.append)

    def openSession(self, case: Case, _progress: ProgressCallback, _cancel: CancelToken) -> Session:
        self.predictors.append(self.makePredictor(case))
        self.sessions.append(SegmentationSession(case, self.predictors[-1]))
        return self.sessions[-1]

    def segment(self) -> None:
        self.controller.segment()
        self.run()
        assert self.failures == []

    def run(self) -> None:
        self.scheduler.drain()

    @property
    def session(self) -> Session:
        return self.sessions[-1]

    @property
    def segmentation(self) -> Any:
        return self.state.get(SEGMENTATION)

    def segments(self) -> Segments:
        return Segments(self.segmentation, self.controller.live.grids.reference)

    def labels(self) -> np.ndarray:
        """What the three segments hold, as labels on the reference volume's grid."""
        return self.segments().readLabels()

    def mask(self, subRegion: SubRegion) -> np.ndarray:
        return self.segments().read(subRegion)

    def roi(self, subRegion: SubRegion, number: int = 0) -> Any:
        return self.state.boxNodes(subRegion)[number]

    def boxes(self, subRegion: SubRegion) -> tuple[Box, ...]:
        """The ROI nodes' boxes, as voxels of the session's grid."""
        return self.controller.live.boxNodes.read(subRegion)

    def grab(self, roi: Any) -> None:
        roi.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointStartInteractionEvent)

    def letGo(self, roi: Any) -> None:
        roi.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)

    def grow(self, roi: Any, millimetres: float) -> None:
        roi.SetSize(*(s + 2 * millimetres for s in roi.GetSize()))

    def drag(self, subRegion: SubRegion, millimetres: float) -> None:
        """Take a box by its handles, grow or shrink it on all sides, and let go."""
        roi = self.roi(subRegion)
        self.grab(roi)
        for step in (1, 2):
            self.grow(roi, millimetres / 2)
            if step == 1:
                self.run()
        self.letGo(roi)
        self.run()

    def paint(self, subRegion: SubRegion, where: Box, *, erase: bool = False) -> None:
        """Change a segment as Segment Editor does: a new labelmap through vtkSlicerSegmentationsModuleLogic."""
        segmentId = self.segments().segmentId(subRegion)
        mask = np.zeros(self.labels().shape, np.uint8)
        mask[where.slices] = 1
        grid = self.controller.live.grids.reference
        image = slicer.vtkOrientedImageData()
        depth, height, width = mask.shape
        image.SetExtent(0, width - 1, 0, height - 1, 0, depth - 1)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        setIjkToRas(image, grid)
        scalars = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(mask.shape)
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        if erase:
            scalars[...] = self.mask(subRegion) & (mask == 0)
            mode = logic.MODE_REPLACE
        else:
            scalars[...] = mask
            mode = logic.MODE_MERGE_MAX
        assert logic.SetBinaryLabelmapToSegment(image, self.segmentation, segmentId, mode)


def realVolumes(scene: Any, folder: Path, part: Any = ...) -> tuple[dict[Modality, Any], np.ndarray]:
    """Load a BraTS 2021 case, or a part of it, and return its volume nodes and the expert's mask."""
    endings = {Modality.T1: "t1", Modality.T1C: "t1ce", Modality.T2: "t2", Modality.FLAIR: "flair"}
    nodes = {m: readVolume(scene, folder / f"{folder.name}_{e}.nii.gz", part) for m, e in endings.items()}
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{folder.name}_seg.nii.gz")))
    return nodes, truth[part].astype(np.uint8)


def digest(nodes: Any) -> list[tuple[Any, ...]]:
    """What must not change in nodes that are the user's."""
    result = []
    for node in nodes:
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        result.append(
            (
                node.GetID(),
                node.GetName(),
                tuple(matrix.GetElement(r, c) for r in range(4) for c in range(4)),
                slicer.util.arrayFromVolume(node).tobytes(),
                node.GetTransformNodeID(),
            )
        )
    return result
