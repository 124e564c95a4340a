"""SAM's prompt encoder and mask decoder, for many slices with a box each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sofa_engine.model.compat import prepare_torchvision
from sofa_engine.model.encoder import LayerNorm2d

prepare_torchvision()

from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer  # noqa: E402

#: Pixels that SAM's positions are measured in; LiteMedSAM's input is 256x256. Smaller crops keep this scale, so that
#: the learned frequencies mean the same distances.
FRAME = 256


def build_prompt_encoder(channels: int, stride: int) -> PromptEncoder:
    """Return segment-anything's prompt encoder for features of the given stride (pixels per cell)."""
    grid = FRAME // stride
    return PromptEncoder(channels, (grid, grid), (FRAME, FRAME), mask_in_chans=16)


def dense_positions(prompt_encoder: PromptEncoder, size: tuple[int, int], stride: int) -> Tensor:
    """Return the positional encoding of an h x w grid of features, (1, C, h, w) float32.

    For 64x64 cells of stride 4 this is `get_dense_pe()`; other sizes keep its scale.
    """
    matrix = prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    rows = (torch.arange(size[0], device=matrix.device, dtype=torch.float32) + 0.5) * (stride / FRAME)
    columns = (torch.arange(size[1], device=matrix.device, dtype=torch.float32) + 0.5) * (stride / FRAME)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    with torch.autocast(matrix.device.type, enabled=False):  # sin and cos of many turns need float32
        return prompt_encoder.pe_layer._pe_encoding(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]


def embed_boxes(prompt_encoder: PromptEncoder, boxes: Tensor) -> Tensor:
    """Return two corner embeddings per box, (B, 2, C), for boxes (B, 4) x0 y0 x1 y1 in pixels (eq. 5)."""
    with torch.autocast(boxes.device.type, enabled=False):
        return prompt_encoder._embed_boxes(boxes.float())


class DetailPath(nn.Module):
    """Bring fine features and the prompt's picture into one step of the mask's upscaling.

    A zero-initialised addition: an untrained path leaves SAM's decoder as it is.
    """

    def __init__(self, fine: int, width: int, planes: int = 2) -> None:
        """Build the path from `fine` channels of an early stage to the `width` channels of the upscaled embedding.

        `planes` is the number of channels of the prompt's picture.
        """
        super().__init__()
        last = nn.Conv2d(width, width, 3, padding=1)
        self.mix = nn.Sequential(
            nn.Conv2d(fine + width + planes, width, 3, padding=1, bias=False), LayerNorm2d(width), nn.GELU(), last
        )
        self.skip = nn.Conv2d(fine, width, 1)
        for layer in (last, self.skip):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, upscaled: Tensor, fine: Tensor, picture: Tensor) -> Tensor:
        """Return (B, width, H, W) from the embedding, the fused early features (B, fine, H, W), and the picture.

        The picture (B, planes, h, w) shows the prompt (see `sofa_engine.model.prior`) and is resized here.
        """
        picture = nn.functional.interpolate(picture, size=upscaled.shape[-2:], mode="bilinear", align_corners=False)
        x = upscaled + self.skip(fine)
        return x + self.mix(torch.cat([x, fine, picture.to(x.dtype)], dim=1))


class BatchedMaskDecoder(MaskDecoder):
    """segment-anything's mask decoder, with one prompt per image.

    The published `predict_masks` repeats every image for every prompt, so a batch of images with a box each does not
    fit. Parameters and their names are unchanged.
    """

    def __init__(self, channels: int, mlp: int, heads: int, detail: tuple[int, ...] = (), planes: int = 2) -> None:
        """Build the decoder.

        Args:
            channels: width C of features and tokens.
            mlp: hidden width of the transformer's MLP.
            heads: of its attention.
            detail: channels of the early features that are brought in, coarse to fine.
            planes: channels of the prompt's picture.
        """
        super().__init__(
            transformer_dim=channels,
            transformer=TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=mlp, num_heads=heads),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=channels,
        )
        widths = (channels // 4, channels // 8, channels // 8)
        self.detail = nn.ModuleList(
            DetailPath(fine, width, planes) for fine, width in zip(detail, widths, strict=False)
        )
        # One more doubling than SAM has, where a third detail path gives it something to show.
        self.upscaling = nn.ConvTranspose2d(channels // 8, channels // 8, 2, 2) if len(detail) == 3 else None

    def decode(
        self,
        features: Tensor,
        positions: Tensor,
        sparse: Tensor,
        dense: Tensor,
        fine: tuple[Tensor, ...] = (),
        picture: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict one mask per image (SAM's token 0, which stands for a single unambiguous mask).

        Args:
            features: fused map (B, C, h, w).
            positions: (1, C, h, w) from `dense_positions`.
            sparse: prompt tokens (B, n, C).
            dense: mask prompt, broadcastable to (B, C, h, w).
            fine: fused early features, coarse to fine, as many as the decoder was built for.
            picture: (B, planes, H, W) for the detail paths.

        Returns:
            Logits (B, 4h, 4w), or (B, 8h, 8w) with three detail paths, and the estimated IoU (B,), not limited to 0..1.
        """
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(len(sparse), -1, -1)
        tokens = torch.cat([own.to(sparse.dtype), sparse], dim=1)
        source = features + dense
        batch, channels, height, width = source.shape
        hidden, source = self.transformer(source, positions.expand(batch, -1, -1, -1), tokens)
        embedding = source.transpose(1, 2).reshape(batch, channels, height, width)
        first, norm, act, second, act2 = self.output_upscaling
        embedding = act(norm(self._detailed(0, first(embedding), fine, picture)))
        embedding = act2(self._detailed(1, second(embedding), fine, picture))
        if self.upscaling is not None:
            embedding = act2(self._detailed(2, self.upscaling(embedding), fine, picture))
        hyper = self.output_hypernetworks_mlps[0](hidden[:, 1])
        logits = torch.einsum("bc,bchw->bhw", hyper, embedding)
        return logits, self.iou_prediction_head(hidden[:, 0])[:, 0]

    def _detailed(self, level: int, x: Tensor, fine: tuple[Tensor, ...], picture: Tensor | None) -> Tensor:
        if picture is None:
            return x
        return self.detail[level](x, fine[level], picture)
