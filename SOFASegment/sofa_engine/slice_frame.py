"""How a slice of the cropped volume becomes an image for the encoder, and how masks and boxes come back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sofa_engine.model.config import ModelConfig
from sofa_engine.model.decoder import FRAME

#: Images are padded to multiples of this many pixels, so that few different shapes occur.
PAD_MULTIPLE = 32
#: Probability that stands for 0, so that it has a logit.
_NEVER = 1e-4


@dataclass(frozen=True)
class SliceFrame:
    """Geometry between slices (H, W) and encoder images.

    Attributes:
        size: pixels (H, W) of a slice.
        scaled: pixels of the slice as the encoder sees it; equal to `size` for weights that work at native resolution.
        padded: pixels of the encoder's image; the slice lies at its top left, zeros below and to the right.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    padded: tuple[int, int]

    @staticmethod
    def of(config: ModelConfig, size: tuple[int, int]) -> SliceFrame:
        """Return the frame of slices of `size` for a model."""
        if config.resize == "litemedsam":
            longest = max(size)
            scaled = (round(size[0] * FRAME / longest), round(size[1] * FRAME / longest))
            return SliceFrame(size, scaled, (FRAME, FRAME))
        multiple = max(PAD_MULTIPLE, config.encoder.feature_stride)
        return SliceFrame(size, size, (-(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple))

    def images(self, slices: Tensor, config: ModelConfig) -> Tensor:
        """Turn intensities into encoder input.

        Args:
            slices: float32 (..., H, W) in 0..255.
            config: says how to scale intensities.

        Returns:
            float32 (..., *padded) in 0..1.
        """
        if self.scaled != self.size:
            slices = self._averaged(slices)
        if config.normalisation == "slice":
            low, high = slices.amin(dim=(-2, -1), keepdim=True), slices.amax(dim=(-2, -1), keepdim=True)
            slices = (slices - low) / (high - low).clamp_min(1e-8)
        else:
            slices = slices / 255.0
        below, right = self.padded[0] - self.scaled[0], self.padded[1] - self.scaled[1]
        return torch.nn.functional.pad(slices, (0, right, 0, below))

    def boxes(self, boxes: np.ndarray) -> Tensor:
        """Return boxes (n, 4), x0 y0 x1 y1 in pixels of a slice, in pixels of the encoder's image."""
        y, x = self.scaled[0] / self.size[0], self.scaled[1] / self.size[1]
        return torch.from_numpy(np.asarray(boxes, dtype=np.float32) * np.array([x, y, x, y], dtype=np.float32))

    def masks(self, logits: Tensor) -> Tensor:
        """Enlarge logits (n, h, w) over the encoder's image to logits (n, H, W) over the slice."""
        full = torch.nn.functional.interpolate(
            logits[None].float(), size=self.padded, mode="bilinear", align_corners=False
        )[..., : self.scaled[0], : self.scaled[1]]
        if self.scaled != self.size:
            full = torch.nn.functional.interpolate(full, size=self.size, mode="bilinear", align_corners=False)
        return full[0]

    def cells(self, probabilities: Tensor, pixel: int) -> Tensor:
        """Return logits (n, kh, kw) on the cells of the encoder's image whose masks are about these.

        Args:
            probabilities: (n, H, W) over the slice.
            pixel: width of a cell in pixels of the encoder's image.
        """
        logits = torch.logit(probabilities.float().clamp(_NEVER, 1 - _NEVER))
        if self.scaled != self.size:
            logits = self._averaged(logits)
        below, right = self.padded[0] - self.scaled[0], self.padded[1] - self.scaled[1]
        # A cell across the slice's edge is worth what lies inside.
        padded = torch.nn.functional.pad(logits[None], (0, right, 0, below), mode="replicate")[0]
        return torch.nn.functional.avg_pool2d(padded, pixel)

    def _averaged(self, images: Tensor) -> Tensor:
        """Resize float32 (..., *size) to `scaled` by area; PyTorch's own way is not there for every size on mps."""
        rows = _area_weights(self.size[0], self.scaled[0]).to(images)
        columns = _area_weights(self.size[1], self.scaled[1]).to(images)
        return rows @ images @ columns.T


def _area_weights(source: int, target: int) -> Tensor:
    """Return the (target, source) matrix of area interpolation: each output pixel averages the interval it covers.

    The same as OpenCV's INTER_AREA on float images, which stock LiteMedSAM weights were trained with.
    """
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    cells = torch.arange(source, dtype=torch.float64)
    cover = torch.minimum(edges[1:, None], cells + 1) - torch.maximum(edges[:-1, None], cells)
    cover = cover.clamp_min(0)
    return (cover / cover.sum(dim=1, keepdim=True)).float()
