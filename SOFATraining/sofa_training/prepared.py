"""A prepared case on disk: what section 3.2 saves, and how to get it back fast.

`NAME.npz` (compressed, one file to copy or archive) is the record. Training reads slices in random order, so the
arrays are unpacked once beside it (`.unpacked/NAME/*.npy`) and memory-mapped: every worker and every process of a
machine shares the same pages.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.types import Box
from sofa_training.config import DataConfig
from sofa_training.folds import read_folds
from sofa_training.regions import sub_region_masks

#: Changes whenever what is written changes, so that old files are made again.
FORMAT = 1
_DAMAGED = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class PreparedCase:
    """One normalised, cropped case with its truth.

    Attributes:
        name: of the case.
        subject: patient.
        images: uint8 (M, D, H, W), [0, 255], zero outside the brain; possibly memory-mapped.
        truth: uint8 (D, H, W), values of `SubRegion.label` and 0.
        present: bool (M,), which sequences there are.
        spacing: mm (z, y, x).
        extent: where the crop lies in the case's full grid.
        geometry: the full grid.
        provenance: files, versions, layout, crop: what is needed to trace the arrays.
        origin: what it was made from (`TrainingCase.origin`), empty in files of earlier versions.
    """

    name: str
    subject: str
    images: np.ndarray
    truth: np.ndarray
    present: np.ndarray
    spacing: tuple[float, float, float]
    extent: Box
    geometry: Geometry
    provenance: Mapping[str, Any]
    origin: str = ""

    def __getstate__(self) -> dict[str, Any]:
        """Name the files of mapped arrays instead of copying what is in them, for workers that are spawned."""
        state = dict(vars(self))
        for name in ("images", "truth"):
            # A part of a mapped array has another array as its base.
            if isinstance(array := state[name], np.memmap) and isinstance(array.base, mmap.mmap):
                state[name] = Path(str(array.filename))
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        for name in ("images", "truth"):
            if isinstance(path := state[name], Path):
                vars(self)[name] = np.load(path, mmap_mode="r", allow_pickle=False)

    @cached_property
    def pixels(self) -> np.ndarray:
        """Return how many pixels of each sub-region each slice has, int64 (3, D)."""
        return sub_region_masks(np.asarray(self.truth)).sum(axis=(2, 3))

    @cached_property
    def boxes(self) -> tuple[Box | None, ...]:
        """Return the tight 3D box of each sub-region's truth, None where it has none."""
        return tuple(Box.of_mask(mask) for mask in sub_region_masks(np.asarray(self.truth)))

    @cached_property
    def tumour_slices(self) -> np.ndarray:
        """Return the slices with truth (section 3.2), int64 ascending."""
        return np.flatnonzero(self.pixels.any(axis=0))

    @cached_property
    def brain_slices(self) -> np.ndarray:
        """Return the slices without truth in which some sequence has at least 2 % of the crop, int64 ascending."""
        area = np.count_nonzero(np.asarray(self.images).any(axis=0), axis=(1, 2))
        enough = area >= 0.02 * self.truth.shape[1] * self.truth.shape[2]
        return np.setdiff1d(np.flatnonzero(enough), self.tumour_slices)


def write_prepared(case: PreparedCase, path: Path) -> None:
    """Write one case as a compressed npz; an interrupted write leaves nothing under the final name."""
    header = {
        "format": FORMAT,
        "name": case.name,
        "subject": case.subject,
        "extent": [case.extent.lower, case.extent.upper],
        "shape": case.geometry.shape,
        "ijk_to_ras": case.geometry.ijk_to_ras,
        "provenance": dict(case.provenance),
        "origin": case.origin,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(
                file,
                image=case.images,
                truth=case.truth,
                present=case.present,
                spacing=np.array(case.spacing),
                header=np.array(json.dumps(header)),
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_prepared(path: Path, *, mapped: bool = True) -> PreparedCase:
    """Read a case that `write_prepared` wrote.

    Args:
        path: the npz.
        mapped: whether to unpack the arrays beside it once and memory-map them; otherwise they are read into memory.

    Raises:
        InputError: the file is missing, damaged, or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            if header["format"] != FORMAT:
                raise InputError(f"{path} was prepared by another version of SOFA; run `sofa prepare` again.")
            spacing, present = tuple(float(s) for s in archive["spacing"]), archive["present"]
            if mapped:
                images, truth = (_mapped(archive, path, key) for key in ("image", "truth"))
            else:
                images, truth = archive["image"], archive["truth"]
    except _DAMAGED as error:
        raise InputError(f"{path} is not a prepared case or is damaged; run `sofa prepare` again.") from error
    return PreparedCase(
        name=header["name"],
        subject=header["subject"],
        images=images,
        truth=truth,
        present=present,
        spacing=spacing,  # type: ignore[arg-type]
        extent=Box(tuple(header["extent"][0]), tuple(header["extent"][1])),
        geometry=Geometry.from_matrix(tuple(header["shape"]), np.array(header["ijk_to_ras"])),
        provenance=header["provenance"],
        origin=header.get("origin", ""),
    )


def origin_of(path: Path) -> str | None:
    """Return what a prepared case was made from without reading its arrays; None where the file cannot be used."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            return str(header.get("origin", "")) if header["format"] == FORMAT else None
    except _DAMAGED:
        return None


def read_folder(folder: Path, names: tuple[str, ...] | None = None) -> tuple[PreparedCase, ...]:
    """Read the prepared cases of a folder, all of them or those named, sorted by name.

    Raises:
        InputError: there is none, or one of the named is missing.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if not found:
        raise InputError(f"{folder} holds no prepared cases; make them with `sofa prepare DATASET --out {folder}`.")
    missing = [name for name in names or () if name not in found]
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} of the listed cases, among them {missing[0]}.")
    return tuple(read_prepared(found[name]) for name in sorted(names if names is not None else found))


def read_sides(data: DataConfig, validate_cases: int = 0) -> tuple[tuple[PreparedCase, ...], tuple[PreparedCase, ...]]:
    """Return the training and validation cases.

    Args:
        data: folder, folds, and which of them validates.
        validate_cases: at most so many validation cases; 0 takes all.

    Raises:
        InputError: the folder or the folds cannot be used.
    """
    if data.fold is None:
        return read_folder(data.prepared), ()
    if data.folds is None:
        raise InputError("data.fold is set, so data.folds must name the file of the folds.")
    folds = read_folds(data.folds)
    if data.fold >= len(folds):
        raise InputError(f"data.fold is {data.fold}, but {data.folds} has folds 0 to {len(folds) - 1}.")
    fold = folds[data.fold]
    most = validate_cases or len(fold.validation)
    return read_folder(data.prepared, fold.train), read_folder(data.prepared, fold.validation[:most])


def _mapped(archive: Any, path: Path, key: str) -> np.ndarray:
    folder = path.parent / ".unpacked" / path.stem
    target = folder / f"{key}.npy"
    if not target.is_file() or target.stat().st_mtime < path.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{key}.{os.getpid()}.part"
        try:
            with part.open("wb") as file, archive.zip.open(f"{key}.npy") as packed:
                shutil.copyfileobj(packed, file, 1 << 20)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return np.load(target, mmap_mode="r", allow_pickle=False)
