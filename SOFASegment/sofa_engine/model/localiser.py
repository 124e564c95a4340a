"""A small 3D network that finds the tumour at 2 mm: which slices are worth encoding, and a second opinion on them.

LiteMedSAM sees one slice (or three). Whether a dark core is necrosis, or a bright spot oedema, is often decided by what
lies above and below. Two networks that see so differently err differently, so the first pass is the mean of both. One
run over a whole brain costs about as much as encoding ten slices.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from sofa_engine.model.config import LocaliserConfig
from sofa_engine.types import MODALITIES, SUB_REGIONS, SubRegion

#: Questions that are asked of every cell, each where the one before is answered with yes: is it tumour, is tumour core,
#: is core enhancing? So the rare sub-regions are told apart among their like, and not from all the healthy brain.
QUESTIONS = 3
#: Slices whose every logit is lower (5 %) hold nothing that the first pass would find.
_SUSPICION = -3.0
_MARGIN_MM = 4.0
#: No opinion is surer than this, so that its logit stays a number.
_LEAST = 1e-4


class _Residual(nn.Module):
    """Two 3x3x3 convolutions around an identity, normalisation first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(width), _norm(width)
        self.conv1 = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(y)))


class _Up(nn.Module):
    """Double the resolution, add the encoder's features of that resolution, and mix."""

    def __init__(self, coarse: int, fine: int, mix: nn.Module) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(coarse, fine, 2, 2, bias=False)
        self.mix = mix

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.mix(self.up(x) + skip)


class Localiser(nn.Module):
    """Four sequences of a whole brain at `LocaliserConfig.spacing_mm` to the probability of each sub-region."""

    def __init__(self, config: LocaliserConfig) -> None:
        super().__init__()
        self.config = config
        w0, w1, w2, w3 = config.widths
        self.stem = nn.Conv3d(2 * len(MODALITIES), w0, 3, padding=1, bias=False)
        self.down = nn.ModuleList(
            nn.Sequential(_norm(a), nn.ReLU(), nn.Conv3d(a, b, 3, stride=2, padding=1, bias=False))
            for a, b in ((w0, w1), (w1, w2), (w2, w3))
        )
        self.encode = nn.ModuleList(
            nn.Sequential(*(_Residual(width) for _ in range(depth)))
            for width, depth in zip((w1, w2, w3), config.depths, strict=True)
        )
        light = nn.Sequential(_norm(w0), nn.ReLU(), nn.Conv3d(w0, w0, 3, padding=1, bias=False))
        self.up = nn.ModuleList([_Up(w3, w2, _Residual(w2)), _Up(w2, w1, _Residual(w1)), _Up(w1, w0, light)])
        self.head, self.side = _answers(w0), _answers(w1)

    @property
    def multiple(self) -> int:
        """Cells along each axis must be a multiple of this."""
        return 2 ** len(self.down)

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """Classify every cell.

        Args:
            volume: (B, 8, D, H, W), four sequences in 0..1 on cells of `spacing_mm`, zero outside the brain and for
                absent sequences, then the same of the other side of the brain (`with_other_side`); D, H, W multiples
                of `multiple`.

        Returns:
            Logits (B, 3, D, H, W) of tumour, of core in tumour and of enhancing in core (`sub_regions` turns them into
            probabilities), and coarser ones at half the resolution, which only training looks at.
        """
        x = self.stem(volume)
        skips = [x]
        for down, blocks in zip(self.down, self.encode, strict=True):
            x = blocks(down(x))
            skips.append(x)
        skips.pop()
        side = x
        for up in self.up:
            side, x = x, up(x, skips.pop())
        coarse = self.side(side)
        # The finer answer corrects the coarser one, which is learned much sooner.
        return self.head(x) + F.interpolate(coarse, scale_factor=2, mode="trilinear"), coarse

    @torch.no_grad()
    def locate(self, images: Tensor, spacing: tuple[float, float, float], *, mirrored: bool = True) -> Tensor:
        """Find the sub-regions in one case.

        Args:
            images: (4, D, H, W) in 0..1, zero outside the brain and for absent sequences.
            spacing: mm between voxels (z, y, x).
            mirrored: whether to average with the answer to the left-right mirrored brain.

        Returns:
            Logits of each sub-region against all else, float32 (3, D', H', W') on cells of about `spacing_mm` that
            cover the images' extent.
        """
        cells = to_cells(images, spacing, self.config.spacing_mm)
        size = cells.shape[-3:]
        pad = [n for length in reversed(size) for n in (0, -length % self.multiple)]
        both = torch.stack([cells, cells.flip(-1)]) if mirrored else cells[None]
        both = F.pad(with_other_side(both), pad)
        probability = sub_regions(self(both.to(memory_format=torch.channels_last_3d))[0])
        probability = probability[..., : size[0], : size[1], : size[2]]
        if mirrored:
            probability = torch.stack([probability[0], probability[1].flip(-1)])
        return torch.logit(probability.mean(dim=0).clamp(_LEAST, 1 - _LEAST))


def sub_regions(logits: Tensor) -> Tensor:
    """Return the probabilities of `SUB_REGIONS`, float32 (B, 3, ...), from the localiser's logits (B, 3, ...)."""
    tumour, core, enhancing = logits.float().sigmoid().unbind(dim=1)
    core = tumour * core
    enhancing = core * enhancing
    parts = {SubRegion.NCR: core - enhancing, SubRegion.ED: tumour - core, SubRegion.ET: enhancing}
    return torch.stack([parts[sub_region] for sub_region in SUB_REGIONS], dim=1)


def agreed(logits: Tensor, coarse: Tensor, vote: float) -> Tensor:
    """Return the logits of the mean of two opinions' probabilities, float32.

    Args:
        logits: the slice-wise network's.
        coarse: the localiser's, same shape.
        vote: weight of the localiser's, 0 to 1.
    """
    mean = torch.lerp(logits.float().sigmoid(), coarse.float().sigmoid(), vote)
    return torch.logit(mean.clamp(_LEAST, 1 - _LEAST))


def to_cells(images: Tensor, spacing: tuple[float, float, float], cell_mm: float) -> Tensor:
    """Average (C, D, H, W) over cells of about `cell_mm` that tile its extent, float32 (C, D', H', W')."""
    size = tuple(max(1, round(n * s / cell_mm)) for n, s in zip(images.shape[-3:], spacing, strict=True))
    return F.interpolate(images[None].float(), size=size, mode="area")[0]


def with_other_side(cells: Tensor) -> Tensor:
    """Append to each sequence of (..., C, D, H, W) its left-right mirror image: what is not on both sides stands out.

    The mirror is the middle of the brain's box, close enough to the midline for a comparison at 2 mm.
    """
    return torch.cat([cells, cells.flip(-1)], dim=-4)


def mask_cells(logits: Tensor, size: tuple[int, int, int], padded: tuple[int, int], pixel: int) -> Tensor:
    """Carry the localiser's logits over to the cells of the masks, slice by slice.

    Args:
        logits: (3, D', H', W').
        size: slices, and pixels (H, W) of the image in the encoder's frame.
        padded: pixels of the frame, which holds the image at its top left.
        pixel: pixels per cell of a mask.

    Returns:
        float32 (D, 3, padded / pixel); "certainly not" beyond the image.
    """
    full = F.interpolate(logits[None].float(), size=size, mode="trilinear")[0].transpose(0, 1)
    below, right = padded[0] - size[1], padded[1] - size[2]
    full = F.pad(full, (0, right, 0, below), value=float(full.new_tensor(_LEAST).logit()))
    return F.avg_pool2d(full, pixel)


def slices_worth_encoding(coarse: Tensor, slice_mm: float) -> np.ndarray:
    """Return the slices in which any sub-region is at all likely, and those within 4 mm of them, int64 ascending.

    Args:
        coarse: logits (D, 3, h, w).
        slice_mm: distance of the slices.
    """
    likely = coarse.amax(dim=(1, 2, 3)).cpu().numpy() > _SUSPICION
    reach = max(1, round(_MARGIN_MM / slice_mm))
    return np.flatnonzero(ndimage.binary_dilation(likely, iterations=reach)).astype(np.int64)


def _answers(width: int) -> nn.Sequential:
    answers = nn.Conv3d(width, QUESTIONS, 1)
    with torch.no_grad():
        assert answers.bias is not None
        answers.bias.copy_(torch.tensor([-1.0, 0.0, 0.0]))  # most cells hold no tumour
    return nn.Sequential(_norm(width), nn.ReLU(), answers)


def _norm(width: int) -> nn.GroupNorm:
    # Every channel on its own, so that no sample speaks for another: with wider groups the sub-regions were told apart
    # only after hundreds of steps.
    return nn.GroupNorm(width, width)
