"""What SOFA remembers, all of it in the scene: node references and parameters of one vtkMRMLScriptedModuleNode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import slicer

from sofa_engine.types import MODALITIES, SUB_REGIONS, Modality, SubRegion

MODULE_NAME = "SOFASegment"

#: Node reference roles. The inputs' and the segmentation's are those of equally named parameterNodeWrapper fields.
SEGMENTATION = "segmentation"
CONFIDENCE = "SOFA.confidence"
VOLUMES_TABLE = "SOFA.volumesTable"
ATTENTION_TABLE = "SOFA.attentionTable"
ATTENTION_CHART = "SOFA.attentionChart"
ATTENTION_SERIES = "SOFA.attentionSeries"
_BOXES = "SOFA.box."
_LOCKED = "SOFA.locked"
#: Which sequence's grid results are on, where there is a choice: enhancing tumour is drawn on T1c.
_REFERENCE_ORDER = (Modality.T1C, Modality.FLAIR, Modality.T2, Modality.T1)


def nodesByClass(scene: Any, className: str) -> list[Any]:
    """Return a scene's nodes of a class; `slicer.util.getNodesByClass` always looks in slicer.mrmlScene."""
    return [scene.GetNthNodeByClass(n, className) for n in range(scene.GetNumberOfNodesByClass(className))]


def referenceVolumeOf(segmentationNode: Any) -> Any:
    """Return the volume node on whose grid a segmentation lies, or None if it is not known or gone."""
    return segmentationNode.GetNodeReference(segmentationNode.GetReferenceImageGeometryReferenceRole())


class SceneState:
    """The parameter node, in SOFA's words. Two wrappers of one node always agree, since neither keeps anything."""

    def __init__(self, parameterNode: Any) -> None:
        self.node = parameterNode

    @staticmethod
    def fromScene(scene: Any) -> SceneState:
        """Return the state that the scene holds, creating it where there is none.

        The node is made as ScriptedLoadableModuleLogic makes it, so that a scene goes back and forth between Slicer
        and the browser face.
        """
        node = scene.GetSingletonNode(MODULE_NAME, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(MODULE_NAME)
            node.SetName(MODULE_NAME)
            node = scene.AddNode(node)
        node.SetAttribute("ModuleName", MODULE_NAME)
        return SceneState(node)

    @property
    def scene(self) -> Any:
        """The scene that the parameter node is in, or None once it has been removed."""
        return self.node.GetScene()

    def inputs(self) -> dict[Modality, Any]:
        """Return the chosen volume node per sequence, in the paper's order, without the missing ones."""
        nodes = {m: self.node.GetNodeReference(m.value) for m in MODALITIES}
        return {m: node for m, node in nodes.items() if node is not None}

    def setInputs(self, nodes: Mapping[Modality, Any]) -> None:
        """Choose the volumes; a sequence that `nodes` lacks is cleared."""
        with slicer.util.NodeModify(self.node):
            for modality in MODALITIES:
                node = nodes.get(modality)
                self.node.SetNodeReferenceID(modality.value, node.GetID() if node is not None else None)

    def referenceModality(self) -> Modality | None:
        """Return the sequence whose grid results are on.

        It is the one that the segmentation lies on: work that was done stays where it is when a sequence is added
        later. Without a segmentation it is the first of T1c, FLAIR, T2, T1 that is chosen.
        """
        chosen, segmentation = self.inputs(), self.chosenSegmentation()
        fixed = None if segmentation is None else referenceVolumeOf(segmentation)
        return next((m for m in _REFERENCE_ORDER if m in chosen and fixed in (None, chosen[m])), None)

    def chosenSegmentation(self) -> Any:
        """Return the segmentation that lies on one of the chosen volumes, or None."""
        node = self.get(SEGMENTATION)
        return node if node is not None and referenceVolumeOf(node) in self.inputs().values() else None

    def reference(self) -> Any:
        """Return the volume node whose grid results are on, or None without inputs."""
        modality = self.referenceModality()
        return None if modality is None else self.inputs()[modality]

    def get(self, role: str) -> Any:
        """Return the node of a role, or None."""
        return self.node.GetNodeReference(role)

    def set(self, role: str, node: Any) -> None:
        """Remember the node of a role; None forgets it."""
        self.node.SetNodeReferenceID(role, node.GetID() if node is not None else None)

    def getAll(self, role: str) -> list[Any]:
        """Return all nodes of a role, in order, without those that have been deleted."""
        nodes = [self.node.GetNthNodeReference(role, n) for n in range(self.node.GetNumberOfNodeReferences(role))]
        return [node for node in nodes if node is not None]

    def setAll(self, role: str, nodes: Iterable[Any]) -> None:
        """Remember several nodes of one role."""
        with slicer.util.NodeModify(self.node):
            self.node.RemoveNodeReferenceIDs(role)
            for node in nodes:
                self.node.AddNodeReferenceID(role, node.GetID())

    def boxNodes(self, subRegion: SubRegion) -> list[Any]:
        """Return the ROI nodes of a sub-region, in the order of the session's boxes."""
        return self.getAll(_BOXES + subRegion.value)

    def setBoxNodes(self, subRegion: SubRegion, nodes: Iterable[Any]) -> None:
        """Remember the ROI nodes of a sub-region."""
        self.setAll(_BOXES + subRegion.value, nodes)

    def subRegionOf(self, roiNode: Any) -> SubRegion | None:
        """Return the sub-region whose box the node is, or None for anybody else's ROI."""
        return next((r for r in SUB_REGIONS if roiNode in self.boxNodes(r)), None)

    @property
    def locked(self) -> frozenset[SubRegion]:
        """Sub-regions that keep every voxel they have."""
        words = (self.node.GetParameter(_LOCKED) or "").split()
        return frozenset(r for r in SUB_REGIONS if r.value in words)

    @locked.setter
    def locked(self, subRegions: Iterable[SubRegion]) -> None:
        chosen = frozenset(subRegions)
        self.node.SetParameter(_LOCKED, " ".join(r.value for r in SUB_REGIONS if r in chosen))
