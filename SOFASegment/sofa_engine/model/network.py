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
from sofa_engine.model.localiser import Localiser
from sofa_engine.model.prior import OUTSIDE, BoxPrior, Prompt, ellipsoids, rasterise
from sofa_engine.types import MODALITIES, SUB_REGIONS


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
        """Pick N pairs out of B slices.

        Args:
            fused: of the slices.
            slices: int64 (N,).
            regions: int64 (N,).
        """
        fine = tuple(level[slices, regions] for level in fused.fine)
        return RegionFeatures(fused.maps[slices, regions], fine, regions)

    def rows(self, index: Tensor) -> RegionFeatures:
        """Return some of the pairs, in the order of `index`."""
        return RegionFeatures(self.maps[index], tuple(level[index] for level in self.fine), self.regions[index])


class SofaModel(nn.Module):
    """LiteMedSAM with SOFA's two additions. See `ModelConfig` for the arrangements."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        conditioned = len(MODALITIES) if config.modality_conditioning == "stages" else 0
        self.image_encoder = ImageEncoder(config.encoder, config.channels, conditioned)
        self.prompt_encoder = build_prompt_encoder(config.channels, self.stride)
        self.mask_decoder = BatchedMaskDecoder(
            config.channels,
            config.decoder_mlp,
            config.decoder_heads,
            config.detail_channels,
            config.picture_channels,
        )
        self.localiser = None if config.localiser is None else Localiser(config.localiser)
        self.box_prior = BoxPrior() if config.box_prior else None
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

    @property
    def mask_pixel(self) -> int:
        """Pixels per cell of the predicted masks."""
        return self.stride // self.config.mask_scale

    def channels_last(self) -> SofaModel:
        """Lay the weights of convolutions out with channels last, which CPUs and tensor cores compute fastest."""
        for name, child in self.named_children():
            child.to(memory_format=torch.channels_last_3d if name == "localiser" else torch.channels_last)  # type: ignore[call-overload]
        return self

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
            full[index] = x  # older PyTorch has no index_copy on mps
            return full.unflatten(0, (batch, count))

        fused, alpha = self.attention(spread(maps), present)
        fine = tuple(fuse(spread(level), alpha, present) for level in early[: self.config.detail])
        return Fused(fused, alpha, fine)

    def first_pass(self, features: RegionFeatures) -> tuple[Tensor, Tensor]:
        """Decode without a box: logits (N, kh, kw), k = `ModelConfig.mask_scale`, and estimated IoU (N,)."""
        maps = features.maps
        tokens = self.first_tokens[features.regions].to(maps.dtype)
        nothing = maps.new_zeros(len(maps), *self._mask_size(maps), dtype=torch.float32)
        return self._decode(features, tokens, self._no_mask(maps), self._picture(nothing, nothing, nothing))

    def second_pass(self, features: RegionFeatures, prompt: Prompt, belief: Tensor) -> tuple[Tensor, Tensor]:
        """Decode with a box (eq. 5-6).

        Args:
            features: N pairs.
            prompt: a box for each.
            belief: first pass's logits (N, kh, kw); used only in arrangements with `dense_prompt` or `detail`.

        Returns:
            Logits (N, kh, kw) and estimated IoU (N,). With a box prior, and other than in training, what the first pass
            found in a person's box stays, for it knows more than this slice, and the box is not answered with all but
            nothing (`BoxPrior.fill`).
        """
        maps = features.maps
        tokens = embed_boxes(self.prompt_encoder, prompt.boxes).to(maps.dtype)
        if self.config.mode.value == "default":
            # The decoder is shared, so the prompt also says which sub-region is asked for: what that sub-region's
            # first-pass tokens have learned beyond the mean over sub-regions.
            shift = self.first_tokens - self.first_tokens.mean(dim=0, keepdim=True)
            tokens = tokens + shift[features.regions].to(maps.dtype)
        size = self._mask_size(maps)
        pixel = self.mask_pixel
        inside = rasterise(prompt.boxes, size, pixel)
        if self.config.dense_prompt:
            dense = self._dense(OUTSIDE + inside * (belief.float().clamp(OUTSIDE, -OUTSIDE) - OUTSIDE))
        else:
            dense = self._no_mask(maps)
        if self.box_prior is None:
            believed = belief.float().sigmoid() * inside if self.config.detail else inside
            return self._decode(features, tokens, dense, self._picture(believed, inside, inside))
        ellipsoid = ellipsoids(prompt, size, pixel)
        picture = self._picture(belief.float().sigmoid() * inside, inside, ellipsoid)
        logits, quality = self._decode(features, tokens, dense, picture)
        logits = logits + self.box_prior(belief, ellipsoid, prompt.stated, features.regions)
        if not self.training:
            kept = prompt.stated[:, None, None] & (inside > 0)
            logits = torch.where(kept, torch.maximum(logits.float(), belief.float()), logits.float())
            logits = self.box_prior.fill(logits, inside, prompt, features.regions)
        return logits, quality

    def _mask_size(self, maps: Tensor) -> tuple[int, int]:
        return maps.shape[2] * self.config.mask_scale, maps.shape[3] * self.config.mask_scale

    def _no_mask(self, maps: Tensor) -> Tensor:
        return self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).to(maps.dtype)

    def _dense(self, mask: Tensor) -> Tensor:
        # SAM's mask prompt has four cells per cell of the feature map.
        return self.prompt_encoder.mask_downscaling(
            nn.functional.avg_pool2d(mask[:, None], self.config.mask_scale // 4)
        )

    def _picture(self, belief: Tensor, inside: Tensor, ellipsoid: Tensor) -> Tensor | None:
        """Return the planes that the detail paths are shown, (N, picture_channels, kh, kw), None without such paths."""
        if not self.config.detail:
            return None
        planes = [belief, inside]
        if self.config.box_prior:
            planes.append(ellipsoid)
        return torch.stack(planes, dim=1)

    def _decode(
        self, features: RegionFeatures, tokens: Tensor, dense: Tensor, picture: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        maps = features.maps
        size = (maps.shape[2], maps.shape[3])
        positions = dense_positions(self.prompt_encoder, size, self.stride).to(maps.dtype)
        return self.mask_decoder.decode(maps, positions, tokens, dense, features.fine, picture)
