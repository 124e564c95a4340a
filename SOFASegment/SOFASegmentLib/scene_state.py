"""What SOFA remembers, all of it in the scene.

What is chosen and shown is in node references and parameters of one vtkMRMLScriptedModuleNode; boxes and locks are with
the segmentation that they belong to, so that the studies of one scene do not share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import slicer

from sofa_engine.types import MODALITIES, SUB_REGIONS, Modality, SubRegion
from SOFASegmentLib.segments import isSofaSegmentation

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
        """Return the segmentation that lies on one of the chosen volumes, or None: a study leads back to its work."""
        chosen = self.inputs()
        return self.segmentationOn(*(chosen[m] for m in _REFERENCE_ORDER if m in chosen))

    def segmentationOn(self, *volumeNodes: Any) -> Any:
        """Return the segmentation that lies on one of these volumes, the one shown last before all others, or None."""
        current = self.get(SEGMENTATION)
        if current is not None and referenceVolumeOf(current) in volumeNodes:
            return current
        nodes = nodesByClass(self.scene, "vtkMRMLSegmentationNode") if volumeNodes else []
        found = [(referenceVolumeOf(node), node) for node in nodes if isSofaSegmentation(node)]
        return next((node for wanted in volumeNodes for volume, node in found if volume is wanted), None)

    def showSegmentation(self, node: Any) -> None:
        """Work on a segmentation from now on; that of another study is hidden with its boxes, which nobody answers."""
        former = self.get(SEGMENTATION)
        if former is node:
            return
        shown = True
        if former is not None:
            boxes = self.allBoxNodes(former)
            shown = not boxes or any(box.GetDisplayVisibility() for box in boxes)
            for hidden in (former, *boxes):
                hidden.SetDisplayVisibility(False)
        self.set(SEGMENTATION, node)
        node.SetDisplayVisibility(True)
        for box in self.allBoxNodes(node):
            box.SetDisplayVisibility(shown)

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
        return _referenced(self.node, role)

    def setAll(self, role: str, nodes: Iterable[Any]) -> None:
        """Remember several nodes of one role."""
        _refer(self.node, role, nodes)

    def boxNodes(self, subRegion: SubRegion, segmentationNode: Any = None) -> list[Any]:
        """Return the ROI nodes of a sub-region of the current or a given segmentation, as the session's boxes go."""
        memory = self._memory()
        return _referenced(memory if segmentationNode is None else segmentationNode, _BOXES + subRegion.value)

    def allBoxNodes(self, segmentationNode: Any) -> list[Any]:
        """Return the ROI nodes of all sub-regions of a segmentation."""
        return [node for subRegion in SUB_REGIONS for node in self.boxNodes(subRegion, segmentationNode)]

    def setBoxNodes(self, subRegion: SubRegion, nodes: Iterable[Any]) -> None:
        """Remember the ROI nodes of a sub-region of the current segmentation."""
        _refer(self._memory(), _BOXES + subRegion.value, nodes)

    def subRegionOf(self, roiNode: Any) -> SubRegion | None:
        """Return the sub-region of the current segmentation whose box the node is, or None for any other ROI."""
        return next((r for r in SUB_REGIONS if roiNode in self.boxNodes(r)), None)

    @property
    def locked(self) -> frozenset[SubRegion]:
        """Sub-regions of the current segmentation that keep every voxel they have."""
        words = (self._memory().GetAttribute(_LOCKED) or "").split()
        return frozenset(r for r in SUB_REGIONS if r.value in words)

    @locked.setter
    def locked(self, subRegions: Iterable[SubRegion]) -> None:
        chosen = frozenset(subRegions)
        self._memory().SetAttribute(_LOCKED, " ".join(r.value for r in SUB_REGIONS if r in chosen))

    def _memory(self) -> Any:
        """Return the node that boxes and locks are kept on: the current segmentation, or else the parameter node.

        Versions before kept them on the parameter node always; the segmentation takes over what is there.
        """
        segmentation = self.get(SEGMENTATION)
        if segmentation is None:
            return self.node
        for role in (_BOXES + r.value for r in SUB_REGIONS):
            if self.node.GetNumberOfNodeReferences(role):
                _refer(segmentation, role, _referenced(self.node, role))
                self.node.RemoveNodeReferenceIDs(role)
        words = self.node.GetAttribute(_LOCKED) or self.node.GetParameter(_LOCKED)
        if words:
            segmentation.SetAttribute(_LOCKED, words)
            self.node.RemoveAttribute(_LOCKED)
            self.node.UnsetParameter(_LOCKED)
        return segmentation


def _referenced(owner: Any, role: str) -> list[Any]:
    nodes = [owner.GetNthNodeReference(role, n) for n in range(owner.GetNumberOfNodeReferences(role))]
    return [node for node in nodes if node is not None]


def _refer(owner: Any, role: str, nodes: Iterable[Any]) -> None:
    with slicer.util.NodeModify(owner):
        owner.RemoveNodeReferenceIDs(role)
        for node in nodes:
            owner.AddNodeReferenceID(role, node.GetID())
