"""The localiser: what it is shown, where its answer lands, and which slices are encoded because of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from sofa_engine.api import ModelInfo
from sofa_engine.model.config import LocaliserConfig, ModelConfig
from sofa_engine.model.localiser import (
    Localiser,
    agreed,
    mask_cells,
    slices_worth_encoding,
    sub_regions,
    to_cells,
    what_boxes_say,
)
from sofa_engine.model.network import SofaModel
from sofa_engine.torch_predictor import TorchPredictor
from sofa_engine.types import MODALITIES, Box, SubRegion

SMALL = LocaliserConfig(widths=(4, 8, 8, 8), depths=(1, 1, 1))
SHAPE = (30, 50, 41)


@pytest.fixture
def localiser() -> Localiser:
    torch.manual_seed(0)
    return Localiser(SMALL).eval()


def test_cells_of_two_millimetres_cover_thick_and_thin_slices_alike() -> None:
    volume = torch.rand(4, 10, 40, 60)
    assert to_cells(volume, (5.0, 1.0, 0.5), 2.0).shape == (4, 25, 20, 15)
    torch.testing.assert_close(to_cells(volume, (1.0, 1.0, 1.0), 2.0)[0, 0, 0, 0], volume[0, :2, :2, :2].mean())


def test_an_answer_covers_the_whole_volume_and_sums_to_less_than_one(localiser: Localiser) -> None:
    found = localiser.locate(torch.rand(4, *SHAPE), (1.0, 1.0, 1.0))
    assert found.shape == (3, 15, 25, 20)
    assert float(found.sigmoid().sum(dim=0).max()) <= 1.0


def test_a_mirrored_brain_gets_the_mirrored_answer(localiser: Localiser) -> None:
    images = torch.rand(4, 16, 48, 48)
    straight = localiser.locate(images, (1.0, 1.0, 1.0))
    torch.testing.assert_close(localiser.locate(images.flip(-1), (1.0, 1.0, 1.0)).flip(-1), straight)


def test_three_questions_make_exclusive_sub_regions() -> None:
    sure = torch.tensor([[9.0, -9, 0], [9, 9, -9], [9, 9, 9], [-9, 9, 9]]).T[None]
    found = sub_regions(sure)[0].T
    torch.testing.assert_close(found.round(), torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]))
    anything = sub_regions(torch.randn(2, 3, 4, 4, 4))
    assert anything.min() >= 0 and anything.sum(dim=1).max() <= 1


def test_two_opinions_meet_where_their_weights_say() -> None:
    slices, coarse = torch.tensor([4.0, -4.0, 0.0]), torch.tensor([-4.0, -4.0, 2.0])
    torch.testing.assert_close(agreed(slices, coarse, 0.0), slices)
    torch.testing.assert_close(agreed(slices, coarse, 1.0), coarse)
    assert agreed(slices, coarse, 0.5)[0].abs() < 1e-4
    assert bool(torch.isfinite(agreed(torch.tensor([-90.0, 90.0]), torch.tensor([-90.0, 90.0]), 0.5)).all())


def test_an_answer_lands_where_it_was_found() -> None:
    logits = torch.full((3, 10, 20, 24), -8.0)
    logits[1, 4, 5:9, 12:16] = 8.0
    masks = mask_cells(logits, (20, 40, 48), (64, 64), 2)
    assert masks.shape == (20, 3, 32, 32)
    found = (masks[:, 1] > 0).nonzero()
    assert found[:, 0].unique().tolist() == [8, 9], "slices of that layer of cells"
    assert found.amin(dim=0)[1:].tolist() == [5, 12] and found.amax(dim=0)[1:].tolist() == [8, 15]
    assert float(masks[:, :, 20:].max()) < -8, "nothing is beyond the image"


def test_slices_near_anything_suspicious_are_worth_encoding() -> None:
    coarse = torch.full((40, 3, 4, 4), -6.0)
    coarse[20, 0, 1, 1] = -2.0
    assert slices_worth_encoding(coarse, 1.0).tolist() == list(range(16, 25))
    assert slices_worth_encoding(coarse, 5.0).tolist() == [19, 20, 21]
    assert slices_worth_encoding(torch.full((5, 3, 2, 2), -6.0), 1.0).size == 0


def test_boxes_say_yes_inside_no_outside_and_something_between_where_they_cut_a_cell() -> None:
    def corners(*edges: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([low for low, _ in edges]), np.array([high for _, high in edges])

    said = what_boxes_say([corners((1, 3), (2, 4), (0.5, 2))], (4, 6, 4))
    assert said.shape == (4, 6, 4)
    assert said[1:3, 2:4, 1].unique().tolist() == [1] and said[1:3, 2:4, 0].unique().tolist() == [0]
    assert said[0].unique().tolist() == [-1] and said[:, :, 2:].unique().tolist() == [-1]
    halves = [corners((0, 0.5), (0, 2), (0, 2)), corners((0.5, 1), (0, 2), (0, 2))]
    assert what_boxes_say(halves, (1, 2, 2)).unique().tolist() == [1], "two slices fill the cell that they share"
    twice = [corners((0, 1), (0, 2), (0, 2))] * 2
    assert float(what_boxes_say(twice, (1, 2, 2)).max()) == 1
    assert what_boxes_say([], (1, 2, 2)).unique().tolist() == [-1], "no box says that there is nothing"


def test_a_localiser_that_was_trained_with_boxes_is_shown_those_of_a_person_where_they_lie() -> None:
    torch.manual_seed(0)
    prompted = Localiser(SMALL.model_copy(update={"prompted": True})).eval()
    seen: list[torch.Tensor] = []
    prompted.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = torch.rand(4, *SHAPE)
    prompted.locate(images, (1.0, 1.0, 1.0))
    boxes = {SubRegion.ET: [Box((4, 10, 8), (8, 20, 24))], SubRegion.ED: []}
    prompted.locate(images, (1.0, 1.0, 1.0), boxes)
    nothing, (straight, mirrored) = seen[0], seen[1][:, 8:]
    assert not nothing[:, 8:].any()
    assert not straight[0].any(), "nobody said anything of the core"
    assert straight[1, :15, :25, :20].unique().tolist() == [-1]
    inside = (straight[2] > 0).nonzero()
    assert inside.amin(dim=0).tolist() == [2, 5, 4] and (inside.amax(dim=0) + 1).tolist() == [4, 10, 12]
    torch.testing.assert_close(mirrored[:, :15, :25, :20], straight[:, :15, :25, :20].flip(-1))


class _Finds(Localiser):
    """Finds oedema in the lower third of any volume and whatever it is shown boxes of, and nothing else."""

    looks = 0

    def locate(self, images, spacing, boxes=None, *, mirrored=True):
        self.looks += 1
        logits = torch.full((3, *(n // 2 for n in images.shape[1:])), -8.0)
        if boxes is None:
            logits[1, :5, 5:15, 5:15] = 3.0
        for sub_region, drawn in (boxes or {}).items():
            for box in drawn:
                logits[
                    (sub_region.index, *(slice(a // 2, b // 2) for a, b in zip(box.lower, box.upper, strict=True)))
                ] = 8.0
        return logits


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def predictor(request: pytest.FixtureRequest) -> TorchPredictor:
    torch.manual_seed(0)
    tiny, shown = tiny_model(detail=3).config, SMALL.model_copy(update={"prompted": True})
    config = ModelConfig.model_validate({**tiny.model_dump(), "localiser": shown.model_dump(), "box_prior": True})
    model = SofaModel(config)
    model.localiser = _Finds(shown)
    info = ModelInfo("tiny", "0" * 64, "tiny", "default", "cpu", trained=False)
    return TorchPredictor(model, info, precision=request.param)


@pytest.fixture
def encoded(predictor: TorchPredictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The slices that were encoded, in their order."""
    seen: list[int] = []
    encode = predictor._encode_batch

    def watched(volume, index, frame, slices):
        seen.extend(int(z) for z in slices)
        return encode(volume, index, frame, slices)

    monkeypatch.setattr(predictor, "_encode_batch", watched)
    images = np.random.default_rng(0).uniform(0, 255, (4, *SHAPE)).astype(np.float32)
    predictor.encode(images, MODALITIES)
    return seen


def test_only_slices_around_the_tumour_are_encoded(predictor: TorchPredictor, encoded: list[int]) -> None:
    # Five layers of 2 mm and a margin of 4 mm.
    assert encoded == list(range(14))
    answer = predictor.segment(np.arange(SHAPE[0]))
    assert answer.probabilities.shape == (3, *SHAPE)
    assert float(answer.probabilities[:, 14:].max()) < 0.05
    assert (answer.quality[:, 14:] > 0.9).all()
    assert len(encoded) == 14, "looking at all slices encodes none"


def test_without_the_sequences_that_it_needs_the_localiser_is_not_asked(predictor: TorchPredictor) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (4, *SHAPE)).astype(np.float32)
    for given, asked in (((1, 3), True), ((0, 2, 3), False), ((0, 1, 2), False)):
        predictor.encode(images[list(given)], tuple(MODALITIES[i] for i in given))
        answer = predictor.segment(np.arange(SHAPE[0]))
        assert (float(answer.probabilities[:, 20:].max()) < 0.05) == asked, "else the network alone answers everywhere"


def test_the_localiser_has_its_vote_in_what_the_first_pass_finds(
    predictor: TorchPredictor, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(vote: float) -> np.ndarray:
        config = SMALL.model_copy(update={"vote": vote})
        monkeypatch.setattr(predictor._model.localiser, "config", config)
        return predictor.segment(np.arange(12)).probabilities

    alone, both, localiser = found(0.0), found(0.5), found(1.0)
    assert localiser[1, :8, 12:28, 12:28].min() > 0.85 and localiser[2].max() < 0.01
    inner = (slice(None), slice(1, 8), slice(14, 26), slice(14, 26))  # at borders masks are enlarged as logits
    np.testing.assert_allclose(both[inner], (alone[inner] + localiser[inner]) / 2, atol=0.02)


def test_a_box_in_a_slice_that_nothing_was_found_in_is_answered_all_the_same(
    predictor: TorchPredictor, encoded: list[int]
) -> None:
    predictor.segment(np.arange(SHAPE[0]))
    answer = predictor.prompt(SubRegion.ET, np.array([28, 2, 28]), np.array([[5, 5, 30, 30]] * 3))
    assert encoded[14:] == [28]
    assert answer.probabilities.shape == (3, *SHAPE[1:])
    np.testing.assert_allclose(answer.probabilities[0], answer.probabilities[2], atol=1e-6)
    again = predictor.prompt(SubRegion.ET, np.array([28]), np.array([[5, 5, 30, 30]]))
    assert encoded[14:] == [28], "and is kept"
    np.testing.assert_allclose(again.probabilities[0], answer.probabilities[0], atol=1e-5)


def test_slices_that_were_not_encoded_weigh_no_sequence(predictor: TorchPredictor, encoded: list[int]) -> None:
    attention = predictor.attention().astype(np.float32)
    np.testing.assert_allclose(attention[:, :, :14].sum(axis=1), 1, atol=2e-3)
    assert not attention[:, :, 14:].any()


def test_slices_that_wait_are_encoded_ahead_nearest_the_tumour_first_and_change_no_answer(
    predictor: TorchPredictor, encoded: list[int]
) -> None:
    before, weighed = predictor.segment(np.arange(SHAPE[0])), predictor.attention()
    assert predictor.look_ahead()
    assert min(encoded[14:]) == 14 and len(encoded) < SHAPE[0]
    while predictor.look_ahead():
        pass
    assert sorted(encoded) == list(range(SHAPE[0])), "each of them once"
    after = predictor.segment(np.arange(SHAPE[0]))
    np.testing.assert_array_equal(after.probabilities, before.probabilities)
    np.testing.assert_array_equal(after.quality, before.quality)
    np.testing.assert_array_equal(predictor.attention(), weighed)
    predictor.prompt(SubRegion.ET, np.array([28]), np.array([[5, 5, 30, 30]]))
    assert len(encoded) == SHAPE[0], "a box there finds its slice ready"
    assert predictor.attention()[:, :, 28].any()


BOX = Box((2, 10, 10), (6, 24, 30))


def answer_to(predictor: TorchPredictor, *, stated: bool = True) -> np.ndarray:
    slices, rectangles = np.array([3, 4]), np.array([[10, 10, 30, 24]] * 2)
    return predictor.prompt(SubRegion.NCR, slices, rectangles, stated=stated).probabilities


def test_the_localiser_has_its_vote_in_the_answer_to_a_persons_box(
    predictor: TorchPredictor, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, own = answer_to(predictor), answer_to(predictor, stated=False)
    assert predictor.consider({SubRegion.NCR: [BOX]})
    inside = (slice(None), slice(12, 22), slice(12, 28))
    assert float(answer_to(predictor)[inside].min()) > max(0.5, float(alone[inside].min()))
    np.testing.assert_array_equal(answer_to(predictor, stated=False), own)
    certain = SMALL.model_copy(update={"prompted": True, "box_vote": 1.0})
    monkeypatch.setattr(predictor._model.localiser, "config", certain)
    assert float(answer_to(predictor)[inside].min()) > 0.99


def test_boxes_are_considered_once_and_an_opinion_counts_for_its_own_boxes_alone(
    predictor: TorchPredictor, encoded: list[int]
) -> None:
    localiser = predictor._model.localiser
    alone, before = answer_to(predictor), localiser.looks
    boxes = {SubRegion.NCR: [BOX]}
    assert not predictor.consider(boxes, quick=True), "there is more to it"
    np.testing.assert_array_equal(answer_to(predictor), alone)
    assert predictor.consider(boxes) and predictor.consider(boxes) and predictor.consider(boxes, quick=True)
    assert localiser.looks == before + 1
    together = answer_to(predictor)
    assert not np.array_equal(together, alone)
    # While a box is being dragged, what was thought of where it lay before is no guide.
    assert not predictor.consider({SubRegion.NCR: [Box((2, 10, 10), (6, 24, 32))]}, quick=True)
    np.testing.assert_array_equal(answer_to(predictor), alone)
    assert predictor.consider(boxes, quick=True), "and let go where it was"
    np.testing.assert_array_equal(answer_to(predictor), together)
    assert localiser.looks == before + 1
    assert predictor.consider({})
    np.testing.assert_array_equal(answer_to(predictor), alone)


def test_a_localiser_that_knows_no_boxes_has_nothing_to_consider(
    predictor: TorchPredictor, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = answer_to(predictor)
    monkeypatch.setattr(predictor._model.localiser, "config", SMALL)
    assert predictor.consider({SubRegion.NCR: [BOX]}, quick=True) and predictor.consider({SubRegion.NCR: [BOX]})
    np.testing.assert_array_equal(answer_to(predictor), alone)
