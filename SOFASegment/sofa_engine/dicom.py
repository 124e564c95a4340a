"""DICOM series: finding them in folders, and reading one as a volume."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.integrity import damaged, is_cut_short, is_dicom_image
from sofa_engine.itk_images import geometry_of

_SERIES_DESCRIPTION = "0008|103e"
_PROTOCOL_NAME = "0018|1030"
_MODALITY = "0008|0060"
_POSITION = "0020|0032"
_ORIENTATION = "0020|0037"
_BITS_ALLOCATED = "0028|0100"

#: Slices may stand this far from where even spacing puts them, as a part of the spacing.
_SPACING_TOLERANCE = 0.1
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class DicomSeries:
    """One series of a study, not read yet.

    Attributes:
        folder: where its files lie.
        files: one per slice, or one multi-frame file.
        description: SeriesDescription, else ProtocolName, else "".
    """

    folder: Path
    files: tuple[Path, ...]
    description: str

    def __str__(self) -> str:
        """Say which series this is, for reports."""
        return f"{self.folder} ({self.description})" if self.description else str(self.folder)


def series_in(folder: Path) -> Iterator[DicomSeries]:
    """Yield the MR image series that lie directly in a folder, leaving out reports and other modalities.

    Raises:
        InputError: an image among the files is damaged.
    """
    known: set[Path] = set()
    for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        files = tuple(Path(name) for name in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))
        known.update(files)
        try:
            header = _header(files[0])
        except RuntimeError:
            continue  # a DICOM file without an image
        if _text(header, _MODALITY) not in ("MR", ""):
            continue
        yield DicomSeries(folder, files, _text(header, _SERIES_DESCRIPTION) or _text(header, _PROTOCOL_NAME))
    # GDCM leaves unreadable slices out without a word; a volume must not lose its last slice that way.
    for path in sorted(folder.iterdir()):
        if path.is_file() and path not in known and is_dicom_image(path):
            raise damaged(path)


def series_of_file(path: Path) -> DicomSeries:
    """Return the series that a DICOM file belongs to.

    Raises:
        InputError: the file holds no MR image.
    """
    for series in series_in(path.parent):
        if path in series.files:
            return series
    raise InputError(f"{path} is not an MR image; give the folder of a DICOM series.")


def read_series(series: DicomSeries) -> tuple[np.ndarray, Geometry]:
    """Read a series as (D, H, W) voxels, in the order of its slices' positions.

    Raises:
        InputError: slices are missing, doubled, of different sizes or orientations, coloured, unreadable, or lie
            nobody knows where.
    """
    try:
        headers = [_header(path) for path in series.files]
    except RuntimeError as error:
        raise InputError(f"The DICOM series in {series} cannot be read; one of its files is damaged.") from error
    for path, header in zip(series.files, headers, strict=True):
        bits = int(_text(header, _BITS_ALLOCATED) or 16)
        if is_cut_short(path, math.prod(header.GetSize()) * header.GetNumberOfComponents() * bits // 8):
            raise damaged(path)
    if any(header.GetNumberOfComponents() > 1 for header in headers):
        raise InputError(f"The DICOM series in {series} is a colour image; give a grey-scale MRI sequence.")
    if len(series.files) == 1:
        image = _read(sitk.ImageFileReader(), series, str(series.files[0]))
        return sitk.GetArrayFromImage(image), geometry_of(image)
    if len({(header.GetSize(), _text(header, _ORIENTATION)) for header in headers}) > 1:
        raise InputError(
            f"The DICOM series in {series} mixes slices of different sizes or orientations; "
            "give one without scout images."
        )
    order, matrix = _stack(headers, series)
    reader = sitk.ImageSeriesReader()
    array = sitk.GetArrayFromImage(_read(reader, series, [str(series.files[i]) for i in order]))
    return array, Geometry.from_matrix(array.shape, _LPS_TO_RAS @ matrix)


def _stack(headers: list[sitk.ImageFileReader], series: DicomSeries) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of the slices along their normal and the 4x4 from index to LPS mm (DICOM PS3.3 C.7.6.2.1.1)."""
    positions = np.array([_position(header, series) for header in headers])
    direction = np.array(headers[0].GetDirection()).reshape(3, 3)
    along = positions @ direction[:, 2]
    order = np.argsort(along)
    gaps = np.diff(along[order])
    spacing = float(np.median(gaps))
    if np.any(gaps < 1e-3):
        raise InputError(
            f"The DICOM series in {series} holds several images at one position (echoes or time points); "
            "export one volume as its own series."
        )
    if np.any(np.abs(gaps - spacing) > _SPACING_TOLERANCE * spacing):
        raise InputError(
            f"The DICOM series in {series} has slices at uneven distances ({gaps.min():.2f} to {gaps.max():.2f} mm); "
            "some of its files are missing."
        )
    first, last = positions[order[0]], positions[order[-1]]
    matrix = np.eye(4)
    matrix[:3, :2] = direction[:, :2] * np.array(headers[0].GetSpacing()[:2])
    matrix[:3, 2] = (last - first) / (len(headers) - 1)
    matrix[:3, 3] = first
    return order, matrix


def _position(header: sitk.ImageFileReader, series: DicomSeries) -> list[float]:
    try:
        x, y, z = (float(v) for v in _text(header, _POSITION).split("\\"))
    except ValueError as error:
        raise InputError(
            f"The DICOM series in {series} does not say where its slices lie (ImagePositionPatient is missing), as "
            "screenshots and reports do not; give the series as it came from the scanner."
        ) from error
    return [x, y, z]


def _header(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _text(header: sitk.ImageFileReader, tag: str) -> str:
    return header.GetMetaData(tag).strip() if header.HasMetaDataKey(tag) else ""


def _read(
    reader: sitk.ImageFileReader | sitk.ImageSeriesReader, series: DicomSeries, names: str | list[str]
) -> sitk.Image:
    if isinstance(reader, sitk.ImageSeriesReader):
        reader.SetFileNames(names)
    else:
        reader.SetFileName(names)
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise InputError(f"The DICOM series in {series} cannot be read; one of its files is damaged.") from error
