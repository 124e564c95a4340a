"""Random changes of a slice: where pixels go (one change for all sequences and the truth), and how bright they are.

Every function draws from the generator it is given and from nothing else, so a sample is a function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sofa_training.config import AugmentationConfig


@dataclass(frozen=True)
class SpatialChange:
    """Where each output pixel comes from: source = centre + matrix @ (output - middle) + displacement.

    Attributes:
        matrix: float64 (2, 2), (y, x) offsets of the output to offsets of the source.
        centre: source position (y, x) that lands in the middle of the output.
        size: output (H, W).
        displacement: float32 (H, W, 2) (y, x) pixels of the source, or None.
    """

    matrix: np.ndarray
    centre: tuple[float, float]
    size: tuple[int, int]
    displacement: Tensor | None = None

    def sample(self, image: Tensor, mode: str = "bilinear") -> Tensor:
        """Return the output pixels of (C, Hs, Ws) float32 as (C, H, W); 0 where the source has nothing."""
        height, width = self.size
        rows = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
        columns = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
        m = self.matrix
        y = self.centre[0] + m[0, 0] * rows[:, None] + m[0, 1] * columns[None, :]
        x = self.centre[1] + m[1, 0] * rows[:, None] + m[1, 1] * columns[None, :]
        if self.displacement is not None:
            y, x = y + self.displacement[..., 0], x + self.displacement[..., 1]
        source_height, source_width = image.shape[-2:]
        grid = torch.stack([(2 * x + 1) / source_width - 1, (2 * y + 1) / source_height - 1], dim=-1)
        return F.grid_sample(image[None], grid[None].float(), mode=mode, padding_mode="zeros", align_corners=False)[0]

    def map_box(self, box: np.ndarray) -> np.ndarray:
        """Return the box in the output that encloses a box (x0, y0, x1, y1) of the source, float32 (4,), half-open.

        The displacement is left out: it moves a corner by a few pixels, which is less than the jitter of prompts.
        """
        x0, y0, x1, y1 = (float(v) - 0.5 for v in box)
        corners = np.array([[y0, x0], [y0, x1], [y1, x0], [y1, x1]])
        offsets = (corners - np.array(self.centre)) @ np.linalg.inv(self.matrix).T
        middle = (np.array(self.size) - 1) / 2
        low, high = offsets.min(axis=0) + middle + 0.5, offsets.max(axis=0) + middle + 0.5
        return np.array([low[1], low[0], high[1], high[0]], dtype=np.float32)


def draw_spatial(
    config: AugmentationConfig, centre: tuple[float, float], size: tuple[int, int], rng: np.random.Generator
) -> SpatialChange:
    """Draw rotation, scale, mirror and elastic deformation around a source position."""
    angle = np.deg2rad(rng.uniform(-config.rotation, config.rotation))
    scale = rng.uniform(*config.scale)
    flip = -1.0 if rng.random() < config.mirror else 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, flip]) / scale
    displacement = None
    if config.elastic > 0 and rng.random() < config.elastic_probability:
        displacement = _elastic(config.elastic, size, rng)
    return SpatialChange(matrix, centre, size, displacement)


def unchanged(centre: tuple[float, float], size: tuple[int, int]) -> SpatialChange:
    """Return a plain crop around a source position."""
    return SpatialChange(np.eye(2), centre, size)


def _elastic(largest: float, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    cells = tuple(max(3, round(n / rng.uniform(24, 48))) for n in size)
    coarse = torch.from_numpy(rng.uniform(-1, 1, (1, 2, *cells)).astype(np.float32))
    field = F.interpolate(coarse, size=size, mode="bicubic", align_corners=True)[0]
    return (field * float(rng.uniform(0.3, 1.0) * largest)).permute(1, 2, 0)


def vary_intensity(images: Tensor, config: AugmentationConfig, rng: np.random.Generator) -> Tensor:
    """Vary the brightness of each sequence on its own.

    Args:
        images: float32 (M, C, H, W) in [0, 1], 0 outside the brain; C neighbouring slices change alike.
        config: what to draw.
        rng: generator.

    Returns:
        The same shape and range, 0 where it was 0.
    """
    return torch.stack([_vary_sequence(image, config, rng) for image in images])


def _vary_sequence(image: Tensor, config: AugmentationConfig, rng: np.random.Generator) -> Tensor:
    def happens(strength: float) -> bool:
        return strength > 0 and rng.random() < config.probability

    inside = image > 0
    if happens(config.curve):
        image = _contrast_curve(image, config.curve, rng)
    if config.gamma != (1.0, 1.0) and rng.random() < config.probability:
        image = image ** float(np.exp(rng.uniform(*np.log(config.gamma))))
    if happens(config.bias):
        coarse = torch.from_numpy(rng.uniform(-1, 1, (1, 1, 3, 3)).astype(np.float32))
        field = F.interpolate(coarse, size=image.shape[-2:], mode="bicubic", align_corners=True)[0]
        image = image * (1 + float(rng.uniform(0, config.bias)) * field)
    if happens(config.gain):
        image = image * float(rng.uniform(1 - config.gain, 1 + config.gain))
    if happens(config.offset):
        image = image + float(rng.uniform(-config.offset, config.offset))
    if happens(config.blur):
        image = _blur(image, float(rng.uniform(0, config.blur)))
    if happens(config.noise):
        noise = rng.standard_normal(tuple(image.shape), dtype=np.float32)
        image = image + float(rng.uniform(0, config.noise)) * torch.from_numpy(noise)
    return torch.where(inside, image.clamp(0, 1), image.new_zeros(()))


def _contrast_curve(image: Tensor, deviation: float, rng: np.random.Generator) -> Tensor:
    """Map grey values through a random increasing curve with fixed ends, as another scanner's contrast would."""
    knots = np.linspace(0, 1, 5)
    moved = knots + np.r_[0.0, rng.uniform(-deviation, deviation, 3), 0.0]
    values = torch.from_numpy(np.maximum.accumulate(np.clip(moved, 0, 1)).astype(np.float32))
    position = image.clamp(0, 1) * 4
    low = position.floor().clamp(max=3).long()
    return torch.lerp(values[low], values[low + 1], position - low)


def _blur(image: Tensor, sigma: float) -> Tensor:
    if sigma < 0.2:
        return image
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    stacked = F.pad(image[:, None], (radius, radius, radius, radius), mode="replicate")
    stacked = F.conv2d(stacked, kernel.view(1, 1, -1, 1))
    return F.conv2d(stacked, kernel.view(1, 1, 1, -1))[:, 0]


def drop_modalities(present: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Return which sequences stay, bool (M,): each present one is lost with the probability, never all."""
    kept = present & (rng.random(present.shape) >= probability)
    if not kept.any():
        kept[rng.choice(np.flatnonzero(present))] = True
    return kept
