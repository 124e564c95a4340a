"""Colours and codes of the sub-regions, the same for segments, boxes, charts and DICOM."""

from __future__ import annotations

from sofa_engine.types import SubRegion
from SOFASegmentLib.i18n import tr as _

#: As BraTS' own figures draw them: necrotic core red, oedema green, enhancing tumour yellow.
COLOURS: dict[SubRegion, tuple[float, float, float]] = {
    SubRegion.NCR: (0.90, 0.20, 0.20),
    SubRegion.ED: (0.20, 0.75, 0.35),
    SubRegion.ET: (1.00, 0.85, 0.10),
}

#: DICOM CID 7168, "Brain Lesion Segmentation Type With Necrosis". SNOMED has no code for an enhancing lesion there,
#: so that the standard itself takes the NCI Thesaurus' one.
_TYPES: dict[SubRegion, tuple[str, str, str]] = {
    SubRegion.NCR: ("SCT", "6574001", "Necrosis"),
    SubRegion.ED: ("SCT", "79654002", "Edema"),
    SubRegion.ET: ("NCIt", "C113842", "Enhancing Lesion"),
}
_CATEGORY = ("SCT", "49755003", "Morphologically Altered Structure")
_BRAIN = ("SCT", "12738006", "Brain")
_NONE = ("", "", "")


def titleOf(subRegion: SubRegion) -> str:
    """Return a sub-region's name in the user's language."""
    return {
        SubRegion.NCR: _("Necrotic core"),
        SubRegion.ED: _("Oedema"),
        SubRegion.ET: _("Enhancing tumour"),
    }[subRegion]


def terminologyEntry(subRegion: SubRegion) -> str:
    """Return what a segment's "TerminologyEntry" tag says, as vtkSlicerTerminologiesModuleLogic writes it."""
    codes = [_CATEGORY, _TYPES[subRegion], _NONE]
    anatomy = [_BRAIN, _NONE]
    return "~".join(
        ["Segmentation category and type - DICOM master list"]
        + ["^".join(code) for code in codes]
        + ["Anatomic codes - DICOM master list"]
        + ["^".join(code) for code in anatomy]
    )
