"""Finding the four sequences of a case in a folder, by file name or DICOM SeriesDescription."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sofa_engine.dicom import DicomSeries, series_in
from sofa_engine.errors import InputError
from sofa_engine.naming import is_label_name, modality_of
from sofa_engine.nifti import is_nifti, open_nifti
from sofa_engine.reading import VOLUME_SUFFIXES, is_volume_file
from sofa_engine.types import MODALITIES, Modality

#: nnU-Net's channel suffixes, in the order that BraTS data sets document; a dataset.json beside overrules it.
_CHANNELS = dict(enumerate(MODALITIES))
_CHANNEL_SUFFIX = re.compile(r"_(\d{4})$")

_Candidate = TypeVar("_Candidate", Path, DicomSeries)


class UnmatchedError(InputError):
    """The names do not say which volume is which sequence; a person may."""


@dataclass(frozen=True)
class Discovery:
    """What was found in a folder.

    Attributes:
        folder: the folder that was searched.
        sources: file or DICOM series per sequence, in the paper's order; one to four.
        notes: what was matched and what was left out, in words for a person ("T1c: BraTS_t1ce.nii.gz").
    """

    folder: Path
    sources: Mapping[Modality, Path | DicomSeries]
    notes: tuple[str, ...]


def discover(folder: Path) -> Discovery:
    """Search a folder for T1, T1c, T2 and FLAIR.

    Volume files in the folder itself count first, then those one folder down, then DICOM series anywhere below.
    Label files are never taken.

    Raises:
        InputError: the folder does not exist or holds no volume.
        UnmatchedError: no volume's name says a sequence, or two candidates claim one; see `volumes_in`.
    """
    folder = _existing(folder)
    for pattern in ("*", "*/*"):
        files = sorted(path for path in folder.glob(pattern) if path.is_file() and is_volume_file(path))
        matched = _assign(files, _modality_of_file, lambda path: str(path.relative_to(folder)))
        if matched:
            return _report(folder, matched, files)
    series = [found for below in _folders(folder) for found in series_in(below)]
    matched_series = _assign(series, _modality_of_series, lambda found: _series_title(found, folder))
    if matched_series:
        return _report(folder, matched_series, series)
    raise _nothing_found(folder, series)


def volumes_in(folder: Path) -> tuple[Path | DicomSeries, ...]:
    """Return every volume of a folder that could be a sequence, whatever its name says.

    Volume files in the folder itself, else those one folder down, else DICOM series anywhere below; no label files.

    Raises:
        InputError: the folder does not exist.
    """
    folder = _existing(folder)
    for pattern in ("*", "*/*"):
        files = sorted(path for path in folder.glob(pattern) if path.is_file() and is_volume_file(path))
        images = tuple(path for path in files if not is_label_name(_stem(path)))
        if images:
            return images
    return tuple(found for below in _folders(folder) for found in series_in(below))


def _existing(folder: Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; check its name.")
    return folder


def _assign(
    candidates: Iterable[_Candidate],
    modality_of_candidate: Callable[[_Candidate], Modality | None],
    title: Callable[[_Candidate], str],
) -> dict[Modality, _Candidate]:
    """Give each sequence its candidate, in the paper's order, refusing two for one."""
    claims: dict[Modality, list[_Candidate]] = {}
    for candidate in candidates:
        modality = modality_of_candidate(candidate)
        if modality is not None:
            claims.setdefault(modality, []).append(candidate)
    for modality, rivals in claims.items():
        if len(rivals) > 1:
            names = " and ".join(title(rival) for rival in rivals)
            raise UnmatchedError(
                f"{len(rivals)} volumes could be {modality.title}: {names}; remove one or name it yourself."
            )
    return {m: claims[m][0] for m in MODALITIES if m in claims}


def _modality_of_file(path: Path) -> Modality | None:
    """Match by nnU-Net's channel where a dataset.json says what it is, else by name, else by folder or bare channel."""
    stem = _stem(path)
    if is_label_name(stem):
        return None
    channel = _CHANNEL_SUFFIX.search(stem)
    documented = _documented_channels(path.parent)
    if channel and documented is not None:
        return documented.get(int(channel[1]))
    named = modality_of(stem)
    if named is None and channel:
        return _CHANNELS.get(int(channel[1]))
    return named


def _modality_of_series(series: DicomSeries) -> Modality | None:
    return modality_of(series.description) or modality_of(series.folder.name)


def _documented_channels(folder: Path) -> dict[int, Modality | None] | None:
    """Read nnU-Net's dataset.json (v2 "channel_names", v1 "modality") beside the images or one folder up."""
    for place in (folder / "dataset.json", folder.parent / "dataset.json"):
        try:
            described = json.loads(place.read_text(encoding="utf-8"))
            names = described.get("channel_names") or described.get("modality")
            return {int(number): modality_of(str(name)) for number, name in names.items()}
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{place} is not a dataset.json as nnU-Net has it; correct or remove it.") from error
    return None


def _folders(folder: Path) -> list[Path]:
    """Return the folder and all below that hold files that may be DICOM, in a stable order."""
    found = [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())]
    return [path for path in found if any(f.is_file() and not is_volume_file(f) for f in path.iterdir())]


def _stem(path: Path) -> str:
    suffix = next(s for s in sorted(VOLUME_SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s))
    return path.name[: -len(suffix)]


def _title(candidate: Path | DicomSeries, folder: Path) -> str:
    if isinstance(candidate, Path):
        return str(candidate.relative_to(folder))
    return _series_title(candidate, folder)


def _series_title(series: DicomSeries, folder: Path) -> str:
    """Name a series by its description and the folder it lies in."""
    where = series.folder.relative_to(folder)
    name = f'"{series.description}"' if series.description else "without description"
    return f"DICOM series {name} ({len(series.files)} files in {where if where.name else folder.name})"


def _report(folder: Path, matched: Mapping[Modality, _Candidate], candidates: Iterable[_Candidate]) -> Discovery:
    notes = [f"{modality.title}: {_title(candidate, folder)}" for modality, candidate in matched.items()]
    notes += [f"{modality.title}: not found" for modality in MODALITIES if modality not in matched]
    taken = list(matched.values())
    notes += [f"left out: {_title(candidate, folder)}" for candidate in candidates if candidate not in taken]
    return Discovery(folder, dict(matched), tuple(notes))


def _nothing_found(folder: Path, series: list[DicomSeries]) -> InputError:
    """Say why: nothing there at all, one 4D file, or names that say nothing."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and is_volume_file(path)]
    if not files and not series:
        return InputError(
            f"{folder} holds no volumes; give a folder with one patient's NIfTI, NRRD, MHA or DICOM files."
        )
    for path in files:
        if is_nifti(path) and _holds_several_volumes(path):
            return InputError(f"{path} is a 4D file; split it into one file for each of T1, T1c, T2 and FLAIR.")
    names = ", ".join([path.name for path in files] + [_series_title(found, folder) for found in series])
    return UnmatchedError(
        f"None of the volumes in {folder} says in its name which sequence it is (found {names}); "
        "name them t1, t1c, t2 and flair or give each file yourself."
    )


def _holds_several_volumes(path: Path) -> bool:
    try:
        return any(n > 1 for n in open_nifti(path).shape[3:])
    except InputError:
        return False
