"""Write the lists of files in the modules' CMakeLists.txt from what is in the tree.

Run without arguments to rewrite the lists, with `--check` to be told (exit code 1) where they are out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The browser face needs trame and runs outside Slicer; it comes with the pip package alone.
_NOT_IN_SLICER = {"sofa_web"}
_IGNORED_PARTS = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
_IGNORED_SUFFIXES = {".pyc", ".part", ".orig", ".swp"}
#: The modules that the extension is made of.
MODULES = tuple(re.findall(r"^add_subdirectory\((\w+)\)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"), re.M))


def shipped_files(folder: Path) -> list[str]:
    """Return the files below a module's folder that belong into the extension, relative and sorted."""
    names = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not path.is_file() or relative.parts[0] in _NOT_IN_SLICER or _IGNORED_PARTS & set(relative.parts):
            continue
        hidden = any(part.startswith(".") or part.endswith(".egg-info") for part in relative.parts)
        if hidden or path.suffix in _IGNORED_SUFFIXES or relative.name == "CMakeLists.txt":
            continue
        names.append(relative.as_posix())
    return names


def lists_of(module: str, root: Path = ROOT) -> dict[str, list[str]]:
    """Return the lists of one module by the name of their marker."""
    files = shipped_files(root / module)
    lists = {
        "scripts": [name for name in files if name.endswith(".py")],
        "resources": [name for name in files if not name.endswith(".py")],
    }
    if module == "SOFASegment":
        weights = root / "Resources" / "Weights"
        lists["weights"] = [f"Resources/Weights/{name}" for name in shipped_files(weights)] if weights.is_dir() else []
    return lists


def rewritten(text: str, lists: dict[str, list[str]]) -> str:
    """Return a CMakeLists.txt with the lines between its markers replaced.

    Raises:
        ValueError: a marker or its end is missing.
    """
    for name, files in lists.items():
        begin, end = f"  # list_module_files: {name}\n", "  # list_module_files: end\n"
        head, found, rest = text.partition(begin)
        _old, found_end, tail = rest.partition(end)
        if not found or not found_end:
            raise ValueError(f"CMakeLists.txt has no place for the list of {name}.")
        text = head + begin + "".join(f"  {file}\n" for file in files) + end + tail
    return text


def main(arguments: list[str]) -> int:
    """Rewrite or check the lists of all modules; return the exit code."""
    stale = []
    for module in MODULES:
        path = ROOT / module / "CMakeLists.txt"
        text = path.read_text(encoding="utf-8")
        wanted = rewritten(text, lists_of(module))
        if wanted != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if "--check" not in arguments:
                path.write_text(wanted, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'out of date' if '--check' in arguments else 'rewritten'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
