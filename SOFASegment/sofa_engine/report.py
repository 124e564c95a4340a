"""What a result was made of and how far it can be trusted: as one dictionary (`--json`) and as one HTML page."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import jinja2
import numpy as np

import sofa_engine
from sofa_engine.api import Boxes, ModelInfo
from sofa_engine.box_file import BoxFile
from sofa_engine.case import Case
from sofa_engine.geometry import Geometry
from sofa_engine.report_pictures import COLOURS, attention_chart, outlines
from sofa_engine.types import SUB_REGIONS, LabelScheme, Modality, SliceConfidence, SubRegion
from sofa_engine.writing import replacing

#: Version of the dictionary's layout.
REPORT_FORMAT = 1
_LIBRARIES = ("torch", "timm", "segment-anything", "numpy", "scipy", "SimpleITK")


class Reported(Protocol):
    """What a report says of a `sofa_engine.api.Session`; whoever knows it need not have the session."""

    @property
    def geometry(self) -> Geometry:
        """Grid of the boxes and slices."""

    @property
    def model(self) -> ModelInfo:
        """Which model answered."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user."""

    def boxes(self) -> Boxes:
        """Boxes of every sub-region."""

    def volumes_ml(self) -> Mapping[str, float]:
        """Millilitres of NCR, ED, ET, WT and TC."""

    def attention(self) -> Mapping[SubRegion, Mapping[Modality, float]]:
        """Weight of each sequence per sub-region."""

    def uncertain_slices(self) -> tuple[SliceConfidence, ...]:
        """Slices worth a look."""


def report_dict(
    session: Reported,
    case: Case,
    *,
    scheme: LabelScheme = LabelScheme.BRATS2020,
    timings_s: Mapping[str, float] | None = None,
    outputs: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return everything that the report says, of types that JSON has.

    Args:
        session: after its first pass; in this process or in the engine's, or what is known of it.
        case: the volumes as they came, for name, sources and grid.
        scheme: label values of the output.
        timings_s: seconds per stage.
        outputs: files that were written, by what they are.
    """
    geometry = session.geometry
    middle = (np.array(geometry.shape) - 1) / 2
    looks = []
    for look in session.uncertain_slices():
        centre = geometry.index_to_ras(np.array([look.slice_index, *middle[1:]]))
        looks.append(
            {
                "slice": look.slice_index,
                "superior_mm": round(float(centre[2]), 2),
                "sub_region": look.sub_region.value,
                "confidence": round(look.confidence, 4),
            }
        )
    return {
        "format": REPORT_FORMAT,
        "case": case.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sequences": {m.value: str(case.sources.get(m, "")) for m in case.modalities},
        "grid": _grid(case),
        "working_grid": {"shape": list(geometry.shape), "spacing_mm": [round(s, 4) for s in geometry.spacing]},
        "label_scheme": scheme.value,
        "labels": {r.value: scheme.value_of(r) for r in SUB_REGIONS},
        "volumes_ml": {name: round(ml, 3) for name, ml in session.volumes_ml().items()},
        "boxes": BoxFile.of(session.boxes(), geometry).model_dump(mode="json"),
        "attention": {
            r.value: {m.value: round(weight, 4) for m, weight in weights.items()}
            for r, weights in session.attention().items()
        },
        "uncertain_slices": looks,
        "warnings": list(session.warnings),
        "model": asdict(session.model),
        "timings_s": {stage: round(seconds, 2) for stage, seconds in (timings_s or {}).items()},
        "versions": _versions(),
        "outputs": dict(outputs or {}),
    }


def _grid(case: Case) -> dict[str, Any]:
    geometry = case.geometry
    return {
        "shape": list(geometry.shape),
        "spacing_mm": [round(s, 4) for s in geometry.spacing],
        "ijk_to_ras": [list(row) for row in geometry.ijk_to_ras],
    }


def _versions() -> dict[str, str]:
    versions = {"sofa": sofa_engine.__version__, "python": platform.python_version(), "system": platform.platform()}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:  # the client's side of a remote engine has no torch
            continue
    return versions


def render_report(report: Mapping[str, Any], case: Case, labels: np.ndarray) -> str:
    """Return the report as one HTML page that needs no other file.

    Args:
        report: from `report_dict`.
        case: the volumes on the grid of `labels`; the working grid shows axial slices upright.
        labels: uint8 (D, H, W), values of `SubRegion.label` and 0.
    """
    shown = [m for m in (Modality.T1C, Modality.FLAIR) if m in case.images] or list(case.modalities[:1])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sofa_engine"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.j2").render(
        report=report,
        regions={r.value: {"title": r.title, "colour": COLOURS[r]} for r in SUB_REGIONS},
        modality_titles={m.value: m.title for m in Modality},
        pictures=[(m.title, outlines(case, labels, m)) for m in shown],
        attention=attention_chart(report["attention"]),
    )


def write_report(path: Path, report: Mapping[str, Any], case: Case, labels: np.ndarray) -> Path:
    """Write `render_report` to a file and return its path.

    Raises:
        OutputError: the file cannot be written.
    """
    page = render_report(report, case, labels)
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path
