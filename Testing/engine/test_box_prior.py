"""What a person's box says by itself, and what the model's own box does not."""

from __future__ import annotations

import numpy as np
import torch
from tiny_models import tiny_model

from sofa_engine.model.config import ModelConfig
from sofa_engine.model.network import RegionFeatures, SofaModel
from sofa_engine.model.prior import BoxPrior, Prompt, ellipsoids, rasterise
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


def test_an_untrained_network_starts_from_the_box() -> None:
    torch.manual_seed(0)
    config = tiny_model(detail=3).config.model_dump() | {"box_prior": True}
    model = SofaModel(ModelConfig.model_validate(config)).eval()
    with torch.inference_mode():
        fused = model.encode(torch.rand(1, 4, 3, 64, 64), torch.ones(1, 4, dtype=torch.bool))
        features = RegionFeatures.select(fused, torch.tensor([0]), torch.tensor([2]))
        first, _ = model.first_pass(features)
        answer, _ = model.second_pass(features, Prompt.of(torch.tensor([[20.0, 20, 60, 60]])), first)
    assert float(answer[0, 20, 20]) > float(answer[0, 4, 4]) + 3


def test_what_the_first_pass_found_in_a_persons_box_stays() -> None:
    torch.manual_seed(0)
    config = tiny_model(detail=3).config.model_dump() | {"box_prior": True}
    model = SofaModel(ModelConfig.model_validate(config)).eval()
    belief = torch.full((1, 32, 32), -9.0)
    belief[0, 10:14, 10:14] = 5.0  # at a corner of the box, where the ellipsoid says no
    belief[0, 0:4, 0:4] = 5.0
    with torch.inference_mode():
        fused = model.encode(torch.rand(1, 4, 3, 64, 64), torch.ones(1, 4, dtype=torch.bool))
        features = RegionFeatures.select(fused, torch.tensor([0]), torch.tensor([2]))
        box = torch.tensor([[20.0, 20, 60, 60]])
        persons, _ = model.second_pass(features, Prompt.of(box), belief)
        model.train()
        learning, _ = model.second_pass(features, Prompt.of(box), belief)
    assert (persons[0, 10:14, 10:14] >= 5.0).all()
    assert (learning[0, 10:14, 10:14] < 5.0).all(), "in training the second pass answers alone"
    torch.testing.assert_close(persons[0, :4, :4], learning[0, :4, :4], atol=1e-3, rtol=1e-3)


def _filled(logits: torch.Tensor, prompt: Prompt, share: float = 0.5) -> torch.Tensor:
    prior = BoxPrior()
    prior.share.fill_(share)
    inside = rasterise(prompt.boxes, logits.shape[1:], 1.0)
    return prior.fill(logits, inside, prompt, torch.zeros(len(logits), dtype=torch.int64))


def test_a_persons_box_is_not_left_empty_and_its_likeliest_cells_are_filled_first() -> None:
    logits = torch.full((1, 32, 32), -12.0)
    logits[0, 6:16, 4:20] = -4.0
    answer = _filled(logits, Prompt.of(BOXES))[0] > 0
    assert answer[6:16, 4:20].all()
    assert not answer[16:].any()


def test_an_answer_that_fills_its_box_as_usual_or_more_is_left_alone() -> None:
    for rows in (16, 26):
        logits = torch.full((1, 32, 32), -12.0)
        logits[0, 6:rows, 4:20] = 12.0
        torch.testing.assert_close(_filled(logits, Prompt.of(BOXES)), logits)


def test_what_lies_outside_of_the_box_the_models_own_boxes_and_unmeasured_shares_change_nothing() -> None:
    logits = torch.full((1, 32, 32), -3.0)
    answer = _filled(logits, Prompt.of(BOXES))
    assert (answer[0, 6:26, 4:20] > -3).all()
    answer[0, 6:26, 4:20] = -3
    torch.testing.assert_close(answer, logits)
    torch.testing.assert_close(_filled(logits, Prompt.of(BOXES, stated=torch.tensor([False]))), logits)
    torch.testing.assert_close(_filled(logits, Prompt.of(BOXES), share=0.0), logits)


def test_slices_at_the_face_of_a_3d_box_may_stay_empty() -> None:
    logits = torch.full((3, 32, 32), -3.0)
    prompt = Prompt.of(BOXES.expand(3, 4), torch.tensor([0.0, 0.7, 1.0]))
    raised = _filled(logits, prompt)[:, 16, 12] + 3
    assert raised[0] > raised[1] > raised[2] == 0


def test_training_sees_the_networks_own_answer_and_inference_the_filled_box() -> None:
    torch.manual_seed(0)
    config = tiny_model(detail=3).config.model_dump() | {"box_prior": True}
    model = SofaModel(ModelConfig.model_validate(config))
    assert model.box_prior is not None
    with torch.no_grad():
        model.box_prior.slope.zero_()
        model.box_prior.offset.fill_(-6.0)
        model.box_prior.share.fill_(0.5)
        fused = model.eval().encode(torch.rand(1, 4, 3, 64, 64), torch.ones(1, 4, dtype=torch.bool))
        features = RegionFeatures.select(fused, torch.tensor([0]), torch.tensor([2]))
        answers = [
            model.train(mode).second_pass(
                features, Prompt.of(torch.tensor([[20.0, 20, 60, 60]])), torch.zeros(1, 32, 32)
            )
            for mode in (True, False)
        ]
    (trained, _), (inferred, _) = answers
    assert float(inferred[0, 20, 20]) > float(trained[0, 20, 20]) + 1
    torch.testing.assert_close(inferred[0, :8], trained[0, :8])
