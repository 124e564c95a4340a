"""From a folder or four files to a case: discover, read, align."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sofa_engine.alignment import align
from sofa_engine.case import Case
from sofa_engine.dicom import DicomSeries
from sofa_engine.discovery import discover
from sofa_engine.errors import InputError
from sofa_engine.progress import Progress, ProgressCallback
from sofa_engine.reading import Volume, read_volume
from sofa_engine.types import Modality

#: Share of the work that reading is; aligning is the rest.
_READING = 0.6


def open_case(
    source: Path | Mapping[Modality, Path | DicomSeries],
    *,
    reference: Modality | None = None,
    register: bool = False,
    name: str | None = None,
    progress: ProgressCallback | None = None,
) -> Case:
    """Open one patient's study.

    Args:
        source: a folder that is searched (`discovery.discover`), or a file, DICOM folder or series per sequence.
        reference: whose grid the case gets; T1c, else FLAIR, T2, T1, if None.
        register: whether to register the other sequences rigidly to the reference first.
        name: what to call the case; the folder's name if None.
        progress: told what is being read and aligned.

    Raises:
        InputError: something about the input makes it unusable; the sentence says what.
    """
    if isinstance(source, Mapping):
        sources = dict(source)
        title = name or _common_folder(sources)
    else:
        folder = Path(source)
        if folder.is_file():
            read_volume(folder)  # says what is wrong with a damaged or 4D file
            raise InputError(f"{folder} is one volume; give the folder of the case or say which sequence the file is.")
        sources = dict(discover(folder).sources)
        title = name or folder.resolve().name
    _refuse_one_file_twice(sources)
    volumes: dict[Modality, Volume] = {}
    for done, (modality, where) in enumerate(sources.items()):
        if progress is not None:
            progress(Progress(f"Reading {modality.title}", _READING * done / len(sources)))
        volumes[modality] = read_volume(where)

    def after_reading(step: Progress) -> None:
        if progress is not None:
            progress(Progress(step.stage, _READING + (1 - _READING) * step.fraction))

    return align(volumes, name=title, reference=reference, register=register, progress=after_reading)


def _common_folder(sources: Mapping[Modality, Path | DicomSeries]) -> str:
    for where in sources.values():
        return (where.folder if isinstance(where, DicomSeries) else Path(where).resolve().parent).name or "case"
    return "case"


def _refuse_one_file_twice(sources: Mapping[Modality, Path | DicomSeries]) -> None:
    """Catch a slip of the hand that no later check would see."""
    seen: dict[object, Modality] = {}
    for modality, where in sources.items():
        key = where.files if isinstance(where, DicomSeries) else Path(where).resolve()
        if key in seen:
            raise InputError(
                f"{where} was given as both {seen[key].title} and {modality.title}; give each its own file."
            )
        seen[key] = modality
