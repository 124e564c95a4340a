"""The reference way: LiteMedSAM in plain eager PyTorch, one image at a time, re-encoding at every prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.clock import Timing, timed
from sofa_engine.model import config
from sofa_engine.model.decoder import dense_positions, embed_boxes
from sofa_engine.model.network import SofaModel

#: What the published way computes for one BraTS volume, whatever is on the slice.
SLICES, SEQUENCES, SUB_REGIONS, PASSES, PIXELS = 155, 4, 3, 2, 256


@dataclass(frozen=True)
class PlainTimes:
    """Seconds per image and per box of the plain way, on a sample."""

    encode: Timing
    decode: Timing

    @property
    def case_s(self) -> float:
        """Whole case, extrapolated from the sample: every slice, every sequence, both passes."""
        boxes = SLICES * SUB_REGIONS * PASSES
        return SLICES * SEQUENCES * self.encode.median + boxes * self.decode.median

    def box_s(self, slices: int) -> float:
        """One box over `slices` slices, extrapolated: each slice of every sequence is encoded again, then decoded."""
        return slices * (SEQUENCES * self.encode.median + self.decode.median)


@torch.inference_mode()
def time_plain(arrangement: config.ModelConfig, repeats: int) -> PlainTimes:
    """Time encoder and decoder of an arrangement without anything that SOFA does to make them fast.

    Batch normalisation stays unfolded, memory is contiguous, float32, attention is PyTorch's fused one, and every
    call works on one full 256 x 256 image.
    """
    torch.manual_seed(0)
    model = SofaModel(arrangement).eval()
    image = torch.rand(1, 3, PIXELS, PIXELS)
    modality = torch.zeros(1, dtype=torch.long)
    encode = timed(lambda: model.image_encoder(image, modality), repeats)
    grid = PIXELS // model.stride
    features = torch.rand(1, arrangement.channels, grid, grid)
    box = torch.tensor([[60.0, 70, 180, 200]])

    def decode() -> None:
        positions = dense_positions(model.prompt_encoder, (grid, grid), model.stride)
        dense = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        model.mask_decoder.decode(features, positions, embed_boxes(model.prompt_encoder, box), dense)

    return PlainTimes(encode, timed(decode, repeats))
