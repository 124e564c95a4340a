"""What a person's box says by itself, and what the model's own box does not."""

from __future__ import annotations

import numpy as np
import torch
from tiny_models import tiny_model

from sofa_engine.model.config import ModelConfig
from sofa_engine.model.network import RegionFeatures, SofaModel
from sofa_engine.model.prior import BoxPrior, Prompt, coarse_planes, ellipsoids, rasterise
from sofa_engine.prompts import heights_in
from sofa_engine.types import Box

BOXES = torch.tensor([[4.0, 6, 20, 26]])


def test_an_ellipsoid_is_highest_in_the_middle_of_its_box_and_zero_on_its_surface() -> None:
    shape = ellipsoids(Prompt.of(BOXES), (32, 32), 1.0)[0]
    assert tuple(np.unravel_index(int(shape.argmax()), (32, 32))) in {(15, 11), (15, 12), (16, 11), (16, 12)}
    inside = shape > 0
    assert inside.any(dim=1).nonzero().flatten().tolist() == list(range(6, 26))
    assert inside.any(dim=0).nonzero().flatten().tolist() == list(range(4, 20))
    assert not inside[6, 4], "not in the corners"


def test_slices_near_the_top_of_a_3d_box_hold_less_of_it() -> None:
    heights = torch.from_numpy(heights_in(Box((10, 0, 0), (20, 9, 9)), np.array([10, 14, 19])))
    torch.testing.assert_close(heights, torch.tensor([-0.9, -0.1, 0.9]))
    prompt = Prompt.of(BOXES.expand(3, 4), heights)
    areas = (ellipsoids(prompt, (32, 32), 1.0) > 0).sum(dim=(1, 2))
    assert areas[1] > 3 * areas[0]
    assert areas[0] == areas[2]


def test_the_models_own_box_says_nothing_that_the_model_did_not_say_before() -> None:
    prompt = Prompt.of(BOXES, stated=torch.tensor([False]))
    shape = ellipsoids(prompt, (32, 32), 1.0)
    assert not shape.any()
    belief = torch.linspace(-3, 3, 32).expand(1, 32, 32)
    answer = BoxPrior()(belief, shape, prompt.stated, torch.tensor([0]))
    torch.testing.assert_close(answer > 0, belief > 0)


def test_a_stated_box_can_overrule_a_belief_that_nothing_is_there() -> None:
    prompt = Prompt.of(BOXES)
    belief = torch.full((1, 32, 32), -9.0)
    answer = BoxPrior()(belief, ellipsoids(prompt, (32, 32), 1.0), prompt.stated, torch.tensor([0]))
    assert answer[0, 16, 12] > 0 > answer[0, 0, 0]


def test_cells_at_the_rim_of_a_box_count_by_their_share() -> None:
    inside = rasterise(torch.tensor([[1.0, 2.0, 4.0, 5.0]]), (4, 4), 2.0)[0]
    torch.testing.assert_close(inside.sum() * 4, torch.tensor(9.0))
    assert inside[0].sum() == 0 and float(inside[1, 0]) == 0.5


def test_a_pair_is_told_its_own_sub_region_and_any() -> None:
    coarse = torch.logit(torch.tensor([0.2, 0.5, 0.1])).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    planes = coarse_planes(coarse, torch.tensor([1, 2])).sigmoid()
    torch.testing.assert_close(planes[:, 0, 0, 0], torch.tensor([0.5, 0.1]))
    torch.testing.assert_close(planes[:, 1, 0, 0], torch.tensor([0.8, 0.8]))


def test_an_untrained_network_starts_from_the_localiser_and_from_the_box() -> None:
    torch.manual_seed(0)
    config = tiny_model(detail=3).config.model_dump() | {"localiser": {"widths": [4, 8, 8, 8]}, "box_prior": True}
    model = SofaModel(ModelConfig.model_validate(config)).eval()
    with torch.inference_mode():
        fused = model.encode(torch.rand(1, 4, 3, 64, 64), torch.ones(1, 4, dtype=torch.bool))
        coarse = torch.full((1, 3, 32, 32), -6.0)
        coarse[0, 2, 10:20, 10:20] = 6.0
        features = RegionFeatures.select(fused, torch.tensor([0]), torch.tensor([2]), coarse)
        first, _ = model.first_pass(features)
        second, _ = model.second_pass(features, Prompt.of(torch.tensor([[20.0, 20, 60, 60]])), first)
    assert float(((first[0] > 0) == (coarse[0, 2] > 0)).float().mean()) > 0.95
    assert float(second[0, 20, 20]) > float(second[0, 4, 4]) + 3
