"""What the user reads can be translated as Slicer translates its own modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_MODULE = Path(__file__).resolve().parents[2] / "SOFASegment"
_LIB = sorted(_MODULE.glob("SOFASegmentLib/*.py"))
_FILES = [_MODULE / "SOFASegment.py", *_LIB, *sorted(_MODULE.glob("SOFASegmentQt/*.py"))]


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


@pytest.mark.parametrize("path", _FILES, ids=lambda p: p.name)
def test_what_is_translated_is_a_plain_text_that_lupdate_finds(path: Path):
    for call in calls(path):
        if isinstance(call.func, ast.Name) and call.func.id == "_":
            assert len(call.args) == 1, f"{path.name}:{call.lineno}"
            assert isinstance(call.args[0], ast.Constant), f"{path.name}:{call.lineno}"


@pytest.mark.parametrize("path", _LIB, ids=lambda p: p.name)
def test_no_sentence_for_the_user_goes_around_the_translation(path: Path):
    for call in calls(path):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        told = name in {"failed", "warned"} or name.endswith("Error")
        if isinstance(call.func, ast.Attribute) and name == "emit":
            told = getattr(call.func.value, "attr", "") in {"failed", "warned"}
        if told:
            bare = [a for a in call.args if isinstance(a, ast.JoinedStr | ast.Constant)]
            assert bare == [], f"{path.name}:{call.lineno}"


def test_in_slicer_the_texts_are_in_slicers_language():
    """Slicer's `tr` finds the context of a text in the file that calls it, so that file must be the one of the text."""
    code = """
import sys, types, inspect
import slicer
def tr(text):
    return "<" + inspect.currentframe().f_back.f_code.co_filename.replace("\\\\", "/").rpartition("/")[2] + "> " + text
sys.modules["slicer.i18n"] = types.SimpleNamespace(tr=tr)
from SOFASegmentLib import volumes
from SOFASegmentLib.appearance import titleOf
from sofa_engine.types import SubRegion
print(titleOf(SubRegion.ED))
try:
    volumes.caseFromVolumes({}, None)
except Exception as error:
    print(error)
"""
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=300
    ).stdout.splitlines()
    assert printed == [
        "<appearance.py> Oedema",
        "<volumes.py> No volume is chosen; choose at least one of T1, T1c, T2 and FLAIR.",
    ]
