"""The reference way: LiteMedSAM in plain eager PyTorch, one image at a time, re-encoding at every prompt."""

from __future__ import annotations

from dataclasses import asdict
from itertools import cycle

import torch

from bench.cases import patient
from bench.clock import peak_memory_gib, timed
from sofa_engine.model.config import ModelConfig
from sofa_engine.model.decoder import dense_positions, embed_boxes
from sofa_engine.model.network import SofaModel
from sofa_engine.runtime import choose_device
from sofa_engine.slice_frame import SliceFrame

#: Pixels of an image, whatever is on the slice.
PIXELS = 256


@torch.inference_mode()
def time_plain(arrangement: ModelConfig, repeats: int) -> dict[str, object]:
    """Time encoder and decoder of an arrangement without anything that SOFA does to make them fast.

    Batch normalisation stays unfolded, memory is contiguous, float32, attention is PyTorch's fused one, and every
    call works on one 256 x 256 image: a slice of the case with the air around it, another one at every repeat.

    Returns:
        Timings of one image and one box, and the process's peak memory in GiB.
    """
    torch.manual_seed(0)
    device = choose_device()
    model = SofaModel(arrangement).eval().to(device)
    sample = patient().middle(repeats + 1)
    frame = SliceFrame((PIXELS, PIXELS), (PIXELS, PIXELS), (PIXELS, PIXELS))
    images = cycle(
        frame.images(_framed(torch.from_numpy(slice_)), arrangement).expand(1, 3, -1, -1).to(device)
        for slice_ in next(iter(sample.case.images.values()))
    )
    modality = torch.zeros(1, dtype=torch.long, device=device)
    encode = timed(lambda: model.image_encoder(next(images), modality), repeats)
    grid = PIXELS // model.stride
    features = torch.rand(1, arrangement.channels, grid, grid, device=device)
    box = torch.tensor([[60.0, 70, 180, 200]], device=device)

    def decode() -> None:
        positions = dense_positions(model.prompt_encoder, (grid, grid), model.stride)
        dense = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        model.mask_decoder.decode(features, positions, embed_boxes(model.prompt_encoder, box), dense)

    decoding = timed(decode, repeats)
    return {"encode": asdict(encode), "decode": asdict(decoding), "peak_gib": peak_memory_gib(device)}


def _framed(image: torch.Tensor) -> torch.Tensor:
    """Bring a slice (H, W) to 0..255 on 256 x 256 pixels, zeros to the right and below, or cut off there."""
    image = (image * (255 / image.max().clamp_min(1)))[:PIXELS, :PIXELS]
    return torch.nn.functional.pad(image, (0, PIXELS - image.shape[1], 0, PIXELS - image.shape[0]))
