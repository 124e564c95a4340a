"""Bytes on the wire: a JSON header and zstd-compressed arrays, with limits checked before anything is allocated.

    message = b"SOFA" | uint32 length of header | header (JSON) | array | array ...
    header  = {"meta": {...}, "arrays": [{"name", "dtype", "shape", "size"}, ...]}
    frame   = uint32 length of message | message                      (a stream is a row of frames)

Integers are little-endian. Multi-byte voxels are byte-shuffled before compression (all first bytes, then all second
bytes, ...), which is what makes float MRI compress: four BraTS volumes go from 136 MiB to 9 MiB.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zstandard

from sofa_service.errors import MessageError, TooLargeError

_MAGIC = b"SOFA"
_LENGTH = struct.Struct("<I")
_DTYPES = {"float32": np.float32, "float16": np.float16, "uint8": np.uint8}
_MAX_WINDOW = 1 << 27
_MAX_AXIS = 4096


@dataclass(frozen=True)
class Limits:
    """What a receiver accepts.

    Attributes:
        message_bytes: longest message as sent.
        raw_bytes: most bytes of all its arrays together after decompression.
        header_bytes: longest JSON header.
    """

    message_bytes: int = 1 << 29
    raw_bytes: int = 1 << 31
    header_bytes: int = 1 << 20


@dataclass(frozen=True)
class Packet:
    """A decoded message: `meta` as parsed JSON, arrays by name."""

    meta: dict[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def encode(meta_json: str | bytes, arrays: Mapping[str, np.ndarray] | None = None, *, level: int = 1) -> bytes:
    """Pack a message from JSON text and arrays (float32, float16 or uint8 of 1 to 4 axes)."""
    meta = meta_json.encode() if isinstance(meta_json, str) else meta_json
    compressor = zstandard.ZstdCompressor(level=level)
    parts, table = [], []
    for name, array in (arrays or {}).items():
        packed = compressor.compress(_shuffle(array))
        table.append({"name": name, "dtype": array.dtype.name, "shape": array.shape, "size": len(packed)})
        parts.append(packed)
    header = b'{"meta":' + meta + b',"arrays":' + json.dumps(table, separators=(",", ":")).encode() + b"}"
    return b"".join([_MAGIC, _LENGTH.pack(len(header)), header, *parts])


def decode(message: bytes | memoryview, limits: Limits = Limits()) -> Packet:
    """Unpack a message, trusting nothing that it declares.

    Raises:
        MessageError: it is cut off or malformed, or has arrays that are not what they declare.
        TooLargeError: it is, or declares or unpacks to, more than `limits`.
    """
    view = memoryview(message)
    if len(view) > limits.message_bytes:
        raise TooLargeError(f"The message has {len(view)} bytes; at most {limits.message_bytes} are accepted.")
    if bytes(view[:4]) != _MAGIC or len(view) < 8:
        raise MessageError("This is not a SOFA message; send one packed by sofa_service.framing.encode.")
    (length,) = _LENGTH.unpack(view[4:8])
    if length > limits.header_bytes:
        raise TooLargeError(f"The message's header has {length} bytes; at most {limits.header_bytes} are accepted.")
    meta, table = _parse_header(bytes(view[8 : 8 + length]))
    _check_total(table, limits)
    arrays: dict[str, np.ndarray] = {}
    start = 8 + length
    for entry in table:
        arrays[entry.name] = _decompress(view[start : start + entry.size], entry)
        start += entry.size
    if start != len(view):
        raise MessageError("The message is longer or shorter than its header declares; send it again.")
    return Packet(meta, arrays)


def encode_frame(message: bytes) -> bytes:
    """Prefix a message with its length, to be one frame of a stream."""
    return _LENGTH.pack(len(message)) + message


class FrameReader:
    """Cuts a stream of bytes, arriving in pieces of any size, back into messages."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield every message that `data` completes."""
        self._pending += data
        while len(self._pending) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._pending)
            if length > self._limits.message_bytes:
                raise TooLargeError(f"A frame of {length} bytes exceeds the {self._limits.message_bytes} accepted.")
            end = _LENGTH.size + length
            if len(self._pending) < end:
                return
            message = bytes(self._pending[_LENGTH.size : end])
            del self._pending[:end]
            yield decode(message, self._limits)


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    size: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _parse_header(header: bytes) -> tuple[dict[str, Any], list[_Entry]]:
    try:
        parsed = json.loads(header)
        meta, rows = parsed["meta"], parsed["arrays"]
        table = [
            _Entry(str(row["name"]), np.dtype(_DTYPES[row["dtype"]]), tuple(row["shape"]), row["size"]) for row in rows
        ]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MessageError(
            "The message's header cannot be read: it must be JSON with meta and arrays of float32, float16 or uint8."
        ) from None
    if not isinstance(meta, dict) or len({entry.name for entry in table}) != len(table) or len(table) > 16:
        raise MessageError("The message's header must hold one object and at most 16 arrays, each named once.")
    for entry in table:
        numbers = (*entry.shape, entry.size)
        if not all(type(n) is int for n in numbers) or entry.size < 0 or not 1 <= len(entry.shape) <= 4:
            raise MessageError(f"Array {entry.name!r} declares a shape or size that is not made of whole numbers.")
        if not all(0 < n <= _MAX_AXIS for n in entry.shape):
            raise MessageError(f"Array {entry.name!r} has an axis outside 1 to {_MAX_AXIS} voxels.")
    return meta, table


def _check_total(table: list[_Entry], limits: Limits) -> None:
    total = sum(entry.nbytes for entry in table)
    if total > limits.raw_bytes:
        raise TooLargeError(
            f"The arrays would take {total / 2**20:.0f} MiB; at most {limits.raw_bytes / 2**20:.0f} MiB are accepted."
        )


def _decompress(data: memoryview, entry: _Entry) -> np.ndarray:
    """Decompress into a buffer of exactly the declared size: a bomb ends where the declaration ends."""
    try:
        declared = zstandard.get_frame_parameters(data).content_size
        if declared != entry.nbytes:
            raise MessageError(
                f"Array {entry.name!r} unpacks to {declared} bytes but declares {entry.nbytes}; send it again."
            )
        buffer = np.empty(entry.nbytes, np.uint8)
        # `data` is cut to the declared size, so a second zstd frame hidden behind the first is never read.
        with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(data) as reader:
            filled = 0
            while filled < buffer.size and (got := reader.readinto(memoryview(buffer)[filled:])):
                filled += got
            if filled != buffer.size or reader.read(1):
                raise MessageError(f"Array {entry.name!r} is not what it declares; send it again.")
    except zstandard.ZstdError:
        raise MessageError(f"Array {entry.name!r} is damaged or not zstd-compressed; send it again.") from None
    return _unshuffle(buffer, entry)


def _shuffle(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return flat if array.itemsize == 1 else np.ascontiguousarray(flat.reshape(-1, array.itemsize).T)


def _unshuffle(buffer: np.ndarray, entry: _Entry) -> np.ndarray:
    size = entry.dtype.itemsize
    if size > 1:
        buffer = np.ascontiguousarray(buffer.reshape(size, -1).T).reshape(-1)
    return buffer.view(entry.dtype).reshape(entry.shape)
