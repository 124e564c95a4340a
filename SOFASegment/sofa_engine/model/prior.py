"""What the decoder is told beside the image: the localiser's belief, the box, and where in a box things usually are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sofa_engine.types import SUB_REGIONS

#: Logit of "certainly not" in the mask prompt, outside the box.
OUTSIDE = -10.0
#: Beliefs are bent towards these limits before a box is weighed against them, so that no belief is beyond correction.
_OWN_LIMIT, _BOX_LIMIT = 8.0, 4.0


class Prompt(NamedTuple):
    """One box per (slice, sub-region) pair.

    Attributes:
        boxes: float (N, 4), x0 y0 x1 y1 in pixels of the encoded image, half-open.
        heights: float (N,), where the slice lies in the 3D box that the rectangle was cut from: -1 at its lowest face,
            0 in the middle, 1 at its highest face; 0 for a box that was drawn in the slice itself.
        stated: bool (N,), True for a person's box, which is a statement, False for the model's own (eq. 4), which is
            only as good as the first pass was.
    """

    boxes: Tensor
    heights: Tensor
    stated: Tensor

    @staticmethod
    def of(boxes: Tensor, heights: Tensor | None = None, stated: Tensor | None = None) -> Prompt:
        """Fill in what was not said: boxes drawn in their slices, by a person."""
        return Prompt(
            boxes,
            boxes.new_zeros(len(boxes)) if heights is None else heights,
            torch.ones(len(boxes), dtype=torch.bool, device=boxes.device) if stated is None else stated,
        )


class BoxPrior(nn.Module):
    """The mask that a box alone suggests, weighed against the first pass's belief: logits that the network corrects.

    A person draws a box where there is something, and it lies around the middle more often than in the corners: an
    ellipsoid in the box, reading no image, is a better guess than an untrained network's. Starting from it, the network
    learns what the image adds.
    """

    def __init__(self) -> None:
        super().__init__()
        count = len(SUB_REGIONS)
        self.belief = nn.Parameter(torch.full((count,), 0.7))
        self.slope = nn.Parameter(torch.full((count,), 3.0))
        self.offset = nn.Parameter(torch.zeros(count))

    def forward(self, belief: Tensor, ellipsoid: Tensor, stated: Tensor, regions: Tensor) -> Tensor:
        """Return logits (N, H, W).

        Args:
            belief: first pass's logits (N, H, W).
            ellipsoid: from `ellipsoids`, (N, H, W).
            stated: bool (N,); the model's own boxes leave its belief as it is.
            regions: int64 (N,).
        """
        weight, slope, offset = (p[regions][:, None, None] for p in (self.belief, self.slope, self.offset))
        drawn = weight * bend(belief, _BOX_LIMIT) + slope * ellipsoid + offset
        return torch.where(stated[:, None, None], drawn, bend(belief, _OWN_LIMIT))


def bend(logits: Tensor, limit: float) -> Tensor:
    """Return logits that stay within +-limit and are unchanged near 0."""
    return limit * torch.tanh(logits.float() / limit)


def ellipsoids(prompt: Prompt, size: tuple[int, int], pixel: float) -> Tensor:
    """Return 1 - rho^2 on a grid of cells, float32 (N, H, W), not below -1; rho is 1 on the ellipsoid in the box.

    Args:
        prompt: boxes; zeros come back for those that no person stated.
        size: cells (H, W).
        pixel: width of a cell in the boxes' unit.
    """
    boxes = prompt.boxes.float()

    def offsets(low: Tensor, high: Tensor, count: int) -> Tensor:
        centres = (torch.arange(count, device=boxes.device, dtype=torch.float32) + 0.5) * pixel
        return (centres - (low + high)[:, None] / 2) / ((high - low).clamp(min=1)[:, None] / 2)

    y = offsets(boxes[:, 1], boxes[:, 3], size[0])
    x = offsets(boxes[:, 0], boxes[:, 2], size[1])
    heights = prompt.heights.float()[:, None, None]
    inside = 1 - y[:, :, None].square() - x[:, None, :].square() - heights.square()
    return inside.clamp(min=-1) * prompt.stated[:, None, None]


def rasterise(boxes: Tensor, size: tuple[int, int], pixel: float) -> Tensor:
    """Return how much of each cell lies inside each box, (N, H, W) float32 in 0..1.

    Args:
        boxes: (N, 4), x0 y0 x1 y1.
        size: cells (H, W).
        pixel: width of a cell in the boxes' unit.
    """

    def cover(low: Tensor, high: Tensor, count: int) -> Tensor:
        edges = torch.arange(count, device=boxes.device, dtype=torch.float32)
        return ((high[:, None] / pixel).minimum(edges + 1) - (low[:, None] / pixel).maximum(edges)).clamp(0, 1)

    boxes = boxes.float()
    rows = cover(boxes[:, 1], boxes[:, 3], size[0])
    columns = cover(boxes[:, 0], boxes[:, 2], size[1])
    return rows[:, :, None] * columns[:, None, :]


def coarse_planes(coarse: Tensor, regions: Tensor) -> Tensor:
    """Return what N pairs are told of the localiser's answer, float32 (N, 2, H, W) logits.

    Args:
        coarse: localiser's logits of all sub-regions, (N, 3, H, W), from one softmax.
        regions: int64 (N,), whose own logits come first; second comes any sub-region.
    """
    own = coarse[torch.arange(len(coarse), device=coarse.device), regions].float()
    tumour = torch.logit(coarse.float().sigmoid().sum(dim=1).clamp(1e-4, 1 - 1e-4))
    return torch.stack([own, tumour], dim=1)
