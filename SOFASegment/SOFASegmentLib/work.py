"""Work that a step would destroy, and the sentence with which a face asks before it."""

from __future__ import annotations

from typing import Any

from SOFASegmentLib.controller import Phase, SegmentController
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.scene_state import SEGMENTATION


class Work:
    """Knows what the user would lose of a controller's result; sentences are empty where that is nothing."""

    def __init__(self, controller: SegmentController) -> None:
        """Watch a controller, until `close`."""
        self._controller = controller
        self._exported = True
        controller.labelsChanged.connect(self._onLabelsChanged)

    def close(self) -> None:
        """Stop watching."""
        self._controller.labelsChanged.disconnect(self._onLabelsChanged)

    def exported(self) -> None:
        """Note that the label map as it is now has been written to where the user keeps it."""
        self._exported = True

    def lostBySegmenting(self) -> str:
        """Say what a first pass would replace: whatever a person has done to the result that the scene holds."""
        controller, live = self._controller, self._controller.live
        node = controller.state.chosenSegmentation()
        if controller.phase is Phase.RUNNING or node is None:
            return ""
        locked = node is controller.state.get(SEGMENTATION) and bool(controller.state.locked)
        # Of another study, of a scene from a file, or of a session that was let go: nobody knows any more who made it.
        known = live is not None and node is live.segmentationNode and not live.resumed
        if known and not (locked or controller.canUndo or controller.canRedo):
            return ""
        if locked:
            return _(
                "Segmenting again replaces the boxes and everything painted by hand, also in sub-regions that are "
                "locked."
            )
        return _("Segmenting again replaces the boxes and everything painted by hand.")

    def lostByLeaving(self) -> str:
        """Say what is lost when the case is put away."""
        if self._controller.live is None or self._exported:
            return ""
        return _("The segmentation was not exported since it last changed. If you go on, it is lost.")

    def _onLabelsChanged(self, _extent: Any) -> None:
        self._exported = False
