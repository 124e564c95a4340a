"""Installing what is missing: PyTorch through its extension alone, the rest by pip, and only after a question."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import slicer


@pytest.fixture
def dependencies(slicer_stand_in):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "SOFASegment"))
    from SOFASegmentQt import dependencies

    return dependencies


@pytest.fixture
def before512(dependencies, monkeypatch):
    """Slicer 5.10: no `slicer.packaging`, but `slicer.util.pip_install`."""
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.delattr(slicer, "packaging")
    calls: list = []
    monkeypatch.setattr(slicer.util, "pip_install", calls.append)
    return calls


def write(path: Path, *lines: str) -> list[Path]:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [path]


def test_slicer_5_12_is_given_the_requirements_without_comments(dependencies, slicer_stand_in, tmp_path):
    files = write(tmp_path / "r.txt", "# why", "httpx>=0.28", "", "nibabel>=5.3")
    dependencies.ensureDependencies(files, withTorch=False)
    assert slicer_stand_in.installed == [["httpx>=0.28", "nibabel>=5.3"]]


def test_torch_is_pinned_where_it_is_installed(dependencies, monkeypatch, tmp_path):
    pinned = []
    monkeypatch.setattr(
        slicer.packaging,
        "pip_ensure",
        lambda _r, constraints, requester: pinned.append(constraints.read_text(encoding="utf-8")),
    )
    monkeypatch.setattr(dependencies.importlib.metadata, "version", lambda _name: "2.9.1+cu128")
    dependencies.ensureDependencies(write(tmp_path / "r.txt", "httpx"), withTorch=False)
    assert pinned == ["torch==2.9.1+cu128\ntorchvision==2.9.1+cu128\n"]


def test_without_the_pytorch_extension_the_user_is_told_where_to_get_it(dependencies, monkeypatch, tmp_path):
    monkeypatch.setattr(dependencies, "isInstalled", lambda _name: False)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(dependencies.DependencyError, match="install it in the Extensions Manager"):
        dependencies.ensureDependencies(write(tmp_path / "r.txt", "httpx"), withTorch=True)


def test_pytorch_that_the_user_declined_is_not_asked_of_pip(dependencies, slicer_stand_in, monkeypatch, tmp_path):
    asked = []

    def decline(*, askConfirmation: bool) -> None:
        asked.append(askConfirmation)

    logic = types.SimpleNamespace(installTorch=decline)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=lambda: logic))
    monkeypatch.setattr(dependencies, "isInstalled", lambda _name: False)
    with pytest.raises(dependencies.DependencyError, match="without PyTorch"):
        dependencies.ensureDependencies(write(tmp_path / "r.txt", "httpx"), withTorch=True)
    assert asked == [True]
    assert slicer_stand_in.installed == []


def test_slicer_5_10_installs_what_is_missing_and_nothing_else(dependencies, before512, monkeypatch, tmp_path):
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda _text: True)
    files = write(tmp_path / "r.txt", "numpy>=1", "numpy>=1000", "no-such-package-of-sofa>=1")
    dependencies.ensureDependencies(files, withTorch=False)
    assert before512[0][0] == "-c"
    assert before512[0][2:] == ["numpy>=1000", "no-such-package-of-sofa>=1"]


def test_slicer_5_10_asks_before_it_installs(dependencies, before512, monkeypatch, tmp_path):
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda _text: False)
    with pytest.raises(dependencies.DependencyError, match="no-such-package-of-sofa"):
        dependencies.ensureDependencies(write(tmp_path / "r.txt", "no-such-package-of-sofa"), withTorch=False)
    assert before512 == []


def test_slicer_5_10_asks_nothing_when_all_is_there(dependencies, before512, monkeypatch, tmp_path):
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda _text: pytest.fail("asked"))
    dependencies.ensureDependencies(write(tmp_path / "r.txt", "numpy>=1"), withTorch=False)
    assert before512 == []
