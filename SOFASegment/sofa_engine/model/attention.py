"""Sub-region-aware modality attention (section 3.3, eq. 1-3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sofa_engine.types import MODALITIES, SUB_REGIONS


class ModalityAttention(nn.Module):
    """Weigh the sequences of each position, differently for each sub-region.

    e_{m,r} = tanh(W_r f_m + b_r) is a 1x1 convolution from C channels to one logit per sub-region; a softmax over the
    present sequences gives alpha_{m,r}; the fused map is the weighted sum of the f_m.
    """

    def __init__(
        self,
        channels: int,
        scope: Literal["pixel", "global", "mean"] = "pixel",
        *,
        learned_temperature: bool = False,
        modality_embedding: bool = False,
    ) -> None:
        """Build the attention; see `ModelConfig` for the options."""
        super().__init__()
        self.scope = scope
        self.weight = nn.Parameter(torch.empty(len(SUB_REGIONS), channels))
        self.bias = nn.Parameter(torch.zeros(len(SUB_REGIONS)))
        nn.init.trunc_normal_(self.weight, std=channels**-0.5)
        self.scale = nn.Parameter(torch.ones(len(SUB_REGIONS))) if learned_temperature else None
        self.embedding = nn.Parameter(torch.zeros(len(MODALITIES), channels)) if modality_embedding else None

    def forward(self, features: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse the sequences.

        Args:
            features: (B, M, C, h, w), f_m of the four sequences in the paper's order; any values where absent.
            present: bool (B, M), which sequences there are; at least one per row.

        Returns:
            Fused maps (B, 3, C, h, w) and weights alpha (B, 3, M, h, w), which sum to 1 over M.
        """
        if self.embedding is not None:
            features = features + self.embedding.to(features.dtype)[None, :, :, None, None]
        batch, count, _, height, width = features.shape
        if self.scope == "mean":
            logits = features.new_zeros(batch, count, len(SUB_REGIONS), 1, 1)
        else:
            source = features.mean(dim=(3, 4), keepdim=True) if self.scope == "global" else features
            weight = self.weight[:, :, None, None].to(source.dtype)
            flat = nn.functional.conv2d(source.flatten(0, 1), weight, self.bias.to(source.dtype))
            logits = torch.tanh(flat.float()).view(batch, count, len(SUB_REGIONS), *flat.shape[-2:])
            if self.scale is not None:
                logits = logits * self.scale[None, None, :, None, None]
        logits = logits.float().masked_fill(~present[:, :, None, None, None], -torch.inf)
        alpha = logits.softmax(dim=1).transpose(1, 2).expand(batch, len(SUB_REGIONS), count, height, width)
        return fuse(features, alpha, present), alpha


def fuse(features: Tensor, alpha: Tensor, present: Tensor) -> Tensor:
    """Weighted sum over sequences (eq. 3).

    Args:
        features: (B, M, C, H, W).
        alpha: (B, 3, M, h, w); enlarged to H x W where the features are finer.
        present: bool (B, M); an absent sequence adds nothing even if its features are not finite.

    Returns:
        (B, 3, C, H, W) in the features' dtype.
    """
    if alpha.shape[-2:] != features.shape[-2:]:
        flat = nn.functional.interpolate(
            alpha.flatten(1, 2), size=features.shape[-2:], mode="bilinear", align_corners=False
        )
        alpha = flat.view(*alpha.shape[:3], *features.shape[-2:])
    alpha = alpha.to(features.dtype)
    features = torch.where(present[:, :, None, None, None], features, features.new_zeros(()))
    # One pass per sequence: an einsum here is ten times slower on the CPU, since it transposes the feature maps.
    fused = alpha[:, :, 0, None] * features[:, None, 0]
    for m in range(1, features.shape[1]):
        fused = torch.addcmul(fused, alpha[:, :, m, None], features[:, None, m])
    return fused
