"""The module's self test: a made-up head becomes a case of a dataset and is checked; nothing is downloaded."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from sofa_engine.types import MODALITIES, Box, SubRegion
from SOFASegmentLib.geometry import localGeometry
from SOFASegmentLib.segments import Segments, createSegmentationNode
from SOFATrainingLib.case_folder import addCase
from SOFATrainingLib.controller import Phase
from SOFATrainingLib.state import TrainingState

if TYPE_CHECKING:
    from unittest import TestCase

_SHAPE = (12, 24, 20)
_TIMEOUT_S = 120.0


def addAndCheckACase(test: TestCase, logic: Any) -> None:
    """Write a case, check the dataset in its own process, and find the case good.

    Args:
        test: whose assertions to use.
        logic: the module's logic.
    """
    nodes = {modality: _addVolume(modality.title, number) for number, modality in enumerate(MODALITIES)}
    reference = nodes[MODALITIES[1]]
    truth = createSegmentationNode(reference)
    labels = np.zeros(_SHAPE, np.uint8)
    labels[3:9, 6:16, 6:16] = SubRegion.ED.label
    labels[4:8, 8:14, 8:14] = SubRegion.ET.label
    Segments(truth, localGeometry(reference)).write(Box((0, 0, 0), _SHAPE), labels)
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "cases"
        added = addCase(dataset, "made-up", nodes, truth)
        test.assertEqual(len(list(added.glob("*.nii.gz"))), 5)
        controller = logic.controller
        controller.follow(TrainingState(logic.getParameterNode().parameterNode))
        controller.state.dataset = dataset
        failures: list[str] = []
        controller.failed.connect(failures.append)
        controller.check()
        end = time.monotonic() + _TIMEOUT_S
        while controller.phase is Phase.CHECKING and time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.02)
        test.assertEqual(failures, [])
        test.assertEqual([(row.case, row.problem) for row in controller.rows], [("made-up", "")])


def _addVolume(name: str, seed: int) -> Any:
    noise = np.random.default_rng(seed).normal(0, 5, _SHAPE)
    voxels = np.zeros(_SHAPE, np.float32)
    voxels[1:-1, 2:-2, 2:-2] = (300 + 100 * seed + noise)[1:-1, 2:-2, 2:-2]
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"made-up {name}")
    slicer.util.updateVolumeFromArray(node, voxels)
    return node
