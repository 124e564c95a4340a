"""What the model makes of a validation case while it learns: one slice, the truth outlined, the prediction filled."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from sofa_engine.errors import SofaError
from sofa_engine.geometry import Geometry
from sofa_engine.types import Box
from SOFASegmentLib.geometry import setIjkToRas
from SOFASegmentLib.segments import Segments, createSegmentationNode
from SOFATrainingLib.state import PREVIEW_FOUND, PREVIEW_TRUTH, PREVIEW_VOLUME, TrainingState

FILE = "preview.npz"


@dataclass(frozen=True)
class Preview:
    """One slice of a validation case.

    Attributes:
        case: its name.
        index: of the slice on axis 0 of the prepared case.
        image: grey values, uint8 (1, H, W).
        truth, found: labels of `SubRegion.label`, uint8 (1, H, W).
        geometry: where the slice lies in the patient, where the prepared case tells it, else flat at the origin.
    """

    case: str
    index: int
    image: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    geometry: Geometry


def readPreview(run: Path, prepared: Path) -> Preview | None:
    """Read the preview that a run has left, None where there is none yet."""
    try:
        with np.load(run / FILE, allow_pickle=False) as file:
            case, index = str(file["case"]), int(file["index"])
            image, truth, found = (np.atleast_3d(file[key])[None, :, :, 0] for key in ("image", "truth", "found"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return Preview(case, index, image, truth, found, _geometry(prepared / f"{case}.npz", index, image.shape))


def showPreview(state: TrainingState, preview: Preview) -> None:
    """Put a preview into the scene: a volume of one slice and a segmentation each for truth and prediction."""
    volume = state.get(PREVIEW_VOLUME)
    if volume is None:
        name = state.scene.GenerateUniqueName("SOFA training preview")
        volume = state.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        state.set(PREVIEW_VOLUME, volume)
    before = volume.GetImageData().GetDimensions() if volume.GetImageData() is not None else None
    slicer.util.updateVolumeFromArray(volume, preview.image)
    setIjkToRas(volume, preview.geometry)
    if volume.GetDisplayNode() is None:
        volume.CreateDefaultDisplayNodes()
        volume.GetDisplayNode().SetAutoWindowLevel(False)
        volume.GetDisplayNode().SetWindowLevelMinMax(0.0, 255.0)
    moved = before != preview.image.shape[::-1]
    for role, labels, title in ((PREVIEW_TRUTH, preview.truth, "truth"), (PREVIEW_FOUND, preview.found, "prediction")):
        _showLabels(state, role, volume, preview.geometry, labels, title, anew=moved)


def _showLabels(
    state: TrainingState, role: str, volume: Any, geometry: Geometry, labels: np.ndarray, title: str, *, anew: bool
) -> None:
    node = state.get(role)
    # A segmentation keeps its grid; the next run may look at another case.
    if node is not None and anew:
        state.scene.RemoveNode(node)
        node = None
    if node is None:
        node = createSegmentationNode(volume)
        node.SetName(state.scene.GenerateUniqueName(f"SOFA training {title}"))
        state.set(role, node)
        display = node.GetDisplayNode()
        display.SetVisibility2DFill(role == PREVIEW_FOUND)
        display.SetVisibility2DOutline(role == PREVIEW_TRUTH)
        display.SetOpacity2DFill(0.5)
    Segments(node, geometry).write(Box((0, 0, 0), geometry.shape), labels)


def _geometry(prepared: Path, index: int, shape: tuple[int, ...]) -> Geometry:
    from sofa_training.prepared import read_prepared

    try:
        case = read_prepared(prepared)
        matrix = case.geometry.matrix
        matrix[:3, 3] = case.geometry.index_to_ras(np.add(case.extent.lower, (index, 0, 0)))
    except SofaError:
        matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    return Geometry.from_matrix(shape, matrix)
