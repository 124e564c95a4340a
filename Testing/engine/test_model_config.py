"""Arrangements that exist, and ones that cannot."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from sofa_engine.model import config
from sofa_engine.model.network import Fused, RegionFeatures, SofaModel, rasterise
from sofa_engine.model.prior import Prompt


def test_the_paper_mode_is_litemedsam_and_the_attention_and_nothing_else() -> None:
    model = SofaModel(config.paper())
    own = {n.split(".")[0] for n, _ in model.named_parameters()}
    assert own == {"image_encoder", "prompt_encoder", "mask_decoder", "attention", "first_tokens"}
    encoder = sum(p.numel() for p in model.image_encoder.parameters())
    assert encoder == 5_726_740  # what LiteMedSAM's encoder has
    assert sum(p.numel() for p in model.attention.parameters()) == 3 * 257


def test_paper_mode_excludes_what_the_paper_does_not_have() -> None:
    with pytest.raises(ValidationError, match="mode 'paper' excludes"):
        config.ModelConfig(mode=config.Mode.PAPER)


def test_misspelt_options_are_errors() -> None:
    with pytest.raises(ValidationError, match="attenton"):
        config.ModelConfig.model_validate({"attenton": "pixel"})


@pytest.mark.parametrize("make", [config.litemedsam, config.paper, config.compact])
def test_every_arrangement_answers_both_passes_at_its_own_resolution(make) -> None:
    arrangement = make()
    model = SofaModel(arrangement).eval()
    images = torch.rand(1, 4, 3, 64, 96)
    with torch.inference_mode():
        fused = model.encode(images, torch.tensor([[True, True, False, True]]))
        size = (64 // model.mask_pixel, 96 // model.mask_pixel)
        features = RegionFeatures.select(fused, torch.tensor([0, 0]), torch.tensor([1, 2]))
        logits, quality = model.first_pass(features)
        boxes = torch.tensor([[8.0, 8, 40, 40], [20, 10, 90, 60]])
        refined, _ = model.second_pass(features, Prompt.of(boxes), logits)
    assert logits.shape == refined.shape == (2, *size)
    assert quality.shape == (2,)
    assert isinstance(fused, Fused)


def test_the_untrained_first_pass_is_the_whole_image_box_in_paper_mode() -> None:
    """The first pass starts where SAM knows its way: a box around everything."""
    model = SofaModel(config.paper()).eval()
    with torch.inference_mode():
        fused = model.encode(torch.rand(1, 4, 3, 64, 64), torch.ones(1, 4, dtype=torch.bool))
        features = RegionFeatures.select(fused, torch.tensor([0]), torch.tensor([0]))
        first, _ = model.first_pass(features)
        boxed, _ = model.second_pass(features, Prompt.of(torch.tensor([[0.0, 0, 256, 256]])), first)
    torch.testing.assert_close(first, boxed)


def test_a_rasterised_box_covers_its_area() -> None:
    cells = rasterise(torch.tensor([[1.0, 2.0, 7.0, 5.0]]), (8, 8), pixel=2.0)
    assert float(cells.sum()) * 4 == pytest.approx(18.0)
    assert cells[0, 1, 0] == 0.5
    assert cells[0, 0].sum() == 0
