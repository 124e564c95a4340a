"""What a frozen encoder says of a slice, kept on disk: training then costs attention and decoder alone."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sofa_engine.errors import OutputError
from sofa_engine.model.attention import fuse
from sofa_engine.model.network import Fused, SofaModel
from sofa_engine.types import MODALITIES

#: Of a value that is kept, fp16.
_BYTES = 2


class Encoded(NamedTuple):
    """Features of B slices before fusion, of all four sequences whether present or not.

    Attributes:
        maps: (B, 4, C, h, w), the neck's output.
        fine: early features, coarse to fine, each (B, 4, Ci, ...); none where the arrangement does without.
    """

    maps: Tensor
    fine: tuple[Tensor, ...]


def encode_each(model: SofaModel, images: Tensor) -> Encoded:
    """Run the encoder alone on images (B, 4, 3, H, W)."""
    batch, count = images.shape[:2]
    index = torch.arange(count, device=images.device).repeat(batch)
    maps, early = model.image_encoder(images.flatten(0, 1), index)

    def spread(x: Tensor) -> Tensor:
        return x.unflatten(0, (batch, count))

    return Encoded(spread(maps), tuple(spread(level) for level in early[: model.config.detail]))


def fuse_encoded(model: SofaModel, encoded: Encoded, present: Tensor) -> Fused:
    """Apply the modality attention (eq. 1-3) to features that were encoded before; `present` is bool (B, 4)."""
    maps, alpha = model.attention(encoded.maps, present)
    return Fused(maps, alpha, tuple(fuse(level, alpha, present) for level in encoded.fine))


def picture_key(pixels: Tensor) -> Tensor:
    """Return what names a picture (4, C, H, W) in the cache, int64 (2,): a digest of its pixels.

    Whatever the pixels come from, the case prepared anew or a batch of another size included, is then in the key.
    """
    digest = hashlib.blake2b(pixels.contiguous().numpy().tobytes(), digest_size=16).digest()
    return torch.from_numpy(np.frombuffer(digest, dtype=np.int64).copy())


class EmbeddingCache:
    """One file per picture, fp16; whatever is missing is encoded when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which belongs to one run; what an earlier part of the run left there is used."""
        self._folder = folder

    @staticmethod
    @torch.no_grad()
    def size_of(model: SofaModel, crops: Sequence[tuple[int, int]], count: int) -> int:
        """Return the bytes of `count` pictures' features; `crops` are their sizes, drawn equally often."""
        device = next(model.parameters()).device
        values = 0
        for rows, columns in crops:
            encoded = encode_each(model, torch.zeros(1, len(MODALITIES), 3, rows, columns, device=device))
            values += sum(level.numel() for level in (encoded.maps, *encoded.fine))
        return _BYTES * values * count // len(crops)

    def require_room(self, size: int) -> None:
        """Make sure that so many bytes fit on the disk, those that are there already among them.

        Raises:
            OutputError: they do not.
        """
        there = sum(path.stat().st_size for path in self._folder.glob("*.npz"))
        free = shutil.disk_usage(self._folder.parent).free
        if size - there > free:
            raise OutputError(
                f"The features of the frozen encoder would take {(size - there) / 1e9:.2g} GB more in {self._folder}, "
                f"and {free / 1e9:.2g} GB are free; free some space and give the same command again, or start a run in "
                "another folder or with a lower run.cached_variants (0 keeps nothing and encodes every time)."
            )

    def remove(self) -> None:
        """Remove all of it; whatever is asked for afterwards is encoded again."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @torch.no_grad()
    def encoded(self, model: SofaModel, images: Tensor, keys: Tensor) -> Encoded:
        """Return the features of a batch on the images' device.

        Args:
            model: with a frozen encoder, in evaluation mode.
            images: (B, 4, 3, H, W).
            keys: int64 (B, 2), see `picture_key`.

        Raises:
            OutputError: a file cannot be written.
        """
        paths = [self._folder / f"{key.tobytes().hex()}.npz" for key in keys.cpu().numpy()]
        missing = [i for i, path in enumerate(paths) if not path.is_file()]
        if missing:
            fresh = encode_each(model, images[missing])
            for row, i in enumerate(missing):
                self._write(paths[i], [x[row] for x in (fresh.maps, *fresh.fine)])
        rows = [self._read(path, images.device) for path in paths]
        # Also what was just computed is read back, so that a resumed run computes with the same rounded numbers.
        maps, *fine = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return Encoded(maps, tuple(fine))

    @staticmethod
    def _read(path: Path, device: torch.device) -> list[Tensor]:
        with np.load(path, allow_pickle=False) as arrays:
            return [torch.from_numpy(arrays[name]).to(device).float() for name in sorted(arrays)]

    @staticmethod
    def _write(path: Path, tensors: list[Tensor]) -> None:
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez(file, **{f"{i}": t.detach().to("cpu", torch.float16).numpy() for i, t in enumerate(tensors)})
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(
                f"The cache of embeddings cannot be written to {path.parent} ({error.strerror})."
            ) from error
