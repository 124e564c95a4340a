"""The four input volumes: which is which, whether they fit, and what the engine gets to see of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import slicer
from slicer.util import arrayFromVolume

from sofa_engine.case import Case
from sofa_engine.errors import InputError
from sofa_engine.naming import case_words_of, modality_of
from sofa_engine.types import MODALITIES, Modality
from SOFASegmentLib.geometry import localGeometry, noImageSentence, setIjkToRas, worldGeometry
from SOFASegmentLib.hierarchy import patientAndStudy, placeBeside
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.scene_state import nodesByClass

#: Origins, directions and spacings rarely survive file formats better than this.
_SAME_GRID_MM = 0.01
#: Attribute of a volume that `Alignment` made: the name of the volume that it was made from.
_ALIGNED_FROM = "SOFA.alignedFrom"


def scalarVolumes(scene: Any) -> list[Any]:
    """Return the grey-scale volumes of a scene, label maps left out."""
    nodes = nodesByClass(scene, "vtkMRMLScalarVolumeNode")
    return [n for n in nodes if n.GetClassName() == "vtkMRMLScalarVolumeNode" and not n.GetHideFromEditors()]


def guessModalities(nodes: Iterable[Any]) -> dict[Modality, Any]:
    """Choose a volume for each sequence by the nodes' names; of two candidates the one that was loaded last.

    All are of one group (see `groupOf`), so that two patients are never mixed: the one with the most sequences, and of
    several the one that was loaded last.
    """
    groups: dict[tuple[Any, ...], dict[Modality, Any]] = {}
    for node in nodes:
        modality = modality_of(node.GetName() or "")
        if modality is not None:
            group = groupOf(node)
            groups[group] = {**groups.pop(group, {}), modality: node}
    # `max` takes the first of several; the groups are in the order of what was loaded last.
    guessed = max(reversed(groups.values()), key=len, default={})
    return {m: guessed[m] for m in MODALITIES if m in guessed}


def groupOf(volumeNode: Any) -> tuple[Any, ...]:
    """Return what the volumes of one examination have in common, to be compared with that of other volumes.

    That is the study or patient in the subject hierarchy, else what is left of the name without the sequence's words.
    """
    patient, study = patientAndStudy(volumeNode)
    if study or patient:
        return ("hierarchy", study or patient)
    return ("name", *case_words_of(volumeNode.GetAttribute(_ALIGNED_FROM) or volumeNode.GetName() or ""))


def mixtureWarning(nodes: Iterable[Any]) -> str:
    """Return a sentence if volumes are of several patients or studies of the subject hierarchy, else an empty one."""
    patients, studies = {}, {}
    for node in nodes:
        hierarchy = node.GetScene().GetSubjectHierarchyNode()
        for found, item in zip((patients, studies), patientAndStudy(node), strict=True):
            if item:
                found[item] = hierarchy.GetItemName(item)
    if len(patients) > 1:
        sentence = _("The volumes are of different patients ({names}); choose those of one patient.")
        return sentence.format(names=", ".join(patients.values()))
    if len(studies) > 1:
        sentence = _("The volumes are of different studies ({names}); choose those of one study.")
        return sentence.format(names=", ".join(studies.values()))
    return ""


def gridReport(nodes: Mapping[Modality, Any], reference: Modality) -> tuple[bool, str]:
    """Say whether the volumes share the reference's grid, and warn if they are of different patients or studies.

    Returns:
        Whether they share the grid, and a sentence or two for the user.
    """
    fits, sentence = _gridSentence(nodes, reference)
    return fits, " ".join(filter(None, (mixtureWarning(nodes.values()), sentence)))


def _gridSentence(nodes: Mapping[Modality, Any], reference: Modality) -> tuple[bool, str]:
    try:
        grids = {m: worldGeometry(node) for m, node in nodes.items()}
    except InputError as error:
        return False, str(error)
    fixed = grids[reference]
    others = [m for m, grid in grids.items() if not grid.same_grid(fixed, _SAME_GRID_MM)]
    depth, height, width = fixed.shape
    size = _("{columns} × {rows} × {slices} voxels of {spacing} mm").format(
        columns=width, rows=height, slices=depth, spacing=" × ".join(f"{s:.3g}" for s in fixed.spacing[::-1])
    )
    if not others:
        one = _("The volume has {size}.") if len(grids) == 1 else _("All volumes share one grid: {size}.")
        return True, one.format(size=size)
    sentence = (
        _("{names} lies on another grid than {reference} ({size}); press Align to resample.")
        if len(others) == 1
        else _("{names} lie on another grid than {reference} ({size}); press Align to resample.")
    )
    names = _(" and ").join(m.title for m in others)
    return False, sentence.format(names=names, reference=reference.title, size=size)


def stampsOf(nodes: Mapping[Modality, Any]) -> tuple[Any, ...]:
    """Return what differs as soon as other volumes are meant, or others' voxels."""
    return tuple((m, n.GetID(), n.GetImageData().GetMTime(), worldGeometry(n)) for m, n in nodes.items())


def caseFromVolumes(nodes: Mapping[Modality, Any], reference: Modality) -> Case:
    """Return the volumes as the engine's case, on the reference's grid in world coordinates.

    The voxels are copied, so that the work may go on while the user changes the scene.

    Raises:
        InputError: no volume, one without an image, one that is used twice, or grids that differ.
    """
    if not nodes:
        raise InputError(_("No volume is chosen; choose at least one of T1, T1c, T2 and FLAIR."))
    seen: dict[str, Modality] = {}
    for modality, node in nodes.items():
        other = seen.setdefault(node.GetID(), modality)
        if other is not modality:
            raise InputError(
                _("{volume} is chosen as both {one} and {other}; choose another volume for one.").format(
                    volume=node.GetName(), one=other.title, other=modality.title
                )
            )
    fits, sentence = gridReport(nodes, reference)
    if not fits:
        raise InputError(sentence)
    images = {m: np.array(_array(node), dtype=np.float32) for m, node in nodes.items()}
    return Case(
        images=images,
        geometry=worldGeometry(nodes[reference]),
        name=nodes[reference].GetName(),
        sources={m: node.GetName() for m, node in nodes.items()},
    )


class Alignment:
    """Volumes that are brought onto one grid, in steps, so that the slow one can run in the background.

    Attributes:
        nodes: the given volumes, by sequence.
        warnings: sentences that the user should read, known once `compute` has run.
    """

    def __init__(self, nodes: Mapping[Modality, Any], reference: Modality, *, register: bool = False) -> None:
        """Copy the voxels; called on the main thread.

        Args:
            nodes: the chosen volumes.
            reference: whose grid to use.
            register: whether to move the others rigidly onto the reference first.

        Raises:
            InputError: a volume is empty or bent by a transform.
        """
        # Reading pulls in libraries that a user who needs no alignment should not wait for.
        from sofa_engine.reading import Volume

        self.warnings: tuple[str, ...] = ()
        self.nodes, self._reference, self._register = dict(nodes), reference, register
        self._aligned: Case | None = None
        self._volumes = {
            m: Volume(np.array(_array(node), dtype=np.float32), worldGeometry(node), node.GetName())
            for m, node in nodes.items()
        }

    def compute(self) -> None:
        """Register and resample; may be called on any thread, and takes up to a minute when registering.

        Raises:
            InputError: a volume shares no space with the reference, or cannot be registered to it.
        """
        from sofa_engine.alignment import align as alignVolumes

        self._aligned = alignVolumes(self._volumes, reference=self._reference, register=self._register)
        self.warnings = self._aligned.warnings

    @property
    def wanted(self) -> bool:
        """Whether all volumes are still in a scene."""
        return all(node.GetScene() is not None for node in self.nodes.values())

    def show(self) -> dict[Modality, Any]:
        """Add what was computed as new volume nodes; no given node is changed. Called on the main thread.

        Returns:
            A node per sequence: the given one where it fits already, else a new one.
        """
        fixed, result = self.nodes[self._reference], {}
        for modality, node in self.nodes.items():
            same = self._volumes[modality].geometry.same_grid(self._aligned.geometry, _SAME_GRID_MM)
            kept = node is fixed or (same and not self._register)
            result[modality] = node if kept else _newVolume(self._aligned.images[modality], node, fixed)
        return result


def align(nodes: Mapping[Modality, Any], reference: Modality, *, register: bool = False) -> dict[Modality, Any]:
    """Do all steps of an `Alignment` at once; takes and raises what they do."""
    alignment = Alignment(nodes, reference, register=register)
    alignment.compute()
    return alignment.show()


def _newVolume(voxels: np.ndarray, source: Any, fixed: Any) -> Any:
    scene = source.GetScene()
    name = scene.GenerateUniqueName(_("{volume} aligned").format(volume=source.GetName()))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, voxels)
    setIjkToRas(node, localGeometry(fixed))
    node.SetAttribute(_ALIGNED_FROM, source.GetAttribute(_ALIGNED_FROM) or source.GetName())
    node.SetAndObserveTransformNodeID(fixed.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    placeBeside(node, source)
    return node


def _array(node: Any) -> np.ndarray:
    if node.GetImageData() is None or node.GetImageData().GetPointData().GetScalars() is None:
        raise InputError(noImageSentence(node))
    return arrayFromVolume(node)
