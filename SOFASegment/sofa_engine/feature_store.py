"""Features of a case's slices: in memory up to a limit, beyond it in a temporary file that is mapped into memory."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from sofa_engine.errors import OutOfMemoryError
from sofa_engine.model.network import Fused

#: Every tensor of the file begins at a multiple of this many bytes.
_ALIGNMENT = 64


@dataclass(frozen=True)
class _InFile:
    """Where a tensor lies in the file, as a dense array whose axes are `order` of the tensor's own."""

    offset: int
    shape: tuple[int, ...]
    order: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


_Filed = tuple[_InFile, ...]


class FeatureStore:
    """The features of each of a case's slices, None for slices that have none yet.

    The first ones up to the limit stay where they are, on a GPU too; later ones go to a file. The file has no name:
    the system removes it when the store is released or the process ends, however it ends. Tensors come back with the
    values and the memory layout that they had, as views that must not be written to.
    """

    def __init__(self, depth: int, limit: int, folder: Path | None = None) -> None:
        """Make an empty store.

        Args:
            depth: slices of the case.
            limit: bytes that may stay in memory; 0 puts everything into the file.
            folder: where the file goes; `spill_folder()` where None.
        """
        self._limit = limit
        self._folder = folder
        self._kept: list[Fused | _Filed | None] = [None] * depth
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        self.memory_bytes = 0
        self.file_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Fused | None]:
        return (self[index] for index in range(len(self)))

    def __setitem__(self, index: int, features: Fused) -> None:
        """Keep a slice's features, once.

        Raises:
            OutOfMemoryError: the file cannot be written, the disk being full for example.
        """
        tensors = (features.maps, features.alpha, *features.fine)
        size = sum(t.numel() * t.element_size() for t in tensors)
        if self.memory_bytes + size <= self._limit:
            self._kept[index] = features
            self.memory_bytes += size
            return
        try:
            self._kept[index] = tuple(self._write(tensor) for tensor in tensors)
        except OSError as error:
            raise OutOfMemoryError(
                f"The case's features take more memory than the {self._limit / 2**30:.1f} GiB allowed, and the rest "
                f"cannot be written to {self._folder or spill_folder()} ({error.strerror}): make room there, or allow "
                "more memory."
            ) from error

    def __getitem__(self, index: int) -> Fused | None:
        """Return a slice's features, None where there are none."""
        kept = self._kept[index]
        if kept is None or isinstance(kept, Fused):
            return kept
        maps, alpha, *fine = (self._read(place) for place in kept)
        return Fused(maps, alpha, tuple(fine))

    def waiting(self) -> list[int]:
        """Return the slices that have no features."""
        return [index for index, kept in enumerate(self._kept) if kept is None]

    def _write(self, tensor: Tensor) -> _InFile:
        if self._file is None:
            # Unbuffered, so that a full disk shows at the write that met it.
            self._file = tempfile.TemporaryFile(dir=self._folder or spill_folder(), buffering=0)
        strides = tensor.stride()
        order = tuple(sorted(range(tensor.ndim), key=lambda axis: -strides[axis]))
        dense = tensor.permute(order).contiguous().cpu()
        place = _InFile(self.file_bytes, tuple(dense.shape), order, tensor.dtype, tensor.device)
        # Written and not mapped for writing: a full disk is then an error here and not the end of the process.
        rest = dense.view(torch.uint8).numpy().reshape(-1).data
        size = len(rest)
        self._file.seek(place.offset)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.file_bytes = -(-(place.offset + size) // _ALIGNMENT) * _ALIGNMENT
        return place

    def _read(self, place: _InFile) -> Tensor:
        size = prod(place.shape)
        if self._map is None or place.offset + size * place.dtype.itemsize > len(self._map):
            assert self._file is not None  # a place is known only after it was written
            # Tensors that were read before keep the older, smaller map.
            self._map = mmap.mmap(self._file.fileno(), 0)
        dense = torch.frombuffer(self._map, dtype=place.dtype, count=size, offset=place.offset).view(place.shape)
        axes = sorted(range(len(place.order)), key=place.order.__getitem__)
        return dense.permute(axes).to(place.device)


def spill_folder() -> Path:
    """Return where temporary files lie on a disk: on many Linux systems /tmp is memory, and /var/tmp is not."""
    disk = Path("/var/tmp")
    if sys.platform.startswith("linux") and "TMPDIR" not in os.environ and disk.is_dir():
        return disk
    return Path(tempfile.gettempdir())
