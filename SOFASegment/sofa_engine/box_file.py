"""Boxes on disk, in RAS millimetres, so that they mean the same on every grid.

A box file is JSON, written by SOFA or by hand:

    {
      "space": "RAS",
      "unit": "mm",
      "boxes": {
        "et": [{"min": [-52.0, 10.0, 3.0], "max": [-20.5, 44.0, 31.0]}],
        "ncr": [{"center": [-36.0, 27.0, 17.0], "size": [12.0, 14.0, 9.0], "axes": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}],
        "ed": []
      }
    }

`min` and `max` are the corners of a box along the patient's axes. A box on an oblique grid has a `center`, its full
`size` along its own `axes` and these three as unit vectors. Bounds are the outer faces of voxels. An empty list says
that the sub-region is not there; a sub-region that is not mentioned keeps the boxes that it has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from sofa_engine.api import Boxes
from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.types import SUB_REGIONS, Box, SubRegion
from sofa_engine.writing import replacing

Vector = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
_UNIT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_CORNERS = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3)
#: Digits of a millimetre that are written.
_DIGITS = 4


class BoundsBox(BaseModel):
    """A box along the patient's axes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: Vector
    max: Vector

    @model_validator(mode="after")
    def _check(self) -> BoundsBox:
        if any(b <= a for a, b in zip(self.min, self.max, strict=True)):
            raise ValueError("max must exceed min on every axis")
        return self

    def corners(self) -> np.ndarray:
        """Return the 8 corners, (8, 3) RAS mm."""
        return np.array([self.min, self.max])[_CORNERS, np.arange(3)]


class OrientedBox(BaseModel):
    """A box along axes of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    center: Vector
    size: tuple[
        Annotated[FiniteFloat, Field(gt=0)], Annotated[FiniteFloat, Field(gt=0)], Annotated[FiniteFloat, Field(gt=0)]
    ]
    axes: tuple[Vector, Vector, Vector] = _UNIT

    @model_validator(mode="after")
    def _check(self) -> OrientedBox:
        axes = np.array(self.axes)
        if not np.allclose(axes @ axes.T, np.eye(3), atol=1e-3):
            raise ValueError("axes must be three unit vectors at right angles")
        return self

    def corners(self) -> np.ndarray:
        """Return the 8 corners, (8, 3) RAS mm."""
        return np.array(self.center) + ((_CORNERS - 0.5) * np.array(self.size)) @ np.array(self.axes)


class BoxFile(BaseModel):
    """The content of a box file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: Literal["RAS"] = "RAS"
    unit: Literal["mm"] = "mm"
    boxes: dict[SubRegion, tuple[BoundsBox | OrientedBox, ...]]

    @staticmethod
    def of(boxes: Boxes, geometry: Geometry) -> BoxFile:
        """Describe boxes of voxels on a grid in millimetres."""
        return BoxFile(
            boxes={r: tuple(_described(box, geometry) for box in boxes[r]) for r in SUB_REGIONS if r in boxes}
        )

    def on(self, geometry: Geometry) -> dict[SubRegion, tuple[Box, ...]]:
        """Return the boxes of voxels that these are on a grid, for the sub-regions that are mentioned.

        Raises:
            InputError: a box lies outside the volume.
        """
        result: dict[SubRegion, tuple[Box, ...]] = {}
        for sub_region, described in self.boxes.items():
            found = [geometry.box_from_corners_ras(box.corners()) for box in described]
            if None in found:
                raise InputError(
                    f"Box {found.index(None) + 1} of {sub_region.title.lower()} lies outside the volume; "
                    "box files are in RAS millimetres, not in voxels or LPS."
                )
            result[sub_region] = tuple(box for box in found if box is not None)
        return result


def _described(box: Box, geometry: Geometry) -> BoundsBox | OrientedBox:
    corners = geometry.box_corners_ras(box)
    axes = geometry.matrix[:3, :3] / np.linalg.norm(geometry.matrix[:3, :3], axis=0)
    if np.allclose(np.abs(axes).max(axis=0), 1.0, atol=1e-6):
        return BoundsBox(min=_vector(corners.min(axis=0)), max=_vector(corners.max(axis=0)))
    size = np.array(box.shape[::-1]) * np.array(geometry.spacing[::-1])
    rows = tuple(tuple(float(v) for v in axis) for axis in axes.T)
    return OrientedBox(center=_vector(corners.mean(axis=0)), size=_vector(size), axes=rows)  # type: ignore[arg-type]


def _vector(values: np.ndarray) -> Vector:
    a, b, c = (round(float(v), _DIGITS) for v in values)
    return a, b, c


def read_box_file(path: Path) -> BoxFile:
    """Read and check a box file.

    Raises:
        InputError: it cannot be read or is not a box file; the sentence names the first thing that is wrong.
    """
    try:
        return BoxFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path} is not a box file: {where}: {first['msg'].lower()}.") from error
    except ValueError as error:  # JSON or UTF-8
        raise InputError(f"{path} is not a box file: it is not valid JSON.") from error


def write_box_file(path: Path, boxes: Boxes, geometry: Geometry) -> Path:
    """Write boxes of voxels on a grid as a box file and return its path.

    Raises:
        OutputError: the file cannot be written.
    """
    text = BoxFile.of(boxes, geometry).model_dump_json(indent=2)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path
