"""Boxes and report of a segmented case, as JSON: what was done to which images by which model, and what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sofa_engine import __version__
from sofa_engine.errors import OutputError
from sofa_engine.types import SUB_REGIONS
from SOFASegmentLib.controller import SegmentController
from SOFASegmentLib.export import liveCase
from SOFASegmentLib.i18n import tr as _
from SOFASegmentLib.live_case import LiveCase


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
        OutputError: there is no result yet, or the file cannot be written.
    """
    live, insights = liveCase(controller), controller.insights
    if insights is None:
        raise OutputError(_("The volumes are still being measured; save the report again in a moment."))
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
