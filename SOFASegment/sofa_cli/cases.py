"""Which cases a command line means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sofa_engine.errors import InputError, OutputError
from sofa_engine.reading import is_volume_file
from sofa_engine.types import Modality


@dataclass(frozen=True)
class Job:
    """One case to be segmented.

    Attributes:
        name: what the case is called.
        source: its folder, or a file or DICOM folder per sequence.
        output: where its label map goes.
        report: where its report goes, if anywhere.
    """

    name: str
    source: Path | Mapping[Modality, Path]
    output: Path
    report: Path | None = None


def single_job(folders: list[Path], files: Mapping[Modality, Path], output: Path | None, report: Path | None) -> Job:
    """Return the case of `sofa segment CASE_DIR -o OUT` or `sofa segment --t1 … -o OUT`.

    Raises:
        InputError: the options do not name exactly one case.
        OutputError: no output is named.
    """
    if folders and files:
        raise InputError("Give either a case folder or single files (--t1, --t1c, --t2, --flair), not both.")
    if not folders and not files:
        raise InputError("Give a case folder, or its files with --t1, --t1c, --t2 and --flair.")
    if len(folders) > 1:
        raise InputError("Several cases need --out-dir FOLDER instead of -o.")
    if output is None:
        raise OutputError("Say where the result goes: -o OUT.nii.gz, or --out-dir FOLDER for several cases.")
    if folders:
        return Job(folders[0].resolve().name, folders[0], output, report)
    return Job(next(iter(files.values())).resolve().parent.name, files, output, report)


def cohort_jobs(folders: list[Path], out_dir: Path, reports: Path | None) -> list[Job]:
    """Return the cases of `sofa segment … --out-dir FOLDER`, each named after its folder.

    One folder without volumes of its own is a cohort: each folder in it is a case. Several folders are a case each.

    Raises:
        InputError: there is no case, or two have the same name.
    """
    if not folders:
        raise InputError("--out-dir needs case folders, or one folder that holds them.")
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; check its name.")
    cases = folders
    if len(folders) == 1 and not any(p.is_file() and is_volume_file(p) for p in folders[0].iterdir()):
        cases = sorted(p for p in folders[0].iterdir() if p.is_dir() and not p.name.startswith("."))
        if not cases:
            raise InputError(f"{folders[0]} holds neither volumes nor case folders.")
    names = [case.resolve().name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"Two cases are called {twice[0]}, so one result would replace the other; rename one folder.")
    return [
        Job(name, case, out_dir / f"{name}.nii.gz", None if reports is None else reports / f"{name}.html")
        for name, case in zip(names, cases, strict=True)
    ]
