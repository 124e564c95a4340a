"""The Slicer extension holds every file that it needs and says about itself what the catalogue asks for."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]
_specification = importlib.util.spec_from_file_location(
    "list_module_files", Path(__file__).with_name("list_module_files.py")
)
list_module_files = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(list_module_files)

#: Packages that are in Slicer's own Python (5.12), or that the PyTorch extension brings.
IN_SLICER = {
    "ctk",
    "numpy",
    "packaging",
    "PyTorchUtils",
    "qt",
    "SampleData",
    "scipy",
    "SimpleITK",
    "slicer",
    "torch",
    "torchvision",
    "vtk",
}
#: Found only outside Slicer, each imported inside the one function that needs it.
OUTSIDE_SLICER = {"nilearn", "ray", "typer", "rich", "sofa_web", "PIL", "trame"}
_DISTRIBUTIONS = {"starlette": "fastapi", "segment_anything": "segment-anything", "yaml": "pyyaml"}


def own_packages() -> list[Path]:
    """Folders of the packages that the module SOFASegment ships."""
    return [
        path
        for path in (ROOT / "SOFASegment").iterdir()
        if (path / "__init__.py").is_file() and path.name != "sofa_web"
    ]


@pytest.mark.parametrize("module", list_module_files.MODULES)
def test_the_lists_in_cmake_name_every_file_of_the_module(module):
    text = (ROOT / module / "CMakeLists.txt").read_text(encoding="utf-8")
    wanted = list_module_files.rewritten(text, list_module_files.lists_of(module))
    assert text == wanted, "run: python Testing/packaging/list_module_files.py"


def test_what_is_installed_is_what_is_in_the_tree(staged):
    installed = {path.relative_to(staged.modules).as_posix() for path in staged.modules.rglob("*") if path.is_file()}
    expected = {name for module in list_module_files.MODULES for name in list_module_files.shipped_files(ROOT / module)}
    expected |= set(list_module_files.lists_of("SOFASegment")["weights"])
    assert installed == expected
    for name in expected:
        source = next(
            path for path in (*(ROOT / m / name for m in list_module_files.MODULES), ROOT / name) if path.is_file()
        )
        assert (staged.modules / name).read_bytes() == source.read_bytes(), name


def test_two_modules_never_ship_a_file_of_the_same_name():
    names = Counter(
        name for module in list_module_files.MODULES for name in list_module_files.shipped_files(ROOT / module)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_the_catalogue_entry_and_cmake_agree(staged):
    entry = json.loads((ROOT / "Resources" / "SOFABrainTumor.json").read_text(encoding="utf-8"))
    description = staged.description
    assert description["NAME"] == "SOFABrainTumor"
    assert not description["NAME"].startswith("Slicer")
    assert entry["build_dependencies"] == description["DEPENDS"].split()
    assert set(entry) <= {
        "$schema",
        "build_dependencies",
        "build_subdirectory",
        "category",
        "scm_revision",
        "scm_type",
        "scm_url",
        "tier",
        "enabled",
        "dicom_support_rule",
    }
    assert entry["scm_url"] == description["HOMEPAGE"] + ".git"
    assert entry["scm_url"].rpartition("/")[2] == "SlicerSOFABrainTumor.git"
    for url in (description["ICONURL"], *description["SCREENSHOTURLS"].split()):
        assert (ROOT / url.rpartition("/main/")[2]).is_file(), url
    assert b"\r" not in (ROOT / "Resources" / "SOFABrainTumor.json").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "SOFABrainTumor.png",
        "SOFASegment/Resources/Icons/SOFASegment.png",
        "SOFATraining/Resources/Icons/SOFATraining.png",
    ],
)
def test_icons_are_png_of_128_pixels(name):
    header = (ROOT / name).read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) == (128, 128)


def test_designer_files_are_well_formed_and_name_their_widgets(staged):
    for path in staged.modules.glob("Resources/UI/*.ui"):
        root = ET.parse(path).getroot()
        names = [widget.get("name") for widget in root.iter("widget")]
        assert len(names) == len(set(names)), path.name


def third_party_imports(folder: Path) -> dict[str, set[str]]:
    """Top-level names of imported packages and the files that import them."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(path.name)
    return found


def test_every_package_that_is_imported_comes_with_slicer_or_is_asked_for():
    resources = ROOT / "SOFASegment" / "Resources"
    lines = [
        line
        for path in resources.glob("SOFASegment*requirements.txt")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    asked = {re.split(r"[<>=!~\[;]", line)[0].strip().lower() for line in lines if line and not line.startswith("#")}
    own = {path.name for path in own_packages()} | {"sofa_training", "SOFATrainingLib"}
    missing = {
        name: files
        for package in own_packages()
        for name, files in third_party_imports(package).items()
        if name not in sys.stdlib_module_names | IN_SLICER | OUTSIDE_SLICER | own
        and _DISTRIBUTIONS.get(name, name).lower() not in asked
    }
    assert missing == {}


def test_pip_is_never_asked_for_pytorch():
    for path in (ROOT / "SOFASegment" / "Resources").glob("*requirements.txt"):
        names = {re.split(r"[<>=!~\[;]", line)[0].strip() for line in path.read_text(encoding="utf-8").splitlines()}
        assert not {"torch", "torchvision"} & names


def run_staged(staged, code: str) -> str:
    """Run Python that finds the installed files before and instead of the tree's."""
    environment = {**os.environ, "PYTHONPATH": str(staged.modules), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=environment,
        cwd=staged.modules,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("package", ["sofa_engine.types", "sofa_engine.session", "sofa_service.launcher", "sofa_cli"])
def test_an_installed_package_imports(staged, package):
    printed = run_staged(staged, f"import {package} as p; print(p.__file__)")
    assert Path(printed.strip()).is_relative_to(staged.modules)


def test_nothing_that_slicer_imports_at_start_loads_pytorch(staged):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    loaded = run_staged(staged, "import SOFASegmentLib.controller, sys; print('torch' in sys.modules)")
    assert loaded.strip() == "False"


@pytest.mark.slow
def test_the_tests_of_the_layers_pass_on_the_installed_files(staged):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    chosen = [
        "Testing/engine/test_session.py",
        "Testing/engine/test_prompts.py",
        "Testing/mrml/test_drag_boxes.py::test_one_button_makes_three_segments_and_three_boxes",
        "Testing/mrml/test_drag_boxes.py::test_dragging_a_box_outward_grows_the_segment_inside_it_and_nowhere_else",
        "Testing/qt/test_panel_segment.py::test_a_segmented_case_fills_every_section",
        "Testing/qt/test_panel_segment.py::test_dragging_a_box_changes_the_volume_and_undo_and_redo_follow",
        "Testing/qt/test_panel_export.py::test_boxes_and_report_are_saved_as_json",
    ]
    code = f"""
import sys
import sofa_engine, SOFASegmentLib, SOFASegmentQt
import pytest
failed = pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *{[str(ROOT / path) for path in chosen]!r}])
own = ("sofa_engine", "SOFASegment")
elsewhere = [
    name
    for name, module in sys.modules.items()
    if name.startswith(own) and not (module.__file__ or "").startswith({str(staged.modules)!r})
]
sys.exit(int(failed) or elsewhere or 0)
"""
    environment = {
        **os.environ,
        "PYTHONPATH": str(staged.modules),
        "SOFA_MODULES": str(staged.modules),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
