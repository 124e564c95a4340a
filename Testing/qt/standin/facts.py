"""Which names exist in PythonQt, in Slicer's widgets and in CTK's, read from the data files beside the tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from PySide6 import QtWidgets

_DATA = Path(__file__).resolve().parents[1] / "data"

PYTHONQT = json.loads((_DATA / "pythonqt_facts_used.json").read_text(encoding="utf-8"))
SLICER_QT = json.loads((_DATA / "slicer_qt_api_used.json").read_text(encoding="utf-8"))["classes"]

#: Qt's base classes of which no fresh instance was asked, and a class that was and derives from them.
_DERIVED = {"QTableView": "QTableWidget", "QAbstractButton": "QPushButton"}

#: PythonQt adds these to every QObject, whatever its class; `name` is its own alias of objectName.
EVERY_QOBJECT = frozenset({"name", "objectName", "connect", "disconnect", "className", "inherits", "delete", "help"})


@cache
def names_of(class_name: str) -> frozenset[str] | None:
    """Return all attribute names of a class and its bases, or None where nothing is known about the class."""
    if class_name in PYTHONQT["classes"]:
        entry = PYTHONQT["classes"][class_name]
        own = {name for kind, names in entry.items() if kind != "base" for name in names}
        base = names_of(entry["base"]) if entry["base"] else frozenset()
        return frozenset(own) | base | EVERY_QOBJECT
    if class_name in _DERIVED:
        return names_of(_DERIVED[class_name]) & frozenset(dir(getattr(QtWidgets, class_name)))
    if class_name not in SLICER_QT:
        return None
    entry = SLICER_QT[class_name]
    own = {*entry["properties"], *entry["slots"], *entry["invokable"], *entry["decorators"], *entry.get("enums", [])}
    own |= {signal.partition("(")[0] for signal in entry["signals"]}
    # A property's setter is reachable through PythonQt only where it is a slot, so nothing is derived from properties.
    for base in entry["bases"]:
        own |= names_of(base) or frozenset()
    return frozenset(own) | EVERY_QOBJECT


@cache
def signals_of(class_name: str) -> tuple[str, ...]:
    """Return the signatures of a Slicer or CTK class's own signals and of its bases', as its header writes them."""
    entry = SLICER_QT.get(class_name)
    if entry is None:
        return ()
    inherited = tuple(signal for base in entry["bases"] for signal in signals_of(base))
    return tuple(entry["signals"]) + inherited


@cache
def is_method(class_name: str, name: str) -> bool:
    """Tell whether PythonQt answered a method for this name, on the class or a base of it."""
    if class_name in PYTHONQT["classes"]:
        entry = PYTHONQT["classes"][class_name]
        return name in entry["method"] or (entry["base"] is not None and is_method(entry["base"], name))
    return any(is_method(base, name) for base in SLICER_QT.get(class_name, {"bases": []})["bases"])
