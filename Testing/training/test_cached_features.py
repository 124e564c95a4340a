"""What a frozen encoder said is kept while a run goes on, belongs to what it was said of, and is gone at the end."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from sofa_engine.errors import OutputError
from sofa_training import embeddings
from sofa_training.config import TrainingConfig
from sofa_training.embeddings import EmbeddingCache
from sofa_training.prepared import read_folder, read_prepared, write_prepared
from sofa_training.run_folder import resume_config
from sofa_training.runlog import read_log
from sofa_training.trainer import train


@pytest.fixture
def config(tiny, prepared: Path, tmp_path: Path) -> TrainingConfig:
    """A run on prepared cases of its own."""
    shutil.copytree(prepared, tmp_path / "prepared", ignore=shutil.ignore_patterns(".unpacked"))
    return tiny(
        run__train="decoder", run__cached_variants=1, run__epochs=3, data__prepared=str(tmp_path / "prepared"),
        data__off_tumour=0.0,
    )  # fmt: skip


def _losses(out: Path) -> list[float]:
    return [event["loss"] for event in read_log(out) if event["event"] == "step"]


def _stop_after_an_epoch(config: TrainingConfig, out: Path) -> None:
    stop = lambda event, values: (out / "stop").touch() if event == "step" else None  # noqa: E731
    assert train(config, out, listener=stop).reason == "stopped"


def test_a_stopped_run_keeps_its_features_and_a_finished_one_does_not(config: TrainingConfig, tmp_path: Path):
    out = tmp_path / "run"
    _stop_after_an_epoch(config, out)
    assert len(list((out / "embeddings").iterdir())) == 8
    assert train(resume_config(out), out, resume=True).reason == "finished"
    assert not (out / "embeddings").exists()


def test_a_case_that_was_prepared_again_is_encoded_again(config: TrainingConfig, tmp_path: Path):
    """The plan of an epoch stays: were features found by their place in it, the old ones would be read."""
    for run in ("warm", "cold"):
        _stop_after_an_epoch(config, tmp_path / run)
    shutil.rmtree(tmp_path / "cold" / "embeddings")
    for case in read_folder(tmp_path / "prepared"):
        path = tmp_path / "prepared" / f"{case.name}.npz"
        whole = read_prepared(path, mapped=False)
        whole.images[:] = np.where(whole.images > 0, 255 - whole.images // 2, 0)
        write_prepared(whole, path)
        os.utime(path, (path.stat().st_atime + 5, path.stat().st_mtime + 5))
    for run in ("warm", "cold"):
        train(resume_config(tmp_path / run), tmp_path / run, resume=True)
    assert _losses(tmp_path / "warm") == _losses(tmp_path / "cold")


def test_the_size_of_all_features_is_said_at_the_start_and_right(config: TrainingConfig, tmp_path: Path):
    out, sizes = tmp_path / "run", []

    def measure(event: str, values: dict) -> None:
        if event == "step":
            sizes.append(sum(path.stat().st_size for path in (out / "embeddings").iterdir()))

    train(config.model_copy(update={"run": config.run.model_copy(update={"batch": 2})}), out, listener=measure)
    said = read_log(out)[0]["features_gb"] * 1e9
    assert said == pytest.approx(sizes[-1], rel=0.1)  # a file has a heading


def test_features_that_do_not_fit_are_refused_before_training(config: TrainingConfig, tmp_path: Path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(embeddings.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(OutputError, match=r"GB more in .* are free; free some space and give the same command again"):
        train(config, tmp_path / "run")
    assert [event["event"] for event in read_log(tmp_path / "run")] == ["start", "end"]
    there = tmp_path / "there"
    there.mkdir()
    (there / "a.npz").write_bytes(bytes(5000))
    EmbeddingCache(there).require_room(6000)
    with pytest.raises(OutputError):
        EmbeddingCache(there).require_room(6001)


def test_what_another_encoder_said_in_a_run_that_came_to_nothing_is_not_used(config: TrainingConfig, tmp_path: Path):
    stranger = tmp_path / "run" / "embeddings" / "0" / "0.npz"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"of another encoder")
    _stop_after_an_epoch(config, tmp_path / "run")
    assert not stranger.exists()
