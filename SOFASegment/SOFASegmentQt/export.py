"""The section that saves results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

import qt
from sofa_engine.errors import SofaError
from sofa_engine.types import LabelScheme
from SOFASegmentLib import export, report
from SOFASegmentLib.controller import Phase
from SOFASegmentLib.scene_state import SEGMENTATION

if TYPE_CHECKING:
    from SOFASegmentLib.controller import SegmentController


#: The DICOM plugin that writes segmentations.
_WRITER = "DICOMSegmentationPlugin"


class ExportSection:
    """NIfTI, DICOM SEG, boxes and report."""

    def __init__(
        self,
        ui: object,
        getScheme: Callable[[], LabelScheme],
        prepareToDraw: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        """Connect the widgets.

        Args:
            ui: widgets by name.
            getScheme: returns the label values to write.
            prepareToDraw: makes sure that pictures can be drawn; False, with a sentence, where they cannot.
            tell: shows one sentence to the user.
        """
        self._ui, self._getScheme, self._prepareToDraw, self._tell = ui, getScheme, prepareToDraw, tell
        self._controller: SegmentController | None = None
        self._folder: Path | None = None
        ui.exportNiftiButton.connect("clicked()", self.onNifti)
        ui.exportDicomButton.connect("clicked()", self.onDicom)
        ui.exportBoxesButton.connect("clicked()", self.onBoxes)
        ui.exportReportButton.connect("clicked()", self.onReport)
        self.update()

    def follow(self, controller: SegmentController) -> None:
        """Save what this controller has from now on."""
        self._controller = controller
        self.update()

    def unfollow(self) -> None:
        """Have nothing to save."""
        self._controller = None
        self.update()

    def update(self) -> None:
        """Allow saving where there is something to save."""
        controller = self._controller
        ready = controller is not None and controller.phase is Phase.READY and controller.sameInputs
        for name in ("exportNiftiButton", "exportBoxesButton", "exportReportButton"):
            getattr(self._ui, name).enabled = ready
        self._ui.exportDicomButton.enabled = controller is not None and controller.state.get(SEGMENTATION) is not None

    def onNifti(self) -> None:
        """Save the labels."""
        scheme = self._getScheme()
        path = self._choose(_("Save the segmentation"), ".nii.gz", _("NIfTI (*.nii.gz *.nii)"))
        if path is not None:
            self._write(lambda: export.writeLabels(self._controller, path, scheme))

    def onBoxes(self) -> None:
        """Save the boxes."""
        path = self._choose(_("Save the boxes"), "_boxes.json", _("JSON (*.json)"))
        if path is not None:
            self._write(lambda: report.writeBoxes(self._controller, path))

    def onReport(self) -> None:
        """Save the report, as a page with pictures or, for programs, its figures alone."""
        path = self._choose(_("Save the report"), "_report.html", _("Page with pictures (*.html);;Figures (*.json)"))
        if path is None:
            return
        if path.suffix.lower() == ".json":
            self._write(lambda: report.writeReport(self._controller, path))
        elif self._prepareToDraw():
            self._write(lambda: report.htmlReport(self._controller, self._getScheme())(path))

    def onDicom(self) -> None:
        """Open Slicer's own DICOM export on the segmentation, or say what is missing for it."""
        state = self._controller.state
        missing = [*export.missingForDicomSeg(state)]
        # Slicer itself cannot write DICOM SEG; the dialog would offer nothing for a segmentation, without a word.
        if _WRITER not in getattr(slicer.modules, "dicomPlugins", {}):
            missing.append(
                _(
                    "Slicer writes DICOM SEG through the QuantitativeReporting extension; install it in the Extensions"
                    " Manager and restart Slicer."
                )
            )
        if missing:
            self._tell(" ".join(missing))
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(state.scene)
        dialog = slicer.qSlicerDICOMExportDialog(None)
        dialog.setMRMLScene(state.scene)
        dialog.execDialog(hierarchy.GetItemByDataNode(state.get(SEGMENTATION)))

    def _choose(self, title: str, ending: str, nameFilter: str) -> Path | None:
        """Return the file that the user chose to write, None if none."""
        folder = self._folder or Path.home()
        proposed = folder / export.proposedFileName(self._controller, ending)
        chosen = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, str(proposed), nameFilter)
        return Path(chosen) if chosen else None

    def _write(self, write: Callable[[], Path]) -> None:
        try:
            with slicer.util.WaitCursor():
                path = write()
        except SofaError as error:
            self._tell(str(error))
            return
        self._folder = path.parent
        self._tell(_("Saved {path}.").format(path=path))
