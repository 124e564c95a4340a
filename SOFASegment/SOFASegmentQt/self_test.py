"""The module's self test: a made-up head, a tiny network with random weights in a real engine process, no downloads."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from sofa_engine.types import MODALITIES, SubRegion
from SOFASegmentLib.controller import Phase
from SOFASegmentLib.geometry import localGeometry
from SOFASegmentLib.scene_state import SEGMENTATION
from SOFASegmentLib.segments import Segments
from SOFASegmentQt.dependencies import isInstalled
from SOFASegmentQt.engine import EngineLink
from SOFASegmentQt.settings import Device, EngineSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from unittest import TestCase

_SHAPE = (24, 48, 40)
_TIMEOUT_S = 180.0


def missingPackages() -> list[str]:
    """Return the Python packages without which no engine starts; a test installs nothing."""
    resources = Path(__file__).parents[1] / "Resources"
    lines = [
        line
        for name in ("SOFASegment-requirements.txt", "SOFASegment-engine-requirements.txt")
        for line in (resources / name).read_text(encoding="utf-8").splitlines()
    ]
    names = [re.match(r"[\w.-]+", line) for line in lines]
    return [name for name in ["torch", *(found[0] for found in names if found)] if not isInstalled(name)]


def segmentAndDragABox(test: TestCase, logic: Any) -> None:
    """Segment a made-up head, add a box, move it, undo, and check the scene after each step.

    Args:
        test: whose assertions to use.
        logic: the module's logic, with nothing segmented yet.
    """
    logic.engine = EngineLink(factory="sofa_engine.tiny:open_tiny_session")
    logic.engine.configure(EngineSettings(device=Device.CPU))
    parameters = logic.getParameterNode()
    for modality, node in _addHead().items():
        setattr(parameters, modality, node)
    controller = logic.controllerOf(parameters)
    failures: list[str] = []
    controller.failed.connect(failures.append)

    controller.segment()
    _wait(lambda: controller.phase is Phase.READY or failures)
    test.assertEqual(failures, [])
    segmentation = controller.state.get(SEGMENTATION)
    test.assertEqual(segmentation.GetSegmentation().GetNumberOfSegments(), 3)
    test.assertFalse(controller.model.trained)

    controller.setLocked(SubRegion.ED, True)
    locked = _mask(controller, SubRegion.ED)
    before = len(controller.state.boxNodes(SubRegion.ET))
    controller.addBox(SubRegion.ET)
    _wait(lambda: controller.canUndo or failures)
    test.assertEqual(failures, [])
    boxes = controller.state.boxNodes(SubRegion.ET)
    test.assertEqual(len(boxes), before + 1)

    boxes[-1].InvokeEvent(slicer.vtkMRMLMarkupsNode.PointStartInteractionEvent)
    boxes[-1].SetSize(*(0.6 * size for size in boxes[-1].GetSize()))
    boxes[-1].InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)
    _wait(lambda: controller.insights is not None or failures)
    test.assertEqual(failures, [])
    test.assertTrue(np.array_equal(_mask(controller, SubRegion.ED), locked), "a locked sub-region lost voxels")

    controller.undo()
    _wait(lambda: controller.canRedo or failures)
    test.assertEqual(failures, [])


def _addHead() -> dict[str, Any]:
    """Add four volumes of a ball with a smaller, brighter ball in it."""
    z, y, x = np.indices(_SHAPE) - (np.array(_SHAPE).reshape(3, 1, 1, 1) - 1) / 2
    head = (z / 11) ** 2 + (y / 22) ** 2 + (x / 18) ** 2 <= 1
    tumour = z**2 + (y - 5) ** 2 + (x + 4) ** 2 <= 36
    nodes = {}
    for index, modality in enumerate(MODALITIES):
        image = np.where(head, 100 + 10 * index + np.where(tumour, 80, 0), 0).astype(np.float32)
        nodes[modality.value] = slicer.util.addVolumeFromArray(image, name=f"SelfTest_{modality.value}")
    return nodes


def _mask(controller: Any, subRegion: SubRegion) -> np.ndarray:
    state = controller.state
    return Segments(state.get(SEGMENTATION), localGeometry(state.reference())).read(subRegion).copy()


def _wait(until: Callable[[], object]) -> None:
    end = time.monotonic() + _TIMEOUT_S
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"The self test waited {_TIMEOUT_S:.0f} seconds in vain.")
        slicer.app.processEvents()
        time.sleep(0.01)
