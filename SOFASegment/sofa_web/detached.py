"""Headers that name another file for their voxels: it must lie where the header may be read, too."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from sofa_engine.errors import InputError

#: Who names it how. The whole file is searched, for a reader may begin its header elsewhere than a check would.
_NAMES = {
    (".mhd", ".mha"): re.compile(rb"ElementDataFile([^\r\n]*)", re.IGNORECASE),
    (".nhdr", ".nrrd"): re.compile(rb"^data[ _]?file([^\r\n]*)", re.IGNORECASE | re.MULTILINE),
}
_HERE = "local"


def check_data_files(header: Path, root: Path) -> None:
    """Refuse a MetaImage or NRRD header whose voxels lie outside of a folder; other files have no such header.

    Args:
        header: file of a volume.
        root: folder that all of it must lie in.

    Raises:
        InputError: its data file lies outside, or is no single file.
    """
    for endings, name in _NAMES.items():
        if header.name.lower().endswith(endings):
            for value in _values(header, name):
                if value.lower() != _HERE:
                    _check(header, value, root.resolve())


def _values(header: Path, name: re.Pattern[bytes]) -> list[str]:
    try:
        with header.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = [match[1] for match in name.finditer(content)]
    except (OSError, ValueError):  # empty, or cannot be read, which the reader will say
        return []
    return [re.sub(rb"^[^=:]*[=:]+", b"", text).decode("utf-8", "replace").strip() for text in found]


def _check(header: Path, value: str, root: Path) -> None:
    several = not value or "%" in value or value.upper().startswith("LIST")
    try:
        inside = not several and (header.parent / value).resolve().is_relative_to(root)
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise InputError(
            f"{header.name} does not hold its voxels itself; save it as one file (NIfTI, .nrrd or .mha), or give the "
            "one file that it names beside it."
        )
