"""The network behind the session: what is kept, what is answered, what changes nothing."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_weights import official_state_dict
from tiny_models import tiny_model

from sofa_engine import torch_predictor
from sofa_engine.api import ModelInfo
from sofa_engine.errors import CancelledError, OutOfMemoryError, SofaError
from sofa_engine.model.checkpoint import load_checkpoint
from sofa_engine.model.network import RegionFeatures, SofaModel
from sofa_engine.progress import CancelToken, Progress
from sofa_engine.slice_frame import SliceFrame
from sofa_engine.torch_predictor import TorchPredictor
from sofa_engine.types import MODALITIES, Modality, SubRegion

INFO = ModelInfo("tiny", "0" * 64, "tiny", "default", "cpu", trained=False)
SHAPE = (6, 50, 41)


def predictor_of(model: SofaModel) -> TorchPredictor:
    return TorchPredictor(deepcopy(model), INFO, precision=torch.float32)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (4, *SHAPE)).astype(np.float32)


@pytest.fixture(params=[{}, {"detail": 3, "modality_conditioning": "stages"}], ids=["plain", "detailed"])
def model(request: pytest.FixtureRequest) -> SofaModel:
    model = tiny_model(**request.param)
    with torch.no_grad():  # away from the zeros that hide mistakes
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model


def test_batching_folding_and_half_precision_leave_the_plain_answer(model: SofaModel, images: np.ndarray) -> None:
    predictor = predictor_of(model)
    predictor.encode(images, MODALITIES)
    answer = predictor.segment(np.arange(6))
    assert answer.probabilities.shape == (3, *SHAPE)
    assert answer.quality.shape == (3, 6)
    frame = SliceFrame.of(model.config, SHAPE[1:])
    for z in (0, 3, 5):  # one slice at a time through the network as it was built
        pixels = frame.images(torch.from_numpy(images[:, z]), model.config)[None, :, None].repeat(1, 1, 3, 1, 1)
        with torch.inference_mode():
            fused = model.encode(pixels, torch.ones(1, 4, dtype=torch.bool))
            features = RegionFeatures.select(fused, torch.zeros(3, dtype=torch.long), torch.arange(3))
            plain = frame.masks(model.first_pass(features)[0]).sigmoid().numpy()
        np.testing.assert_allclose(answer.probabilities[:, z], plain, atol=2e-3)


def test_bfloat16_answers_much_as_float32_does(model: SofaModel, images: np.ndarray) -> None:
    exact, coarse = predictor_of(model), TorchPredictor(deepcopy(model), INFO, precision=torch.bfloat16)
    slices, boxes = np.array([1, 4]), np.array([[5, 5, 30, 30], [2, 2, 38, 45]])
    answers = []
    for predictor in (exact, coarse):
        predictor.encode(images, MODALITIES)
        first = predictor.segment(np.arange(6)).probabilities
        answers.append((first, predictor.prompt(SubRegion.ED, slices, boxes).probabilities))
    for precise, rough in zip(*answers, strict=True):
        assert np.abs(precise - rough).mean() < 0.02


def test_slices_are_answered_in_the_order_asked_for(model: SofaModel, images: np.ndarray) -> None:
    predictor = predictor_of(model)
    predictor.encode(images, MODALITIES)
    ordered = predictor.segment(np.array([4, 0, 2])).probabilities
    np.testing.assert_allclose(ordered, predictor.segment(np.arange(6)).probabilities[:, [4, 0, 2]], atol=1e-6)


def test_a_box_changes_the_answer_of_its_slice_and_sub_region(model: SofaModel, images: np.ndarray) -> None:
    predictor = predictor_of(model)
    predictor.encode(images, MODALITIES)
    small, large = np.array([[5, 5, 12, 12]]), np.array([[2, 2, 38, 45]])
    answers = [predictor.prompt(SubRegion.ED, np.array([3]), box).probabilities for box in (small, large)]
    assert answers[0].shape == (1, *SHAPE[1:])
    assert np.abs(answers[0] - answers[1]).max() > 1e-4
    assert np.abs(answers[0] - predictor.prompt(SubRegion.ET, np.array([3]), small).probabilities).max() > 1e-4


def test_a_box_is_answered_from_what_the_first_pass_came_to(images: np.ndarray) -> None:
    predictor = predictor_of(tiny_model(detail=3, box_prior=True))
    predictor.encode(images, MODALITIES)
    first = predictor.segment(np.arange(6)).probabilities
    at, box = np.array([3]), np.array([[2, 2, 38, 45]])
    own = predictor.prompt(SubRegion.ED, at, box, stated=False).probabilities
    predictor.believe(first)
    np.testing.assert_allclose(predictor.prompt(SubRegion.ED, at, box, stated=False).probabilities, own, atol=0.02)
    changed = first.copy()
    changed[SubRegion.ED.index, 3, 10:20, 10:20] = 1
    changed[SubRegion.NCR.index] = 0
    predictor.believe(changed)
    answer = predictor.prompt(SubRegion.ED, at, box, stated=False).probabilities
    assert (answer[0, 12:18, 12:18] > own[0, 12:18, 12:18]).all()
    predictor.segment(at)  # a new first pass believes what it sees
    np.testing.assert_allclose(predictor.prompt(SubRegion.ED, at, box, stated=False).probabilities, own, atol=1e-6)


def test_many_boxes_at_once_answer_as_one_by_one(model: SofaModel, images: np.ndarray) -> None:
    predictor = predictor_of(model)
    predictor.encode(images, MODALITIES)
    slices = np.array([1, 1, 5, 2, 3, 3])
    boxes = np.random.default_rng(1).uniform(0, 15, (6, 4)) + np.array([0, 0, 20, 20])
    together = predictor.prompt(SubRegion.NCR, slices, boxes)
    for i in range(6):
        alone = predictor.prompt(SubRegion.NCR, slices[i : i + 1], boxes[i : i + 1])
        np.testing.assert_allclose(together.probabilities[i], alone.probabilities[0], atol=1e-5)
        np.testing.assert_allclose(together.quality[i], alone.quality[0], atol=1e-5)


@pytest.mark.parametrize("present", [(Modality.FLAIR,), (Modality.T1C, Modality.T2)])
def test_any_sequences_run_and_attention_is_shared_among_those_present(
    model: SofaModel, images: np.ndarray, present: tuple[Modality, ...]
) -> None:
    predictor = predictor_of(model)
    predictor.encode(images[: len(present)], present)
    attention = predictor.attention().astype(np.float32)
    assert attention.shape[:3] == (3, len(present), SHAPE[0])
    np.testing.assert_allclose(attention.sum(axis=1), 1, atol=2e-3)
    assert np.isfinite(predictor.segment(np.arange(6)).probabilities).all()


def test_progress_reaches_the_end_and_never_falls(model: SofaModel, images: np.ndarray) -> None:
    seen: list[Progress] = []
    predictor_of(model).encode(images, MODALITIES, progress=seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(p.remaining_s is not None and p.remaining_s >= 0 for p in seen)


def test_cancelling_keeps_the_case_that_was_encoded_before(model: SofaModel, images: np.ndarray) -> None:
    predictor = predictor_of(model)
    predictor.encode(images, MODALITIES)
    before = predictor.segment(np.arange(2)).probabilities
    token = CancelToken()
    with pytest.raises(CancelledError):
        predictor.encode(images[:, ::-1].copy(), MODALITIES, progress=lambda _: token.cancel(), cancel=token)
    np.testing.assert_array_equal(predictor.segment(np.arange(2)).probabilities, before)


def test_asking_before_a_case_is_encoded_is_an_error_for_people(model: SofaModel) -> None:
    with pytest.raises(SofaError, match="run the first pass"):
        predictor_of(model).segment(np.arange(2))


def test_batches_shrink_until_they_fit_the_gpu(
    model: SofaModel, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, sizes = predictor_of(model), []
    encode = predictor._encode_batch

    def crowded(volume: torch.Tensor, index: list[int], frame: SliceFrame, slices: np.ndarray) -> list:
        sizes.append(len(slices))
        if len(slices) > 1:
            raise torch.cuda.OutOfMemoryError
        return encode(volume, index, frame, slices)

    monkeypatch.setattr(predictor, "_encode_batch", crowded)
    predictor.encode(images, MODALITIES)
    assert sizes == [4, 2, 1, 1, 1, 1, 1, 1]
    assert predictor.segment(np.arange(6)).probabilities.shape == (3, *SHAPE)


def test_a_gpu_that_holds_no_slice_at_all_is_said_in_a_sentence(
    model: SofaModel, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of(model)

    def full(*_: object) -> list:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(predictor, "_encode_batch", full)
    with pytest.raises(OutOfMemoryError, match="GPU's memory does not hold this case"):
        predictor.encode(images, MODALITIES)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "choose the CPU as device"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)."), "choose the CPU as device"),
        (RuntimeError("CUDA error: out of memory"), "choose the CPU as device"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "choose the CPU"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "choose the CPU as device"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried."),
            "There is not enough memory for this case",
        ),
    ],
    ids=["cuda", "mps", "context", "cublas", "cudnn", "cpu"],
)
@pytest.mark.parametrize("verb", ["encode", "believe", "attention"])
def test_memory_that_is_short_outside_of_batches_is_said_in_a_sentence(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, error: RuntimeError, sentence: str, verb: str
) -> None:
    predictor = predictor_of(tiny_model())
    predictor.encode(images, MODALITIES)

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(predictor, "_locate", full)
    monkeypatch.setattr(SliceFrame, "cells", full)
    monkeypatch.setattr(torch_predictor.torch, "stack", full)
    given = {"encode": (images, MODALITIES), "believe": (np.zeros((3, *SHAPE)),), "attention": ()}
    with pytest.raises(OutOfMemoryError, match=sentence):
        getattr(predictor, verb)(*given[verb])


def test_other_errors_of_the_network_stay_what_they_are(
    model: SofaModel, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, sizes = predictor_of(model), []

    def broken(_volume: torch.Tensor, _index: list[int], _frame: SliceFrame, slices: np.ndarray) -> list:
        sizes.append(len(slices))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(predictor, "_encode_batch", broken)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        predictor.encode(images, MODALITIES)
    assert len(sizes) == 1, "a smaller batch would not help"


def test_stock_weights_see_slices_as_their_authors_prepared_them() -> None:
    config = load_stock_config()
    frame = SliceFrame.of(config, (240, 200))
    assert frame.scaled == (256, 213)
    image = torch.rand(240, 200) * 90 + 30
    prepared = frame.images(image, config)
    assert prepared.shape == (256, 256)
    assert float(prepared[:256, :213].min()) == 0.0
    assert float(prepared[:256, :213].max()) == 1.0
    assert torch.all(prepared[:, 213:] == 0)
    np.testing.assert_allclose(frame.boxes(np.array([[0, 0, 200, 240]]))[0], [0, 0, 213, 256])
    # Area interpolation keeps the mean.
    plain = torch_predictor.SliceFrame((240, 240), (256, 256), (256, 256)).images(
        torch.full((240, 240), 51.0), tiny_model().config
    )
    torch.testing.assert_close(plain, torch.full((256, 256), 0.2))


def load_stock_config():
    from sofa_engine.model import stock

    return stock.config_of(stock.rename(official_state_dict()))


def test_a_published_checkpoint_segments_without_training(tmp_path: Path) -> None:
    torch.save(official_state_dict(), tmp_path / "lite_medsam.pth")
    model, _ = load_checkpoint(tmp_path / "lite_medsam.pth")
    predictor = predictor_of(model)
    predictor.encode(np.random.default_rng(0).uniform(0, 255, (1, 1, 60, 48)).astype(np.float32), (Modality.FLAIR,))
    answer = predictor.prompt(SubRegion.ED, np.array([0]), np.array([[10, 10, 40, 40]]))
    assert answer.probabilities.shape == (1, 60, 48)


def test_a_belief_is_brought_to_any_size_without_pooling_that_apple_gpus_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = SliceFrame((240, 200), (256, 213), (256, 256))
    flat = torch.full((3, 240, 200), 0.8)

    def lacking(*_: object) -> None:
        raise RuntimeError("Adaptive pool MPS: input sizes must be divisible by output sizes.")

    monkeypatch.setattr(torch._C._nn, "adaptive_avg_pool2d", lacking)
    cells = frame.cells(flat, 4)
    assert cells.shape == (3, 64, 64)
    torch.testing.assert_close(cells.sigmoid(), torch.full((3, 64, 64), 0.8))
