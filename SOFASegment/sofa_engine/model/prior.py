"""What the decoder is told beside the image: a belief, the box, and where in a box things usually are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sofa_engine.types import SUB_REGIONS

#: Logit of "certainly not" in the mask prompt, outside the box.
OUTSIDE = -10.0
#: Beliefs are bent towards these limits before a box is weighed against them, so that no belief is beyond correction.
_OWN_LIMIT, _BOX_LIMIT = 8.0, 4.0
#: How far `BoxPrior.fill` looks, in logits and by which steps, and what it weighs: the share's spread in its logarithm
#: (over the boxes of training cases it is 0.4 to 0.6), and the spread of what a network may be wrong by.
_FARTHEST, _STEP = 14.0, 0.5
_SHARE_SPREAD, _RAISE_SPREAD = 0.5, 4.0
#: Added to shares, so that an empty answer has a logarithm.
_LITTLE = 0.01


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
    learns what the image adds. And nobody draws a box around nothing: an answer that leaves it all but empty is a doubt
    of the network that the person has settled.
    """

    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        count = len(SUB_REGIONS)
        self.belief = nn.Parameter(torch.full((count,), 0.7))
        self.slope = nn.Parameter(torch.full((count,), 3.0))
        self.offset = nn.Parameter(torch.zeros(count))
        # Measured on the training cases (`sofa_training.boxes.usual_shares`); zeros fill nothing.
        self.register_buffer("share", torch.zeros(count))

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

    def fill(self, logits: Tensor, inside: Tensor, prompt: Prompt, regions: Tensor) -> Tensor:
        """Raise the logits in boxes that were answered with less than a sub-region usually fills of its box.

        One number is added to all logits in a box, so the image still says where the sub-region is. It is the best
        trade between how unusual the filled share is and how far the network's own answer is left; nothing is lowered.

        Args:
            logits: answer (N, H, W).
            inside: from `rasterise`, (N, H, W).
            prompt: boxes; those that no person stated are left alone. In a 3D box the usual share falls from the middle
                to the faces as an ellipsoid's cross-section does.
            regions: int64 (N,).
        """
        usual = self.share[regions].float() * (1 - prompt.heights.float().square()).clamp(min=0)
        area = inside.sum((1, 2)).clamp(min=1e-6)
        bounded = logits.float().clamp(-_FARTHEST, _FARTHEST)
        best, least = torch.zeros_like(usual), torch.full_like(usual, torch.inf)
        for count in range(round(_FARTHEST / _STEP) + 1):
            by = count * _STEP
            filled = ((bounded + by).sigmoid() * inside).sum((1, 2)) / area
            unusual = ((filled + _LITTLE) / (usual + _LITTLE)).log() / _SHARE_SPREAD
            cost = unusual.square() + (by / _RAISE_SPREAD) ** 2
            best, least = torch.where(cost < least, by, best), cost.minimum(least)
        return logits + (best * prompt.stated)[:, None, None] * (inside > 0)


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
