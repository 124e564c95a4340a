"""Which cases a dataset holds: BraTS 2018 to 2024, nnU-Net, Medical Segmentation Decathlon, or a CSV.

Finding only looks at names; `sofa_training.checks` opens the files.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sofa_engine.errors import InputError
from sofa_engine.naming import modality_of
from sofa_engine.types import MODALITIES, Modality, SubRegion
from sofa_training.subjects import subject_of

#: Label values that a truth may hold, and the sub-region of each; None is background to SOFA.
LabelValues = Mapping[int, SubRegion | None]

#: BraTS 2018 to 2021.
LABELS_BRATS2020: LabelValues = {0: None, 1: SubRegion.NCR, 2: SubRegion.ED, 4: SubRegion.ET}
#: BraTS 2023 and 2024, whose 4 (post-operative) is the resection cavity and no tumour.
LABELS_BRATS2023: LabelValues = {0: None, 1: SubRegion.NCR, 2: SubRegion.ED, 3: SubRegion.ET, 4: None}

_VOLUME_FILE = re.compile(r"^(?P<case>.+)[_-](?P<suffix>[A-Za-z0-9]+)\.(?:nii|nii\.gz|nrrd|mha)$")
#: The one file of BraTS 2020 that does not follow its own naming.
_BRATS2020_MISNAMED_TRUTH = "W39_1998.09.19_Segm.nii"


@dataclass(frozen=True)
class VolumeFile:
    """Where one sequence lies.

    Attributes:
        path: the image file.
        channel: index of the sequence in a 4D file (the Decathlon's), None for a 3D one.
    """

    path: Path
    channel: int | None = None


@dataclass(frozen=True)
class TrainingCase:
    """Files of one study with its truth.

    Attributes:
        name: unique in a dataset.
        subject: patient; the cases of one subject stay on one side of a split.
        images: a file per sequence that was found.
        truth: the expert's label map, None where there is none.
        labels: what the truth's values mean.
        layout: how the case was found, for the provenance.
        problems: sentences about what finding alone can tell is wrong.
    """

    name: str
    subject: str
    images: Mapping[Modality, VolumeFile]
    truth: Path | None
    labels: LabelValues
    layout: str
    problems: tuple[str, ...] = field(default=())

    @property
    def origin(self) -> str:
        """Return what a prepared case is made from, as JSON: patient, files (path, bytes, ns since the epoch), labels.

        Whatever differs makes another prepared case.
        """
        files = {m.value: [*_facts(file.path), file.channel] for m, file in self.images.items()}
        truth = None if self.truth is None else _facts(self.truth)
        labels = {str(value): None if r is None else r.name for value, r in sorted(self.labels.items())}
        made_from = {"subject": self.subject, "images": files, "truth": truth, "labels": labels}
        return json.dumps(made_from, sort_keys=True)


def find_cases(dataset: Path) -> tuple[TrainingCase, ...]:
    """Find the cases of a dataset by its layout, sorted by name.

    Args:
        dataset: a folder in the layout of BraTS 2018 to 2024, nnU-Net or the Decathlon, or a CSV of files
            (`sofa_training.case_table`).

    Raises:
        InputError: there is no such dataset, or no case in it.
    """
    if dataset.suffix.lower() == ".csv":
        from sofa_training.case_table import find_listed_cases  # noqa: PLC0415 - it shares the types above

        cases = find_listed_cases(dataset)
    elif (dataset / "dataset.json").is_file():
        from sofa_training.decathlon import find_described_cases  # noqa: PLC0415 - it shares the types above

        cases = find_described_cases(dataset)
    elif dataset.is_dir():
        cases = _from_brats(dataset)
    else:
        raise InputError(f"There is no dataset at {dataset}; give a folder of cases or a CSV file.")
    if not cases:
        raise InputError(
            f"No case was found in {dataset}; expected BraTS folders (CASE/CASE_t1.nii.gz, ...), nnU-Net or Decathlon "
            "folders with a dataset.json, or a CSV."
        )
    return tuple(sorted(cases, key=lambda case: case.name))


def _facts(path: Path) -> list[str | int | None]:
    """Return a file's place, size and time; no size and time where there is none."""
    found = path.stat() if path.is_file() else None
    return [str(path.resolve()), *((None, None) if found is None else (found.st_size, found.st_mtime_ns))]


def _files_below(root: Path) -> Iterator[Path]:
    """Yield the files of a folder, through links to folders too, since a selection of cases is often made of these."""
    been = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        place = Path(folder).resolve()
        # A link may lead back up. Hidden folders are still being written; hidden files are macOS's companions.
        folders[:] = [] if place in been else [name for name in folders if not name.startswith(".")]
        if place not in been:
            yield from (Path(folder) / name for name in files if not name.startswith("."))
        been.add(place)


def _from_brats(root: Path) -> list[TrainingCase]:
    groups: dict[tuple[Path, str], list[tuple[str, Path]]] = {}
    for path in sorted(_files_below(root)):
        match = _VOLUME_FILE.match(path.name)
        if match is None:
            continue
        suffix = match["suffix"].lower()
        if path.name == _BRATS2020_MISNAMED_TRUTH:
            groups.setdefault((path.parent, path.parent.name), []).append(("seg", path))
        elif suffix == "seg" or modality_of(suffix) is not None:
            groups.setdefault((path.parent, match["case"]), []).append((suffix, path))
    names = {name for _, name in groups}
    by_folder: dict[Path, list[str]] = {}
    for folder, name in groups:
        by_folder.setdefault(folder, []).append(name)
    cases = []
    for (folder, name), files in groups.items():
        by_role: dict[Modality | None, list[Path]] = {}  # None is the truth
        for suffix, path in files:
            by_role.setdefault(modality_of(suffix), []).append(path)
        problems = [
            f"{' and '.join(path.name for path in paths)} are given as {'truth' if role is None else role.title}; "
            "remove all but one."
            for role, paths in by_role.items()
            if len(paths) > 1
        ]
        neighbours = by_folder[folder]
        if len(neighbours) > 1 and len(by_role) < len(MODALITIES) + 1:
            problems.append(f"Files of several patients are mixed in {folder}: {', '.join(sorted(neighbours))}.")
        # Not by t2w, which is BIDS's name too.
        new_names = any(suffix in ("t1n", "t2f") for suffix, _ in files)
        cases.append(
            TrainingCase(
                name=name,
                subject=subject_of(name, names),
                images={m: VolumeFile(by_role[m][0]) for m in MODALITIES if m in by_role},
                truth=by_role[None][0] if None in by_role else None,
                labels=LABELS_BRATS2023 if new_names else LABELS_BRATS2020,
                layout="BraTS 2023/2024" if new_names else "BraTS 2018-2021",
                problems=tuple(problems),
            )
        )
    return cases
