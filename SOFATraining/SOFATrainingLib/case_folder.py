"""A case of the scene becomes a case of the dataset: four volumes and the corrected segmentation, on one grid."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sofa_engine.case import Case
from sofa_engine.errors import InputError, OutputError
from sofa_engine.types import MODALITIES, SUB_REGIONS, Modality, SubRegion
from SOFASegmentLib.geometry import localGeometry
from SOFASegmentLib.scene_state import referenceVolumeOf
from SOFASegmentLib.segments import Segments
from SOFASegmentLib.volumes import caseFromVolumes

#: File names of BraTS 2018 to 2021, whose labels (1, 2, 4) are SOFA's own.
_SUFFIXES = {Modality.T1: "t1", Modality.T1C: "t1ce", Modality.T2: "t2", Modality.FLAIR: "flair"}
#: How segments are called by people who drew them without SOFA.
_SPOKEN = {
    SubRegion.NCR: ("ncr", "necrosis", "necrotic core", "necrotic", "net", "ncr/net"),
    SubRegion.ED: ("ed", "oedema", "edema", "peritumoral edema", "peritumoural oedema"),
    SubRegion.ET: ("et", "enhancing tumour", "enhancing tumor", "enhancing", "enhancing lesion"),
}


class TruthSegments(Segments):
    """Segments of SOFA, or segments that somebody named after the sub-regions."""

    def segmentId(self, subRegion: SubRegion) -> str | None:
        """Return the ID of a sub-region's segment by its tag, else by its name, else None."""
        tagged = super().segmentId(subRegion)
        if tagged is not None:
            return tagged
        names = {subRegion.title.lower(), *_SPOKEN[subRegion]}
        ids = self.segmentation.GetSegmentIDs()
        return next((i for i in ids if self.segmentation.GetSegment(i).GetName().strip().lower() in names), None)


def addCase(dataset: Path, name: str, nodes: Mapping[Modality, Any], truthNode: Any) -> Path:
    """Write a case of the scene as a new folder of a dataset, in the layout of BraTS 2021; nodes stay as they are.

    Args:
        dataset: folder of cases; made where it does not exist yet.
        name: of the case; whatever file names cannot hold becomes "_".
        nodes: a volume node per sequence, all four, on one grid.
        truthNode: segmentation with at least one of the three sub-regions.

    Returns:
        The new folder, complete.

    Raises:
        InputError: a sequence is missing, the grids differ, the segmentation has no sub-region or is of other volumes,
            or the dataset is no folder of cases in a layout of BraTS.
        OutputError: there is such a case already, or the folder cannot be written; nothing is left behind.
    """
    missing = [m.title for m in MODALITIES if m not in nodes]
    if missing:
        raise InputError(f"Training needs all four sequences, and {' and '.join(missing)} is not chosen.")
    fileName = safeName(name)
    if not fileName:
        raise InputError("Give the case a name, which becomes the name of its folder.")
    if dataset.suffix.lower() == ".csv":
        raise InputError("A case can only be added to a folder of cases, not to a table; choose a folder.")
    if (dataset / "dataset.json").is_file():
        raise InputError(
            f"{dataset} has a dataset.json, whose cases lie in imagesTr and labelsTr, so that a case added here would "
            "never be found; choose another folder."
        )
    case = caseFromVolumes(nodes, Modality.T1C)
    labels = _truth(truthNode, nodes)
    target = dataset / fileName
    if target.exists():
        raise OutputError(f"{dataset} has a case {fileName} already, which stays as it is; choose another name.")
    try:
        dataset.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=dataset))
        try:
            _writeFiles(part, fileName, case, labels)
            part.chmod(0o755)  # a temporary folder is its maker's alone
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except (OSError, RuntimeError) as error:  # ITK's writers raise RuntimeError
        reason = getattr(error, "strerror", None) or "the disk may be full"
        raise OutputError(f"{target} cannot be written ({reason}); choose another folder.") from error
    return target


def proposedName(dataset: Path | None, volumeNode: Any) -> str:
    """Return a name for a case after its volume, with a number where the dataset has that name already.

    The number is one by which `sofa_training.subjects` knows the patient again.
    """
    stem = safeName(re.sub(r"(?i)[ _-]*(t1ce|t1c|t1gd)$", "", volumeNode.GetName())) or "case"
    names = (stem if number == 1 else f"{stem}_case{number}" for number in range(1, 10_000))
    return next(name for name in names if dataset is None or not (dataset / name).exists())


def safeName(name: str) -> str:
    """Return a name as a file name on all systems."""
    return re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("_.")


def _truth(truthNode: Any, nodes: Mapping[Modality, Any]) -> np.ndarray:
    if truthNode is None:
        raise InputError("Choose the segmentation that is the truth of this case.")
    # Two patients may well share a grid, so that nothing else would tell that the truth is another's.
    drawnOn = referenceVolumeOf(truthNode)
    if drawnOn is not None and drawnOn not in nodes.values():
        raise InputError(
            f"{truthNode.GetName()} was drawn on {drawnOn.GetName()}, which is none of the four volumes; choose the "
            "segmentation of these, or make one of them its source geometry in Segment Editor."
        )
    volumeNode = nodes[Modality.T1C]
    if truthNode.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        raise InputError(
            f"{truthNode.GetName()} and {volumeNode.GetName()} are under different transforms; put both under the same "
            "one, or harden the transforms."
        )
    segments = TruthSegments(truthNode, localGeometry(volumeNode))
    if not any(segments.segmentId(r) for r in SUB_REGIONS):
        names = ", ".join(r.title for r in SUB_REGIONS)
        raise InputError(f"{truthNode.GetName()} has no segment for a sub-region; name its segments {names}.")
    labels = segments.readLabels()
    if not labels.any():
        raise InputError(f"The segments of {truthNode.GetName()} are empty; draw the tumour first.")
    return labels


def _writeFiles(folder: Path, name: str, case: Case, labels: np.ndarray) -> None:
    # What writes files pulls in libraries that nobody should wait for who adds no case.
    import SimpleITK as sitk

    from sofa_engine.itk_images import to_itk
    from sofa_engine.writing import write_labels

    for modality, image in case.images.items():
        path = folder / f"{name}_{_SUFFIXES[modality]}.nii.gz"
        sitk.WriteImage(to_itk(image, case.geometry), str(path), useCompression=True)
    write_labels(labels, case.geometry, folder / f"{name}_seg.nii.gz")
