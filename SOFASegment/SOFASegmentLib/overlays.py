"""Confidence as a volume over the images: only what the model is unsure of is coloured."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from SOFASegmentLib.geometry import setIjkToRas
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.live_case import LiveCase
from SOFASegmentLib.scene_state import CONFIDENCE, SceneState, nodesByClass

#: Voxels that are surer than this are left uncoloured.
_SURE = 0.8
_OPACITY = 0.6
#: Red where the model is least sure, blue where it nearly is. A table of MRML itself: those that Slicer reads from
#: files are absent where MRML runs without Slicer, and without a table nothing is drawn.
_COLOURS = "vtkMRMLColorTableNodeRainbow"
_BEFORE = "SOFA.foregroundBefore."


def showConfidence(live: LiveCase, confidence: np.ndarray) -> Any:
    """Put the session's confidence, float16 (D, H, W), into the scene's confidence volume; returns the node."""
    state, grids = live.state, live.grids
    node = state.get(CONFIDENCE)
    if node is None:
        name = state.scene.GenerateUniqueName(_("SOFA confidence"))
        node = state.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        state.set(CONFIDENCE, node)
    node.SetAndObserveTransformNodeID(live.volumeNode.GetTransformNodeID())
    # Where the working grid does not reach, nothing was asked, so that nothing is unsure either.
    doubt = grids.grid.to_reference(1.0 - confidence.astype(np.float32))
    slicer.util.updateVolumeFromArray(node, 1.0 - doubt)
    setIjkToRas(node, grids.reference)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(0.0, 1.0)
        display.SetThreshold(0.0, _SURE)
        display.SetApplyThreshold(True)
        display.SetAndObserveColorNodeID(_COLOURS)
    return node


def setForeground(state: SceneState, node: Any) -> None:
    """Lay a volume over all slice views, remembering what lay there; with None, bring that back."""
    for composite in nodesByClass(state.scene, "vtkMRMLSliceCompositeNode"):
        key = _BEFORE + (composite.GetLayoutName() or composite.GetID())
        if node is not None:
            if composite.GetForegroundVolumeID() == node.GetID():
                continue
            before = f"{composite.GetForegroundOpacity()} {composite.GetForegroundVolumeID() or ''}"
            state.node.SetParameter(key, before)
            composite.SetForegroundVolumeID(node.GetID())
            composite.SetForegroundOpacity(_OPACITY)
        elif state.node.GetParameter(key):
            opacity, _separator, volumeId = state.node.GetParameter(key).partition(" ")
            composite.SetForegroundVolumeID(volumeId or None)
            composite.SetForegroundOpacity(float(opacity))
            state.node.UnsetParameter(key)


def overlayShown(state: SceneState) -> bool:
    """Whether the confidence volume lies over a slice view."""
    node = state.get(CONFIDENCE)
    composites = nodesByClass(state.scene, "vtkMRMLSliceCompositeNode") if node is not None else []
    return any(composite.GetForegroundVolumeID() == node.GetID() for composite in composites)
