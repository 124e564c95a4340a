"""Damage that the reading libraries pass over in silence, found before a wrong volume is segmented."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from sofa_engine.errors import InputError

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_GZIP_BITS = 31
_STORAGE_CLASS = b"\x02\0\x02\0UI"
_DIRECTORY = b"1.2.840.10008.1.3.10"


def damaged(path: Path) -> InputError:
    """Return what is said about an image file that cannot be read."""
    return InputError(f"{path} cannot be read: it is damaged, cut short, or not an image; copy or export it again.")


def check_compressed(path: Path) -> None:
    """Compare the checksum of a compressed NIfTI, NRRD or MetaImage file.

    nibabel stops before the end of a gzip file, where its checksum is, and ITK takes whatever came out before an error.
    Files of other kinds, uncompressed ones and headers with their voxels in another file pass.

    Raises:
        InputError: the compressed voxels are damaged.
    """
    name = path.name.lower()
    try:
        if name.endswith(".gz"):
            with gzip.open(path) as stream:
                while stream.read(1 << 22):
                    pass
        elif name.endswith(".nrrd"):
            header, _, voxels = path.read_bytes().partition(b"\n\n")
            if b"encoding: gz" in header.lower():
                zlib.decompress(voxels, wbits=_GZIP_BITS)
        elif name.endswith(".mha"):
            header, _, voxels = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
            if b"CompressedData = True" in header:
                zlib.decompress(voxels)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path) from error


def is_cut_short(path: Path, pixel_bytes: int) -> bool:
    """Whether a DICOM file's uncompressed pixels end before their announced length; GDCM fills them up with zeros."""
    content = path.read_bytes()
    announced = (pixel_bytes + pixel_bytes % 2).to_bytes(4, "little")
    for representation in (b"OW\0\0", b"OB\0\0", b""):
        element = _PIXEL_DATA + representation + announced
        start = content.find(element)
        if start >= 0:
            return start + len(element) + pixel_bytes > len(content)
    return False


def is_dicom_image(path: Path) -> bool:
    """Whether a file is DICOM by its preamble and holds pixels of its own, readable or not.

    A DICOMDIR, the list of what lies on a disc, may hold pixels as icons of the images.
    """
    if path.name.upper() == "DICOMDIR":
        return False
    with path.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            return False
        content = stream.read()
    return _PIXEL_DATA in content and _storage_class(content) != _DIRECTORY


def _storage_class(content: bytes) -> bytes:
    """Return the Media Storage SOP Class UID, which is always explicit little endian; empty if there is none."""
    _, found, rest = content.partition(_STORAGE_CLASS)
    return rest[2 : 2 + int.from_bytes(rest[:2], "little")].rstrip(b"\0") if found else b""
