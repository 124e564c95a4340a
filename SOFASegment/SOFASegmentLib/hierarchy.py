"""Where SOFA's nodes stand in the subject hierarchy."""

from __future__ import annotations

from typing import Any


def placeBeside(node: Any, volumeNode: Any) -> None:
    """Put a node into the folder or study that a volume is in; DICOM export looks for the study there.

    Without an application nobody adds nodes to the subject hierarchy; a volume that has no place there gives none.
    """
    hierarchy = volumeNode.GetScene().GetSubjectHierarchyNode()
    volumeItem = hierarchy.GetItemByDataNode(volumeNode) if hierarchy is not None else 0
    if not volumeItem:
        return
    parent = hierarchy.GetItemParent(volumeItem)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)


def patientAndStudy(volumeNode: Any) -> tuple[int, int]:
    """Return the items of the patient and the study that a volume is in; 0 where it is in none."""
    hierarchy = volumeNode.GetScene().GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy is not None else 0
    if not item:
        return 0, 0
    return hierarchy.GetItemAncestorAtLevel(item, "Patient"), hierarchy.GetItemAncestorAtLevel(item, "Study")
