"""The localiser: what it is shown, where its answer lands, and which slices are encoded because of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from sofa_engine import runtime
from sofa_engine.api import ModelInfo
from sofa_engine.model.config import LocaliserConfig, ModelConfig
from sofa_engine.model.localiser import Localiser, agreed, mask_cells, slices_worth_encoding, sub_regions, to_cells
from sofa_engine.model.network import SofaModel
from sofa_engine.runtime import device_for_volumes
from sofa_engine.torch_predictor import TorchPredictor
from sofa_engine.types import MODALITIES, SubRegion

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


class _Finds(Localiser):
    """Finds oedema in the lower third of any volume, and nothing else."""

    def locate(self, images, spacing, *, mirrored=True):
        logits = torch.full((3, *(n // 2 for n in images.shape[1:])), -8.0)
        logits[1, :5, 5:15, 5:15] = 3.0
        return logits


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def predictor(request: pytest.FixtureRequest) -> TorchPredictor:
    torch.manual_seed(0)
    tiny = tiny_model(detail=3).config
    config = ModelConfig.model_validate({**tiny.model_dump(), "localiser": SMALL.model_dump(), "box_prior": True})
    model = SofaModel(config)
    model.localiser = _Finds(SMALL)
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


def test_beside_an_apple_gpu_the_localiser_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_for_volumes(torch.device("mps")).type == "cpu"
    assert device_for_volumes(torch.device("cuda", 1)) == torch.device("cuda", 1)
    # No Apple GPU is at hand: "meta" is a second device as well, one that keeps shapes alone.
    monkeypatch.setattr(runtime, "_WITHOUT_VOLUMES", frozenset({"meta"}))
    config = ModelConfig.model_validate({**tiny_model().config.model_dump(), "localiser": SMALL.model_dump()})
    predictor = TorchPredictor(
        SofaModel(config), ModelInfo("tiny", "0" * 64, "tiny", "default", "meta", trained=False), device="meta"
    )
    monkeypatch.setattr(predictor, "_keep", lambda *_: ())
    predictor.encode(np.random.default_rng(0).uniform(0, 255, (4, *SHAPE)).astype(np.float32), MODALITIES)
    assert predictor._model.localiser is not None and predictor._case is not None and predictor._case.coarse is not None
    assert {p.device.type for p in predictor._model.localiser.parameters()} == {"cpu"}
    assert {p.device.type for p in predictor._model.image_encoder.parameters()} == {"meta"}
    assert predictor._case.coarse.device.type == "meta", "its vote is wanted where the first pass runs"


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
