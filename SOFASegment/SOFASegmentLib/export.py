"""Results out of the scene: label maps on the reference volume's grid, and what DICOM SEG still needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sofa_engine.case import Case
from sofa_engine.errors import OutputError
from sofa_engine.types import LabelScheme
from SOFASegmentLib.geometry import localGeometry
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.scene_state import SEGMENTATION, SceneState
from SOFASegmentLib.segments import Segments


def proposedFileName(state: SceneState, suffix: str = ".nii.gz") -> str:
    """Return a file name for the result: the reference volume's name and what is in the file."""
    volumeNode = state.reference()
    name = volumeNode.GetName() if volumeNode is not None else "case"
    return re.sub(r"[^\w.-]+", "_", name).strip("_") + "_SOFA" + suffix


def writeLabels(state: SceneState, path: Path, scheme: LabelScheme = LabelScheme.BRATS2020) -> Path:
    """Write the segments as they are in the scene, hand edits included, on the reference volume's own grid.

    Args:
        state: the scene's memory.
        path: NIfTI, NRRD or MHA, by suffix; complete or not there at all.
        scheme: label values to write.

    Raises:
        OutputError: there is no result, the place cannot be written, or the file is one of the input volumes.
    """
    from sofa_engine.writing import write_labels

    volumeNode, segmentationNode = state.reference(), state.get(SEGMENTATION)
    if volumeNode is None or segmentationNode is None:
        raise OutputError(_("There is no segmentation to write; press Segment first."))
    geometry = localGeometry(volumeNode)
    sources = {m: _fileOf(node) for m, node in state.inputs().items()}
    case = Case({}, geometry, name=volumeNode.GetName(), sources={m: f for m, f in sources.items() if f})
    return write_labels(Segments(segmentationNode, geometry).readLabels(), case, Path(path), scheme)


def missingForDicomSeg(state: SceneState) -> tuple[str, ...]:
    """Return what keeps Slicer's DICOM export from writing a DICOM SEG, a sentence each; empty if nothing does."""
    volumeNode, segmentationNode = state.reference(), state.get(SEGMENTATION)
    if volumeNode is None or segmentationNode is None:
        return (_("There is no segmentation to export; press Segment first."),)
    gaps = []
    if not volumeNode.GetAttribute("DICOM.instanceUIDs"):
        gaps.append(
            _(
                "{volume} was not loaded from DICOM, so that a DICOM SEG has no images to refer to; "
                "load it through the DICOM module."
            ).format(volume=volumeNode.GetName())
        )
    hierarchy = state.scene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(segmentationNode) if hierarchy is not None else 0
    if not item or hierarchy.GetItemAncestorAtLevel(item, "Study") == 0:
        gaps.append(
            _(
                "The segmentation is not in a study of the subject hierarchy; drag it into the patient's study in the "
                "Data module."
            )
        )
    return tuple(gaps)


def _fileOf(volumeNode: Any) -> str:
    storage = volumeNode.GetStorageNode()
    return (storage.GetFullNameFromFileName() or "") if storage is not None else ""
