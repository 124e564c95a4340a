"""A cohort on a Ray cluster of two workers."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from reference_weights import official_state_dict

from fakes import ThresholdPredictor
from sofa_engine.errors import InputError, SofaError
from sofa_engine.model.checkpoint import load_checkpoint, save_checkpoint
from sofa_engine.session import SegmentationSession
from sofa_engine.tiny import tiny_model
from sofa_engine.types import Modality, SubRegion

pytest.importorskip("ray", reason="Ray is an optional extra (pip install 'sofa-brain-tumor[cluster]')")

from sofa_service.cluster import Cluster, Finished, Request, _kept
from sofa_service.errors import EngineLostError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_workers():
    import ray

    testing = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(testing), str(testing / "service")])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def cohort(case, count):
    for number in range(count):
        shifted = {m: np.roll(a, number, axis=2) for m, a in case.images.items()}
        yield Request(f"case{number}", replace(case, images=shifted), {})


def in_process(request):
    session = SegmentationSession(request.case, ThresholdPredictor())
    session.first_pass()
    for region, boxes in request.boxes.items():
        list(session.refine(region, boxes))
    return session


def test_a_cohort_is_segmented_as_in_process(two_workers, case):
    cluster = Cluster(two_workers, factory="service_fakes:open_quick", probabilities=True)
    assert cluster.slots == 2
    requests = list(cohort(case, 4))
    (box,) = in_process(requests[0]).boxes()[SubRegion.ET]
    requests[0] = replace(requests[0], boxes={SubRegion.ET: (box.grown((0, 3, 3), case.geometry.shape),)})
    results = dict(cluster.segment(requests))
    assert sorted(results) == [f"case{n}" for n in range(4)]
    for request in requests:
        expected, result = in_process(request), results[request.name]
        assert isinstance(result, Finished)
        np.testing.assert_array_equal(result.labels(), expected.labels())
        np.testing.assert_array_equal(result.probabilities(), expected.probabilities())
        assert result.boxes() == expected.boxes()
        assert result.volumes_ml() == expected.volumes_ml()


def test_a_bad_case_is_a_sentence_and_the_others_go_on(two_workers, case):
    cluster = Cluster(two_workers, factory="service_fakes:open_quick")
    empty = replace(case, images={Modality.T1: np.ones(case.geometry.shape, np.float32)})
    results = dict(cluster.segment([Request("empty", empty, {}), *cohort(case, 1)]))
    assert isinstance(results["empty"], InputError) and "no brain" in str(results["empty"])
    assert isinstance(results["case0"], Finished)
    with pytest.raises(InputError, match="were not asked for"):
        results["case0"].probabilities()


def test_a_worker_that_is_killed_costs_no_case(two_workers, case):
    cluster = Cluster(two_workers, factory="service_fakes:open_slow")
    killed = []

    def kill_one():
        while not killed:
            for process in psutil.process_iter(["cmdline"]):
                if "ray::_segment" in " ".join(process.info["cmdline"] or []):
                    time.sleep(0.5)
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    results = dict(cluster.segment(cohort(case, 3)))
    thread.join(timeout=60)
    assert killed
    assert [type(results[f"case{n}"]) for n in range(3)] == [Finished] * 3


def test_cases_are_read_as_workers_become_free(two_workers, case):
    cluster = Cluster(two_workers, factory="service_fakes:open_quick")
    read = []

    def reading():
        for request in cohort(case, 8):
            read.append(request.name)
            yield request

    results = cluster.segment(reading())
    next(results)
    assert len(read) <= cluster.slots + 1
    assert len(list(results)) == 7


def test_no_cluster_is_a_sentence():
    with pytest.raises(EngineLostError, match="No Ray cluster answers at"):
        Cluster("127.0.0.1:1")


@pytest.mark.parametrize("name", ["ours.safetensors", "lite_medsam.pth"])
def test_a_checkpoint_that_was_sent_is_read_as_what_it_is(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sent = tmp_path / name
    if sent.suffix == ".pth":
        torch.save(official_state_dict(), sent)
    else:
        save_checkpoint(tiny_model(), sent, name="ours")
    before = load_checkpoint(sent)[0].state_dict()
    after = load_checkpoint(_kept(sent.read_bytes()))[0].state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


def test_errors_travel():
    import pickle

    for error in (InputError("a"), SofaError("b")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
