"""LiteMedSAM's image encoder, built from timm's TinyViT."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sofa_engine.model.compat import prepare_torchvision
from sofa_engine.model.config import EncoderConfig

prepare_torchvision()

from timm.models.tiny_vit import TinyVit  # noqa: E402  (needs torchvision made importable first)


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W), as SAM's neck has it (statistics in float32)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        x = nn.functional.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ImageEncoder(nn.Module):
    """TinyViT with the four edits that make it LiteMedSAM's, its neck, and optional modality conditioning.

    timm's TinyViT has a stem of stride 4 and halves the resolution before stages 1, 2 and 3. LiteMedSAM's stem is two
    1x1 convolutions of stride 1, and its last downsampling keeps the resolution, so a 256x256 image becomes 64x64
    features (75 GFLOP). `stem_stride` 2 and 4 keep timm's 3x3 kernels with one or two strides of 2.
    """

    def __init__(self, config: EncoderConfig, channels: int, modalities: int = 0) -> None:
        """Build the encoder.

        Args:
            config: arrangement.
            channels: output width C.
            modalities: how many sequences to condition on at every stage (feature-wise scale and shift, starting as
                the identity), 0 for none.
        """
        super().__init__()
        self.config = config
        body: Any = TinyVit(
            in_chans=3,
            num_classes=0,
            global_pool="",
            embed_dims=config.embed_dims,
            depths=config.depths,
            num_heads=config.num_heads,
            window_sizes=config.window_sizes,
            drop_path_rate=config.drop_path,
        )
        body.head = nn.Identity()
        body.stages[3].downsample.conv2.conv.stride = (1, 1)
        width = config.embed_dims[0]
        if config.stem_stride == 1:
            body.patch_embed.conv1.conv = nn.Conv2d(3, width // 2, 1, bias=False)
            body.patch_embed.conv2.conv = nn.Conv2d(width // 2, width, 1, bias=False)
        elif config.stem_stride == 2:
            body.patch_embed.conv2.conv.stride = (1, 1)
        body.patch_embed.stride = config.stem_stride
        self.body = body
        self.neck = nn.Sequential(
            nn.Conv2d(config.embed_dims[-1], channels, 1, bias=False),
            LayerNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            LayerNorm2d(channels),
        )
        self.conditioning = nn.ParameterList(
            [nn.Parameter(torch.zeros(modalities, 2, dim)) for dim in (width, *config.embed_dims)] if modalities else []
        )

    def forward(self, x: Tensor, modality: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Encode images.

        Args:
            x: (B, 3, H, W), H and W multiples of the feature stride s.
            modality: int64 (B,), index of each image's sequence; needed when conditioning.

        Returns:
            The neck's output (B, C, H/s, W/s) and the early features, coarse to fine: stage 1 at stride s/2, stage 0
            at s/4, and the stem's first convolution.
        """
        stem = self.body.patch_embed
        first = stem.act(stem.conv1(x))
        taps = [first]
        x = self._condition(stem.conv2(first), modality, 0)
        for index, stage in enumerate(self.body.stages):
            x = self._condition(stage(x), modality, index + 1)
            if index < 2:
                taps.insert(0, x)
        return self.neck(x), (taps[0], taps[1], taps[2])

    def _condition(self, x: Tensor, modality: Tensor | None, index: int) -> Tensor:
        if len(self.conditioning) == 0 or modality is None:
            return x
        scale, shift = self.conditioning[index][modality].to(x.dtype)[..., None, None].unbind(1)
        return torch.addcmul(x + shift, x, scale)
