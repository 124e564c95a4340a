"""Boxes and report of a segmented case: what was done to which images by which model, and what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sofa_engine import __version__
from sofa_engine.api import Boxes, ModelInfo
from sofa_engine.errors import OutputError
from sofa_engine.geometry import Geometry
from sofa_engine.types import SUB_REGIONS, LabelScheme, Modality, SliceConfidence, SubRegion
from SOFASegmentLib.controller import SegmentController
from SOFASegmentLib.export import liveCase
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.insights import Insights
from SOFASegmentLib.live_case import Facts, LiveCase
from SOFASegmentLib.volumes import caseFromVolumes


def writeBoxes(controller: SegmentController, path: Path) -> Path:
    """Write the boxes of every sub-region as a box file, which the command line reads.

    Args:
        controller: of a case that has been segmented.
        path: JSON file; complete or not there at all.

    Raises:
        OutputError: there is no result, or the file cannot be written.
    """
    return _write(_boxes(liveCase(controller)), path)


def writeReport(controller: SegmentController, path: Path) -> Path:
    """Write volumes, attention, uncertain slices, boxes, inputs, warnings and the model.

    Args:
        controller: of a case that has been segmented.
        path: JSON file; complete or not there at all.

    Raises:
        OutputError: there is no result yet, it is changing, or the file cannot be written.
    """
    live, insights = _measured(controller)
    model = live.model
    report = {
        "software": f"SOFA for 3D Slicer {__version__}",
        "use": "Research only; not a medical device.",
        "case": live.volumeNode.GetName(),
        "inputs": {m.value: node.GetName() for m, node in controller.inputs.items()},
        "model": {
            "name": model.name,
            "sha256": model.sha256,
            "arrangement": model.arrangement,
            "mode": model.mode,
            "device": model.device,
            "trained": model.trained,
        },
        "warnings": list(live.warnings),
        "volumes_ml": {name: round(float(volume), 3) for name, volume in insights.volumesMl.items()},
        "attention": {
            r.value: {m.value: round(float(w), 4) for m, w in weights.items()}
            for r, weights in insights.attention.items()
        },
        "uncertain_slices": [
            {"slice": s.slice_index, "sub_region": s.sub_region.value, "confidence": round(float(s.confidence), 4)}
            for s in insights.uncertainSlices
        ],
        "locked": [r.value for r in SUB_REGIONS if controller.isLocked(r)],
        "boxes": _boxes(live)["boxes"],
    }
    return _write(report, path)


@dataclass(frozen=True)
class _Known:
    """What was fetched of a session in the background, as `report_dict` asks for it: the main thread never waits."""

    geometry: Geometry
    model: ModelInfo
    warnings: tuple[str, ...]
    facts: Facts
    insights: Insights

    def boxes(self) -> Boxes:
        return dict(self.facts.boxes)

    def volumes_ml(self) -> Mapping[str, float]:
        return self.insights.volumesMl

    def attention(self) -> Mapping[SubRegion, Mapping[Modality, float]]:
        return self.insights.attention

    def uncertain_slices(self) -> tuple[SliceConfidence, ...]:
        return self.insights.uncertainSlices


def htmlReport(controller: SegmentController, scheme: LabelScheme = LabelScheme.BRATS2020) -> Callable[[Path], Path]:
    """Return what writes the page that `sofa segment --report` makes: volumes, pictures, attention, boxes, the model.

    Everything that it needs is taken at once, without asking the engine; drawing takes seconds and may be done on
    another thread. Volumes that were deleted since are not drawn.

    Args:
        controller: of a case that has been segmented.
        scheme: label values that the page explains.

    Raises:
        OutputError: there is no result yet, or it is changing.
        InputError: the volumes do not share one grid any more.
    """
    # What draws pulls in matplotlib, which a panel that shows no report should not wait for.
    from sofa_engine.report import report_dict, write_report
    from sofa_engine.working_grid import to_working

    live, insights = _measured(controller)
    inputs = {m: node for m, node in controller.inputs.items() if node.GetScene() is not None}
    case = caseFromVolumes(inputs, next(m for m, node in inputs.items() if node is live.volumeNode))
    known = _Known(live.grids.working, live.model, tuple(live.warnings), live.facts, insights)
    facts, labels = report_dict(known, case, scheme=scheme), live.sessionLabels.copy()
    return lambda path: write_report(path, facts, to_working(case), labels)


def _measured(controller: SegmentController) -> tuple[LiveCase, Insights]:
    """Return what belongs together: the boxes of now with the volumes of before would be nobody's result."""
    live, insights = liveCase(controller), controller.insights
    if insights is None or not controller.measured:
        raise OutputError(_("The volumes are still being measured; save the report again in a moment."))
    return live, insights


def _boxes(live: LiveCase) -> dict[str, Any]:
    """Return the boxes as a box file has them: RAS millimetres in the reference volume's own coordinates."""
    from sofa_engine.box_file import BoxFile

    return BoxFile.of(live.facts.boxes, live.grids.working).model_dump(mode="json")


def _write(content: dict[str, Any], path: Path) -> Path:
    # What writes files pulls in nibabel, which is only needed here.
    from sofa_engine.writing import replacing

    path = Path(path)
    if not path.resolve().parent.is_dir():
        raise OutputError(
            _("{path} cannot be written: its folder does not exist; choose another place.").format(path=path)
        )
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
