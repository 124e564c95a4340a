"""Real engine processes on loopback, running the real session on a model made of thresholds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes import fake_case
from sofa_service.client import EngineClient
from sofa_service.launcher import LocalEngine

_TESTING = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _children_find_the_fakes(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(_TESTING), str(_TESTING / "service")]))


@pytest.fixture
def start_engine() -> Iterator[Callable[..., LocalEngine]]:
    """Start an engine of one's own; all of them end with the test."""
    running = []

    def start(factory: str = "open_quick", **options) -> LocalEngine:
        engine = LocalEngine(factory=f"service_fakes:{factory}", **options)
        running.append(engine)
        engine.start()
        return engine

    yield start
    for engine in running:
        engine.stop()


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[LocalEngine]:
    """One quick engine for all tests of a file that leave it as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(_TESTING), str(_TESTING / "service")]))
        with LocalEngine(factory="service_fakes:open_quick") as engine:
            yield engine


@pytest.fixture
def client(shared_engine) -> Iterator[EngineClient]:
    with EngineClient(shared_engine.url, shared_engine.token) as client:
        yield client


@pytest.fixture(scope="module")
def case():
    return fake_case()[0]
