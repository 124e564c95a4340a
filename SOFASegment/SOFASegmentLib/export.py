"""Results out of the scene: label maps on the reference volume's grid, and what DICOM SEG still needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sofa_engine.case import Case
from sofa_engine.errors import OutputError
from sofa_engine.types import LabelScheme
from SOFASegmentLib.geometry import localGeometry
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.placement import displacedSentence, gridIn
from SOFASegmentLib.scene_state import SEGMENTATION, SceneState, referenceVolumeOf
from SOFASegmentLib.segments import Segments

if TYPE_CHECKING:
    from SOFASegmentLib.controller import SegmentController
    from SOFASegmentLib.live_case import LiveCase


def liveCase(controller: SegmentController) -> LiveCase:
    """Return the case whose result is to be written.

    Raises:
        OutputError: there is none.
    """
    if controller.live is None:
        raise OutputError(_("There is no segmentation to write; press Segment first."))
    return controller.live


def proposedFileName(controller: SegmentController, suffix: str = ".nii.gz") -> str:
    """Return a file name for the result: the name of the volume that it is on, and what is in the file."""
    name = "case" if controller.live is None else controller.live.volumeNode.GetName()
    return re.sub(r"[^\w.-]+", "_", name).strip("_") + "_SOFA" + suffix


def writeLabels(controller: SegmentController, path: Path, scheme: LabelScheme = LabelScheme.BRATS2020) -> Path:
    """Write the segments as they are in the scene, hand edits included, on the reference volume's own grid.

    The volumes are those that were segmented, whatever has been chosen since: a file never has one patient's name and
    another one's voxels.

    Args:
        controller: of a case that has been segmented.
        path: NIfTI, NRRD or MHA, by suffix; complete or not there at all.
        scheme: label values to write.

    Raises:
        OutputError: there is no result, the segmentation is not on the volume any more, the place cannot be written, or
            the file is one of the input volumes.
    """
    from sofa_engine.writing import write_labels

    live = liveCase(controller)
    volumeNode, segmentationNode = live.volumeNode, live.segmentationNode
    if referenceVolumeOf(segmentationNode) is not volumeNode:
        raise OutputError(
            _(
                "{segmentation} is not a segmentation of {volume} any more; save it in the Segmentations module, or"
                " press Segment to segment {volume} again."
            ).format(segmentation=segmentationNode.GetName(), volume=volumeNode.GetName())
        )
    grid = gridIn(segmentationNode, volumeNode)
    if grid is None:
        raise OutputError(displacedSentence(segmentationNode, volumeNode))
    sources = {m: _fileOf(node) for m, node in controller.inputs.items()}
    case = Case(
        {}, localGeometry(volumeNode), name=volumeNode.GetName(), sources={m: f for m, f in sources.items() if f}
    )
    return write_labels(Segments(segmentationNode, grid).readLabels(), case, Path(path), scheme)


def missingForDicomSeg(state: SceneState) -> tuple[str, ...]:
    """Return what keeps Slicer's DICOM export from writing a DICOM SEG, a sentence each; empty if nothing does."""
    segmentationNode = state.get(SEGMENTATION)
    volumeNode = None if segmentationNode is None else referenceVolumeOf(segmentationNode)
    if volumeNode is None:
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
