"""SOFA's network: shared encoder, modality attention, first pass without a prompt, second pass with a box."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sofa_engine.model.attention import ModalityAttention, fuse
from sofa_engine.model.config import ModelConfig
from sofa_engine.model.decoder import (
    FRAME,
    BatchedMaskDecoder,
    build_prompt_encoder,
    dense_positions,
    embed_boxes,
)
from sofa_engine.model.encoder import ImageEncoder
from sofa_engine.types import MODALITIES, SUB_REGIONS

#: Logit of "certainly not" in the mask prompt, outside the box.
OUTSIDE = -10.0


class Fused(NamedTuple):
    """Fused features of B slices, everything that a prompt is answered from.

    Attributes:
        maps: (B, 3, C, h, w), f_hat_r of eq. 3.
        alpha: (B, 3, M, h, w), modality weights of eq. 2.
        fine: early features, coarse to fine, each (B, 3, Ci, ...) at twice the resolution of the one before; empty
            where the arrangement does without.
    """

    maps: Tensor
    alpha: Tensor
    fine: tuple[Tensor, ...]


class RegionFeatures(NamedTuple):
    """Features of N (slice, sub-region) pairs, ready to decode.

    Attributes:
        maps: (N, C, h, w).
        fine: early features, coarse to fine, each (N, Ci, ...).
        regions: int64 (N,), index of each pair's sub-region.
    """

    maps: Tensor
    fine: tuple[Tensor, ...]
    regions: Tensor

    @staticmethod
    def select(fused: Fused, slices: Tensor, regions: Tensor) -> RegionFeatures:
        """Pick N pairs out of B slices; `slices` and `regions` are int64 (N,)."""
        fine = tuple(level[slices, regions] for level in fused.fine)
        return RegionFeatures(fused.maps[slices, regions], fine, regions)


class SofaModel(nn.Module):
    """LiteMedSAM with SOFA's two additions. See `ModelConfig` for the arrangements."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        conditioned = len(MODALITIES) if config.modality_conditioning == "stages" else 0
        self.image_encoder = ImageEncoder(config.encoder, config.channels, conditioned)
        self.prompt_encoder = build_prompt_encoder(config.channels, self.stride)
        self.mask_decoder = BatchedMaskDecoder(
            config.channels, config.decoder_mlp, config.decoder_heads, config.detail_channels
        )
        self.attention = ModalityAttention(
            config.channels,
            config.attention,
            learned_temperature=config.learned_temperature,
            modality_embedding=config.modality_conditioning != "none",
        )
        self.first_tokens = nn.Parameter(torch.zeros(len(SUB_REGIONS), 2, config.channels))
        self.reset_first_tokens()

    @property
    def stride(self) -> int:
        """Pixels per cell of the fused maps."""
        return self.config.encoder.feature_stride

    @torch.no_grad()
    def reset_first_tokens(self) -> None:
        """Start the first pass's tokens from the embedding of a box around the whole frame.

        The first pass has no prompt, which SAM's decoder never met; so it begins as "everything" and learns the rest.
        """
        device = self.first_tokens.device
        whole = torch.tensor([[0.0, 0.0, FRAME, FRAME]], device=device)
        self.first_tokens.copy_(embed_boxes(self.prompt_encoder, whole).expand_as(self.first_tokens))

    def encode(self, images: Tensor, present: Tensor) -> Fused:
        """Encode and fuse slices (Algorithm 1, lines 8 to 13); the prompt plays no part.

        Args:
            images: (B, 4, 3, H, W) in the paper's order of modalities, scaled as `ModelConfig.normalisation` says; H
                and W multiples of `stride`. Absent modalities are not computed.
            present: bool (B, 4).
        """
        batch, count = present.shape
        index = present.flatten().nonzero()[:, 0]
        maps, early = self.image_encoder(images.flatten(0, 1)[index], index % count)

        def spread(x: Tensor) -> Tensor:
            if len(index) == batch * count:
                return x.unflatten(0, (batch, count))
            full = x.new_zeros(batch * count, *x.shape[1:])
            return full.index_copy(0, index, x).unflatten(0, (batch, count))

        fused, alpha = self.attention(spread(maps), present)
        fine = tuple(fuse(spread(level), alpha, present) for level in early[: self.config.detail])
        return Fused(fused, alpha, fine)

    def first_pass(self, features: RegionFeatures) -> tuple[Tensor, Tensor]:
        """Decode without a box: logits (N, kh, kw), k = `ModelConfig.mask_scale`, and estimated IoU (N,)."""
        maps = features.maps
        tokens = self.first_tokens[features.regions].to(maps.dtype)
        dense = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).to(maps.dtype)
        picture = maps.new_zeros(len(maps), 2, *maps.shape[2:]) if self.config.detail else None
        return self._decode(features, tokens, dense, picture)

    def second_pass(self, features: RegionFeatures, boxes: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Decode with a box (eq. 5-6).

        Args:
            features: N pairs.
            boxes: float (N, 4), x0 y0 x1 y1 in pixels of the encoded image, half-open.
            prior: first pass's logits (N, kh, kw); used only in arrangements with `dense_prompt` or `detail`.

        Returns:
            Logits (N, kh, kw) and estimated IoU (N,).
        """
        maps = features.maps
        tokens = embed_boxes(self.prompt_encoder, boxes).to(maps.dtype)
        if self.config.mode.value == "default":
            # The decoder is shared, so the prompt also says which sub-region is asked for: what that sub-region's
            # first-pass tokens have learned beyond the mean over sub-regions.
            shift = self.first_tokens - self.first_tokens.mean(dim=0, keepdim=True)
            tokens = tokens + shift[features.regions].to(maps.dtype)
        scale = self.config.mask_scale
        inside = rasterise(boxes, (maps.shape[2] * scale, maps.shape[3] * scale), self.stride / scale)
        if self.config.dense_prompt:
            mask = OUTSIDE + inside * (prior.float().clamp(OUTSIDE, -OUTSIDE) - OUTSIDE)
            # SAM's mask prompt has four cells per cell of the feature map.
            dense = self.prompt_encoder.mask_downscaling(nn.functional.avg_pool2d(mask[:, None], scale // 4))
        else:
            dense = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).to(maps.dtype)
        picture = torch.stack([prior.float().sigmoid() * inside, inside], dim=1) if self.config.detail else None
        return self._decode(features, tokens, dense, picture)

    def _decode(
        self, features: RegionFeatures, tokens: Tensor, dense: Tensor, picture: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        maps = features.maps
        size = (maps.shape[2], maps.shape[3])
        positions = dense_positions(self.prompt_encoder, size, self.stride).to(maps.dtype)
        return self.mask_decoder.decode(maps, positions, tokens, dense, features.fine, picture)


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
