"""The extension as Slicer would build and install it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Staged:
    """An extension that was configured and installed.

    Attributes:
        modules: folder of the scripted modules, both modules in one, as in Slicer.
        description: what CMake tells Slicer's catalogue.
    """

    modules: Path
    description: dict[str, str]


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    """Configure the CMake files with real CMake and Slicer's macros stood in for, and install."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not installed")
    folder = tmp_path_factory.mktemp("extension")
    build, prefix = folder / "build", folder / "install"
    macros = Path(__file__).parent / "slicer_macros"
    configure = [cmake, "-S", str(ROOT), "-B", str(build), f"-DSlicer_DIR={macros}", "-DBUILD_TESTING=ON"]
    for command in (configure, [cmake, "--install", str(build), "--prefix", str(prefix)]):
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    lines = (build / "description.txt").read_text(encoding="utf-8").splitlines()
    return Staged(
        prefix / "lib" / "Slicer-5.12" / "qt-scripted-modules", dict(line.split("=", 1) for line in lines if line)
    )
