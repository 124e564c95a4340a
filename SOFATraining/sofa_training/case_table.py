"""Cases that a table lists: a CSV with a line per case, for files that lie anywhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from pathlib import Path

from sofa_engine.errors import InputError
from sofa_engine.types import MODALITIES
from sofa_training.cases import LABELS_BRATS2020, LABELS_BRATS2023, LabelValues, TrainingCase, VolumeFile
from sofa_training.subjects import subject_of

_REQUIRED = ("name", "truth")
_SEQUENCES = tuple(m.value for m in MODALITIES)
_KNOWN = frozenset((*_REQUIRED, *_SEQUENCES, "subject", "labels"))
_SCHEMES: Mapping[str, LabelValues] = {"2020": LABELS_BRATS2020, "2023": LABELS_BRATS2023}


def find_listed_cases(table: Path) -> list[TrainingCase]:
    """Return the cases of a CSV.

    Args:
        table: columns name, t1, t1c, t2, flair, truth, and if wanted subject (else told by the name) and labels
            ("2020" where left out, or "2023"). Paths are relative to the table. Commas, semicolons or tabs separate
            the columns, since spreadsheets of different countries write either.

    Raises:
        InputError: there is no such table, or a line of it cannot be understood; the sentence names the line.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{table} is not UTF-8 text; save it as 'CSV UTF-8'.") from error
    except OSError as error:
        raise InputError(f"There is no table at {table}.") from error
    heading = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=heading.count))
    columns = {column.strip() for column in reader.fieldnames or ()}
    if not columns.issuperset(_REQUIRED) or columns - _KNOWN:
        raise InputError(
            f"{table} must have the columns name, truth, {', '.join(_SEQUENCES)} and may have subject and labels; it "
            f"has {', '.join(sorted(columns)) or 'none'}."
        )
    lines: list[tuple[int, dict[str, str]]] = []
    for row in reader:
        if None in row:
            raise InputError(f"{table}, line {reader.line_num}, has more fields than the heading has columns.")
        values = {key.strip(): (value or "").strip() for key, value in row.items()}
        if any(values.values()):  # spreadsheets end with lines of nothing but separators
            lines.append((reader.line_num, values))
    names = {values["name"] for _, values in lines}
    return [_case(values, names, table, line) for line, values in lines]


def _case(values: Mapping[str, str], names: Collection[str], table: Path, line: int) -> TrainingCase:
    name, scheme = values["name"], values.get("labels") or "2020"
    # The name becomes the name of a file.
    if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|'):
        raise InputError(f"{table}, line {line}: {name or 'an empty field'!r} cannot be the name of a case.")
    if scheme not in _SCHEMES:
        raise InputError(f'{table}, line {line}: the labels of {name} must be "2020" or "2023", not "{scheme}".')
    return TrainingCase(
        name=name,
        subject=values.get("subject") or subject_of(name, names),
        images={m: VolumeFile(table.parent / values[m.value]) for m in MODALITIES if values.get(m.value)},
        truth=table.parent / values["truth"] if values["truth"] else None,
        labels=_SCHEMES[scheme],
        layout="CSV",
    )
