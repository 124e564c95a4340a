"""Pictures of a report, drawn without a display: outlines on three planes, attention as bars."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sofa_engine.case import Case
from sofa_engine.geometry import Geometry
from sofa_engine.types import SUB_REGIONS, Box, Modality, SubRegion

#: Outline of each sub-region, on black.
COLOURS: dict[SubRegion, str] = {SubRegion.NCR: "#e6553f", SubRegion.ED: "#4fb06d", SubRegion.ET: "#f2c14e"}
_SEQUENCE_COLOURS = {"t1": "#5b7db1", "t1c": "#d98545", "t2": "#7c9f5b", "flair": "#9b6fae"}
_PLANES = ("axial", "coronal", "sagittal")
_DPI = 110
#: Voxels shown around the brain.
_MARGIN = 4


def outlines(case: Case, labels: np.ndarray, modality: Modality) -> str:
    """Draw the three planes through the tumour with each sub-region's outline.

    Each plane is the one with most tumour in it; without a tumour, the middle of the volume.

    Args:
        case: on the grid of `labels`.
        labels: uint8 (D, H, W).
        modality: which sequence lies underneath.

    Returns:
        A PNG as a data URI.
    """
    image = case.images[modality]
    seen = image[image > 0]
    low, high = np.percentile(seen, (1, 99.7)) if seen.size else (0.0, 1.0)
    tumour = labels > 0
    figure = Figure(figsize=(12, 4.3), dpi=_DPI, facecolor="black", layout="constrained")
    brain = Box.of_mask(image != 0) or Box((0, 0, 0), image.shape)
    shown = brain.grown((_MARGIN, _MARGIN, _MARGIN), image.shape).slices
    for plane, name in enumerate(_PLANES):
        others = tuple(a for a in range(3) if a != plane)
        counts = tumour.sum(axis=others)
        at = int(counts.argmax()) if counts.any() else image.shape[plane] // 2
        axes = figure.add_subplot(1, 3, plane + 1)
        rows, columns = (case.geometry.spacing[a] for a in others)
        # Axis 0 runs upward: on the other two planes the patient's head is on top.
        origin: Literal["upper", "lower"] = "upper" if plane == 0 else "lower"
        window = tuple(at if axis == plane else shown[axis] for axis in range(3))
        picture, cut = image[window], labels[window]
        axes.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin=origin, aspect=rows / columns)
        # The core last: its border with the rim belongs to both, and the rim has an outer one.
        for sub_region in (SubRegion.ED, SubRegion.ET, SubRegion.NCR):
            mask = cut == sub_region.label
            if mask.any() and min(mask.shape) > 1:
                axes.contour(mask.astype(np.float32), levels=[0.5], colors=[COLOURS[sub_region]], linewidths=1.3)
        axes.set_title(f"{name} {at}", color="white", fontsize=10)
        axes.set_axis_off()
        _name_sides(axes, case.geometry, others, origin)
    return _data_uri(figure)


def _name_sides(axes: Axes, geometry: Geometry, shown: tuple[int, ...], origin: str) -> None:
    """Write where the picture's left and top lie in the patient."""
    rows, columns = shown
    down, right = _direction(geometry, rows), _direction(geometry, columns)
    top = _opposite(down) if origin == "upper" else down
    for text, x, y in (
        (_opposite(right), 0.02, 0.5),
        (right, 0.98, 0.5),
        (top, 0.5, 0.97),
        (_opposite(top), 0.5, 0.03),
    ):
        axes.text(x, y, text, color="white", fontsize=9, ha="center", va="center", transform=axes.transAxes)


def _direction(geometry: Geometry, axis: int) -> str:
    """Return the letter of the patient's direction that an array axis mostly runs to."""
    column = geometry.matrix[:3, 2 - axis]
    strongest = int(np.abs(column).argmax())
    return ("RAS" if column[strongest] > 0 else "LPI")[strongest]


def _opposite(letter: str) -> str:
    return dict(zip("RASLPI", "LPIRAS", strict=True))[letter]


def attention_chart(attention: Mapping[str, Mapping[str, float]]) -> str:
    """Draw each sub-region's modality weights (eq. 2) as one bar of shares.

    Args:
        attention: weight per sub-region and modality, by their values ("et", "t1c").

    Returns:
        A PNG as a data URI.
    """
    figure = Figure(figsize=(7.5, 2.2), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    for row, sub_region in enumerate(reversed(SUB_REGIONS)):
        start = 0.0
        for modality, weight in attention[sub_region.value].items():
            bar = axes.barh(row, weight, left=start, color=_SEQUENCE_COLOURS[modality], height=0.62)
            if weight > 0.12:  # a name and a figure need that much room
                axes.bar_label(bar, [f"{Modality(modality).title} {weight:.0%}"], label_type="center", color="white")
            start += weight
    axes.set_yticks(range(len(SUB_REGIONS)), [r.title for r in reversed(SUB_REGIONS)])
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return _data_uri(figure)


def _data_uri(figure: Figure) -> str:
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
