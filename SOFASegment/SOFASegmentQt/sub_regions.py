"""The section with a line per sub-region: colour, millilitres, box, lock, and what can be done to its boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

import qt
from sofa_engine.types import SUB_REGIONS, SubRegion
from SOFASegmentLib.appearance import COLOURS
from SOFASegmentLib.controller import Phase
from SOFASegmentLib.scene_state import SEGMENTATION, referenceVolumeOf

if TYPE_CHECKING:
    from SOFASegmentLib.controller import SegmentController
    from SOFASegmentLib.insights import Insights

    IconOf = Callable[[str], Any]


class SubRegionsSection:
    """Lines of the three sub-regions, undo, redo and the way to Segment Editor."""

    def __init__(self, ui: object, iconOf: IconOf) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            iconOf: returns the QIcon of a name.
        """
        self._ui, self._iconOf = ui, iconOf
        self._controller: SegmentController | None = None
        for subRegion in SUB_REGIONS:
            self._setUpLine(subRegion)
        ui.undoButton.icon, ui.redoButton.icon = iconOf("undo"), iconOf("redo")
        ui.undoButton.connect("clicked(bool)", self.onUndo)
        ui.redoButton.connect("clicked(bool)", self.onRedo)
        ui.editButton.connect("clicked(bool)", self.onEdit)
        self.update()

    def follow(self, controller: SegmentController) -> None:
        """Show this controller from now on."""
        self.unfollow()
        self._controller = controller
        controller.historyChanged.connect(self.update)
        controller.insightsChanged.connect(self._onInsights)
        self.update()

    def unfollow(self) -> None:
        """Stop listening."""
        if self._controller is not None:
            self._controller.historyChanged.disconnect(self.update)
            self._controller.insightsChanged.disconnect(self._onInsights)
        self._controller = None
        self.update()

    def update(self) -> None:
        """Show what the controller allows and what is locked and visible."""
        controller = self._controller
        ready = controller is not None and controller.phase is Phase.READY
        for subRegion in SUB_REGIONS:
            locked = controller is not None and controller.isLocked(subRegion)
            boxes = controller.state.boxNodes(subRegion) if controller is not None else []
            visible = any(node.GetDisplayVisibility() for node in boxes)
            box, lock = self._widget(subRegion, "BoxButton"), self._widget(subRegion, "LockButton")
            box.enabled, box.checked = bool(boxes), visible
            box.icon = self._iconOf("box" if visible else "box-hidden")
            lock.enabled, lock.checked = ready, locked
            lock.icon = self._iconOf("locked" if locked else "unlocked")
            self._widget(subRegion, "ResetButton").enabled = ready and not locked
            self._widget(subRegion, "AddButton").enabled = ready and not locked
            self._widget(subRegion, "DeleteButton").enabled = ready and not locked and bool(boxes)
            self._widget(subRegion, "LesionsButton").enabled = ready and not locked and bool(boxes)
        self._showVolumes(controller.insights if ready else None)
        self._ui.undoButton.enabled = ready and controller.canUndo
        self._ui.redoButton.enabled = ready and controller.canRedo
        segmentation = None if controller is None else controller.state.get(SEGMENTATION)
        self._ui.editButton.enabled = segmentation is not None
        self._ui.show3DButton.enabled = segmentation is not None
        if self._ui.show3DButton.segmentationNode() is not segmentation:
            self._ui.show3DButton.setSegmentationNode(segmentation)

    def onUndo(self) -> None:
        """Take back the last change."""
        if self._controller is not None and self._controller.canUndo:
            self._controller.undo()

    def onRedo(self) -> None:
        """Repeat what was taken back."""
        if self._controller is not None and self._controller.canRedo:
            self._controller.redo()

    def onToggleBoxes(self) -> None:
        """Show or hide all boxes."""
        if self._controller is not None:
            self._controller.setBoxesVisible(not self._controller.boxesVisible())
            self.update()

    def onEdit(self) -> None:
        """Open Segment Editor on the segmentation and the volume that it is of."""
        if self._controller is None:
            return
        segmentation = self._controller.state.get(SEGMENTATION)
        slicer.util.selectModule("SegmentEditor")
        # What Slicer itself calls when a node is edited from a selector or the Data module.
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(segmentation)
        editor.setSourceVolumeNode(referenceVolumeOf(segmentation))

    def _setUpLine(self, subRegion: SubRegion) -> None:
        swatch = qt.QPixmap(14, 14)
        swatch.fill(qt.QColor(*(round(255 * part) for part in COLOURS[subRegion])))
        self._widget(subRegion, "ColorLabel").setPixmap(swatch)
        actions = {
            "ResetButton": ("reset", lambda: self._controller.resetBox(subRegion)),
            "AddButton": ("add", lambda: self._addBox(subRegion)),
            "DeleteButton": ("delete", lambda: self._deleteBox(subRegion)),
            "LesionsButton": ("lesions", lambda: self._controller.splitLesions(subRegion)),
        }
        for name, (icon, action) in actions.items():
            button = self._widget(subRegion, name)
            button.icon = self._iconOf(icon)
            button.connect("clicked()", action)
        self._widget(subRegion, "BoxButton").connect("clicked(bool)", lambda on: self._showBoxes(subRegion, on))
        self._widget(subRegion, "LockButton").connect("clicked(bool)", lambda on: self._lock(subRegion, on))

    def _showBoxes(self, subRegion: SubRegion, visible: bool) -> None:
        for node in self._controller.state.boxNodes(subRegion):
            node.SetDisplayVisibility(visible)
        self.update()

    def _lock(self, subRegion: SubRegion, locked: bool) -> None:
        self._controller.setLocked(subRegion, locked)
        self.update()

    def _addBox(self, subRegion: SubRegion) -> None:
        """Put the new box where the user looks: at the crosshair, if there is one, else where the slices cross."""
        crosshair = slicer.util.getNodesByClass("vtkMRMLCrosshairNode", self._controller.state.scene)
        shown = [node for node in crosshair if node.GetCrosshairMode() != slicer.vtkMRMLCrosshairNode.NoCrosshair]
        self._controller.addBox(subRegion, list(shown[0].GetCrosshairRAS()) if shown else None)

    def _deleteBox(self, subRegion: SubRegion) -> None:
        """Delete the only box, or let the user choose among several."""
        nodes = self._controller.state.boxNodes(subRegion)
        if len(nodes) == 1:
            self._controller.deleteBox(nodes[0])
            return
        menu = qt.QMenu(self._widget(subRegion, "DeleteButton"))
        for node in nodes:
            action = menu.addAction(_("Delete {name}").format(name=node.GetName()))
            action.connect("triggered(bool)", lambda _on, node=node: self._controller.deleteBox(node))
        menu.popup(qt.QCursor.pos())

    def _onInsights(self, insights: Insights) -> None:
        self._showVolumes(insights)

    def _showVolumes(self, insights: Insights | None) -> None:
        for subRegion in SUB_REGIONS:
            volume = None if insights is None else insights.volumesMl.get(subRegion.value.upper())
            self._widget(subRegion, "VolumeLabel").text = "–" if volume is None else f"{volume:.1f}"

    def _widget(self, subRegion: SubRegion, part: str) -> Any:
        return getattr(self._ui, subRegion.value + part)
