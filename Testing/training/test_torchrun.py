"""Several processes as users start them: through torchrun itself, with the `sofa` command."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from sofa_training.config import dump_config
from sofa_training.runlog import read_log
from sofa_training.trainer import train

#: Every process loads PyTorch, and torchrun is one more.
pytestmark = pytest.mark.slow

_BIN = Path(sys.executable).parent


@pytest.fixture
def torchrun(python):
    """Start two processes of `sofa` on this machine as docs/training.md says."""
    if not (_BIN / "sofa").is_file():
        pytest.skip("the sofa command is not installed beside this Python")

    started: list[psutil.Process] = []

    def start(*arguments: object):
        path = f"{_BIN}{os.pathsep}{os.environ['PATH']}"
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python")
        process = python(*launcher, "sofa", *map(str, arguments), PATH=path)
        started.append(psutil.Process(process.pid))
        return process

    yield start
    for launcher in started:
        if launcher.is_running():  # a test that failed leaves nobody behind
            for process in [*launcher.children(recursive=True), launcher]:
                process.kill()


def _losses(out: Path) -> list[float]:
    return [event["loss"] for event in read_log(out) if event["event"] == "step"]


def _wait(until: Callable[[], bool], process) -> None:
    end = time.monotonic() + 400
    while not until():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_two_processes_of_torchrun_learn_what_one_process_learns(torchrun, tiny, prepared: Path, tmp_path: Path):
    config = tiny(data__folds=str(prepared / "folds.json"), data__fold=0, run__epochs=2, run__validate_every=1)
    (tmp_path / "c.toml").write_text(dump_config(config), encoding="utf-8")
    process = torchrun("train", "--config", tmp_path / "c.toml", "--out", tmp_path / "two")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    train(config, tmp_path / "one")
    assert len(_losses(tmp_path / "one")) == 4
    np.testing.assert_allclose(_losses(tmp_path / "two"), _losses(tmp_path / "one"), rtol=2e-5)
    checks = [[e["dice"] for e in read_log(tmp_path / run) if e["event"] == "validation"] for run in ("one", "two")]
    assert len(checks[0]) == 2
    for alone, shared in zip(*checks, strict=True):
        assert shared == pytest.approx(alone, abs=0.02)
    assert read_log(tmp_path / "two")[0]["processes"] == 2
    assert output.count("Run finished after 2 epochs") == 1, "only the leading process speaks"


def test_a_run_that_loses_one_of_its_processes_ends_and_resumes(torchrun, tiny, tmp_path: Path):
    config = tiny(run__epochs=20, run__checkpoint_steps=1)
    (tmp_path / "c.toml").write_text(dump_config(config), encoding="utf-8")
    out = tmp_path / "two"
    process = torchrun("train", "--config", tmp_path / "c.toml", "--out", out)
    log = out / "log.jsonl"
    _wait(lambda: log.is_file() and log.read_text(encoding="utf-8").count('"event": "step"') >= 3, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    next(w for w in workers if w.environ().get("RANK") == "1").kill()
    assert process.wait(timeout=400) != 0
    psutil.wait_procs(workers, timeout=30)
    assert not any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers), "nobody is left behind"
    before = len(_losses(out))
    assert 3 <= before < 40

    resumed = torchrun("train", "--resume", "--out", out)
    output, _ = resumed.communicate()
    assert resumed.returncode == 0, output
    train(config, tmp_path / "one")
    assert len(_losses(out)) == 40
    np.testing.assert_allclose(_losses(out), _losses(tmp_path / "one"), rtol=1e-3)
