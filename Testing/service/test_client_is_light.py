"""The client runs inside Slicer: no torch, no web framework, little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sofa_service
from sofa_cli import main
from sofa_service.errors import StartError
from sofa_service.launcher import LocalEngine

_PACKAGES = Path(sofa_service.__file__).parents[1]

#: Works through a case like a face does, with torch and the web framework forbidden.
_SCRIPT = """
import json, os, sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "timm", "fastapi", "uvicorn", "starlette", "slicer", "vtk", "SimpleITK"}:
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Forbidden())
import psutil
from fakes import fake_case
from sofa_engine.types import SubRegion
from sofa_service.launcher import LocalEngine

case, _ = fake_case()
with LocalEngine(factory="service_fakes:open_quick") as engine:
    session = engine.client().open(case)
    session.first_pass()
    (box,) = session.boxes()[SubRegion.ET]
    patches = list(session.refine(SubRegion.ET, [box.grown((0, 3, 3), session.geometry.shape)]))
    print(json.dumps({
        "patches": len(patches),
        "torch": "torch" in sys.modules,
        "mib": psutil.Process().memory_info().rss >> 20,
    }))
"""


def test_a_face_works_through_a_case_without_ever_importing_torch():
    path = os.pathsep.join([str(_PACKAGES), os.environ["PYTHONPATH"]])
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["patches"] > 0 and not seen["torch"]
    assert seen["mib"] < 300  # torch alone takes more


def test_torch_is_allowed_to_leave_to_the_cpu_what_an_apple_gpu_lacks(monkeypatch):
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK", raising=False)
    started = {}

    def popen(_command, *, env, **_options):
        started.update(env)
        raise FileNotFoundError(2, "not started in this test")

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(StartError):
        LocalEngine().start()
    assert started["PYTORCH_ENABLE_MPS_FALLBACK"] == "1"
    seen = []
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    monkeypatch.setattr(main, "app", lambda **_: seen.append(os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK")))
    main.run()
    assert seen == ["1"]
