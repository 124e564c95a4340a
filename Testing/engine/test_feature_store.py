"""Features beyond the limit go to a file: same answers, no trace afterwards, a sentence when it cannot be."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from sofa_engine.api import ModelInfo
from sofa_engine.errors import OutOfMemoryError
from sofa_engine.feature_store import FeatureStore, spill_folder
from sofa_engine.model.network import Fused
from sofa_engine.torch_predictor import TorchPredictor
from sofa_engine.types import MODALITIES, SubRegion

SHAPE = (6, 40, 33)


def features(seed: int, dtype: torch.dtype = torch.float16) -> Fused:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(3, 8, 5, 4, generator=generator).to(dtype).to(memory_format=torch.channels_last)[None]
    alpha, fine = (torch.randn(1, 3, *shape, generator=generator) for shape in ((4, 5, 4), (2, 7, 9)))
    return Fused(maps, alpha.half(), (fine.to(dtype),))


def tensors(row: Fused | None) -> tuple[torch.Tensor, ...]:
    assert row is not None
    return row.maps, row.alpha, *row.fine


SIZE = sum(t.numel() * t.element_size() for t in tensors(features(0)))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (4, *SHAPE)).astype(np.float32)


def predictor(feature_bytes: int | None) -> TorchPredictor:
    info = ModelInfo("tiny", "0" * 64, "tiny", "default", "cpu", trained=False)
    model = tiny_model(detail=3, modality_conditioning="stages")
    return TorchPredictor(model, info, precision=torch.float32, feature_bytes=feature_bytes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("held", [0, 2, 4])
def test_what_is_kept_comes_back_bit_for_bit_and_in_its_layout(tmp_path: Path, dtype: torch.dtype, held: int) -> None:
    store = FeatureStore(5, held * SIZE, tmp_path)
    for z in (3, 0, 2, 1):
        store[z] = features(z, dtype)
        for kept, given in zip(tensors(store[z]), tensors(features(z, dtype)), strict=True):  # reading between writing
            assert torch.equal(kept, given)
    assert store.memory_bytes == held * SIZE
    assert (store.file_bytes == 0) == (held == 4)
    *rows, last = store
    assert len(store) == 5
    assert last is None  # nothing was kept for it
    for z, row in enumerate(rows):
        for kept, given in zip(tensors(row), tensors(features(z, dtype)), strict=True):
            assert torch.equal(kept, given)
            assert (kept.dtype, kept.stride()) == (given.dtype, given.stride())


def test_tensors_outlive_the_store_that_they_came_from(tmp_path: Path) -> None:
    store = FeatureStore(2, 0, tmp_path)
    store[0] = features(0)
    maps = tensors(store[0])[0]
    store[1] = features(1)
    del store
    assert torch.equal(maps, features(0).maps)


def test_a_case_answers_the_same_from_a_file_as_from_memory(images: np.ndarray) -> None:
    answers = []
    for limit in (None, 0):
        model = predictor(limit)
        model.encode(images, MODALITIES)
        boxes = np.tile(np.array([[4, 4, 25, 30]], np.float32), (SHAPE[0], 1))
        first, second = model.segment(np.arange(6)), model.prompt(SubRegion.ED, np.arange(6), boxes)
        answers.append((first.probabilities, first.quality, second.probabilities, second.quality, model.attention()))
    for memory, file in zip(*answers, strict=True):
        np.testing.assert_array_equal(memory, file)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux which files are open")
def test_the_file_is_gone_when_the_case_is_released_or_replaced(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def open_files() -> list[Path]:
        targets = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [target for target in targets if target.is_relative_to(tmp_path)]

    model = predictor(0)
    model.encode(images, MODALITIES)
    once = len(open_files())
    assert once > 0
    assert list(tmp_path.iterdir()) == []  # no name that anybody could find
    model.encode(images, MODALITIES)
    model.segment(np.arange(6))
    assert len(open_files()) == 2 * once  # the file and its map
    model.release()
    assert open_files() == []


_SPILL_AND_WAIT = """
import sys, time, torch
from pathlib import Path
from sofa_engine.feature_store import FeatureStore
from sofa_engine.model.network import Fused
store = FeatureStore(1, 0, Path(sys.argv[1]))
store[0] = Fused(torch.zeros(1 << 20), torch.zeros(1), ())
store[0]
print("ready", flush=True)
time.sleep(600)
"""


def test_the_file_is_gone_when_the_engine_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _SPILL_AND_WAIT, str(tmp_path)], stdout=subprocess.PIPE) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline().strip() == b"ready"
        engine.kill()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_said_in_a_sentence_and_the_case_before_stays(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = predictor(0)
    model.encode(images, MODALITIES)
    before = model.segment(np.arange(6)).probabilities

    def full(**_: object) -> object:
        return Path("/dev/full").open("w+b", buffering=0)

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OutOfMemoryError, match=r"cannot be written to .* \(No space left on device\): make room"):
        model.encode(images[:, ::-1].copy(), MODALITIES)
    np.testing.assert_array_equal(model.segment(np.arange(6)).probabilities, before)


def test_a_folder_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    store = FeatureStore(1, 0, tmp_path / "nowhere")
    with pytest.raises(OutOfMemoryError, match="nowhere"):
        store[0] = features(0)


def test_temporary_files_go_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert spill_folder() == tmp_path
