"""Headers that name another file for their voxels: it must lie beside them, where the header may be read, too."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sofa_engine.errors import InputError

#: How MetaImage and NRRD say where the voxels are. Looked for anywhere, not at the beginnings of lines alone: NRRD's
#: reader ends a line also where a lone carriage return stands, in the midst of a comment. Only NRRD ignores the case.
_META = re.compile(rb"ElementDataFile([^\n]*)")
_NRRD = re.compile(rb"data ?file([^\n]*)", re.IGNORECASE)
_NAMES = {".mhd": _META, ".mha": _META, ".nhdr": _NRRD, ".nrrd": _NRRD}
#: NRRD's header ends with an empty line at the latest; MetaImage's has no end but the name itself.
_NRRD_END = b"\n\n"
#: A plain name. With folders in it, the reader's idea of the place could be another than ours: it cuts long ones off.
_PLAIN = re.compile(r"[ \t]*[:=][ \t]*(?:\./)?([^\s/\\:%][^/\\:%\x00-\x1f]*)\r?")


def check_data_files(header: Path, root: Path) -> None:
    """Refuse a MetaImage or NRRD header whose voxels lie in no plain file beside it; other files have no such header.

    Args:
        header: file of a volume.
        root: folder that all of it must lie in, links followed.

    Raises:
        InputError: its data file lies elsewhere, or is no single file.
    """
    for said in _said_in(header):
        name = _PLAIN.fullmatch(said)
        if name is None or not _lies_in(root, header.parent / name[1].strip()):
            raise InputError(
                f"{header.name} does not hold its voxels itself; save it as one file (NIfTI, .nrrd or .mha), or give "
                "the one file that it names beside it."
            )


def _said_in(header: Path) -> Iterator[str]:
    """Yield what follows where a header names its data file, up to the end of the line."""
    name = _NAMES.get(header.suffix.lower())
    if name is None:
        return
    try:
        with header.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            end = content.find(_NRRD_END) if name is _NRRD else -1
            said = [os.fsdecode(place[1]) for place in name.finditer(content, 0, end if end >= 0 else len(content))]
    except (OSError, ValueError):  # empty, a folder, or not to be read, which the reader will say
        return
    yield from said


def _lies_in(root: Path, file: Path) -> bool:
    """Whether a data file is one below `root`; MetaImage's LOCAL is as harmless as a file of that name."""
    if file.name == "-" or file.name.upper().startswith("LIST"):
        return False  # standard input, or names in the lines that follow
    try:
        return file.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False
