"""Boxes and report of a segmented case, as JSON: what was done to which images by which model, and what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sofa_engine import __version__
from sofa_engine.errors import OutputError
from sofa_engine.types import SUB_REGIONS, Box
from SOFASegmentLib.controller import SegmentController
from SOFASegmentLib.live_case import LiveCase

_LPS = np.diag([-1.0, -1.0, 1.0])


def writeBoxes(controller: SegmentController, path: Path) -> Path:
    """Write the boxes of every sub-region.

    Args:
        controller: of a case that has been segmented.
        path: JSON file; complete or not there at all.

    Raises:
        OutputError: there is no result, or the file cannot be written.

    """
    return _write({"case": _live(controller).volumeNode.GetName(), **_boxes(controller)}, path)


def writeReport(controller: SegmentController, path: Path) -> Path:
    """Write volumes, attention, uncertain slices, boxes, inputs, warnings and the model.

    Args:
        controller: of a case that has been segmented.
        path: JSON file; complete or not there at all.

    Raises:
        OutputError: there is no result yet, or the file cannot be written.

    """
    live, insights = _live(controller), controller.insights
    if insights is None:
        raise OutputError("The volumes are still being measured; save the report again in a moment.")
    model = live.model
    report = {
        "software": f"SOFA for 3D Slicer {__version__}",
        "use": "Research only; not a medical device.",
        "case": live.volumeNode.GetName(),
        "inputs": {m.value: node.GetName() for m, node in controller.state.inputs().items()},
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
        **_boxes(controller),
    }
    return _write(report, path)


def _boxes(controller: SegmentController) -> dict[str, Any]:
    live = _live(controller)
    geometry = live.grids.grid.working
    return {
        "grid": {
            "shape": list(geometry.shape),
            "spacing_mm": [float(s) for s in geometry.spacing],
            "index_order": "slice, row, column (k, j, i); upper bounds are exclusive",
        },
        "boxes": {r.value: [_described(box, geometry) for box in live.facts.boxes[r]] for r in SUB_REGIONS},
    }


def _described(box: Box, geometry: Any) -> dict[str, Any]:
    """Return a box in voxels and as the LPS positions of its outer corners, the coordinates of DICOM and ITK."""
    outer = np.array([np.array(box.lower) - 0.5, np.array(box.upper) - 0.5])
    corners = [geometry.index_to_ras(corner) @ _LPS for corner in outer]
    return {
        "lower": list(box.lower),
        "upper": list(box.upper),
        "corners_lps_mm": [[round(float(v), 3) for v in corner] for corner in corners],
    }


def _live(controller: SegmentController) -> LiveCase:
    if controller.live is None:
        raise OutputError("There is no segmentation to write; press Segment first.")
    return controller.live


def _write(content: dict[str, Any], path: Path) -> Path:
    # What writes files pulls in nibabel, which is only needed here.
    from sofa_engine.writing import replacing

    path = Path(path)
    if not path.resolve().parent.is_dir():
        raise OutputError(f"{path} cannot be written: its folder does not exist; choose another place.")
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
