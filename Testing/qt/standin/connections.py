"""Connecting Qt's signals to Python functions as PythonQt does: by signature or by attribute, arguments cut to fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6 import QtCore

from standin import facts, pythonqt


def signal_by_signature(wrapper: Any, signature: str) -> Any:
    """Return the bound PySide6 signal, or None where the class has no signal of this exact signature."""
    native, name = wrapper._native, signature.partition("(")[0]
    class_name = pythonqt.wrapped_class(type(wrapper)).__name__
    declared = {_normalised(text) for text in facts.signals_of(class_name)}
    if _normalised(signature) in declared:
        return getattr(native, name, None)
    meta = native.metaObject()
    normalised = bytes(QtCore.QMetaObject.normalizedSignature(signature)).decode()
    index = meta.indexOfSignal(normalised)
    if index < 0:
        return None
    return getattr(native, name)


def _normalised(signature: str) -> str:
    return signature.replace("const ", "").replace("&", "").replace(" ", "")


def connect(wrapper: Any, signal: Any, slot: Callable, signature: str | None = None) -> bool:
    takes = None if signature is None else _argument_count(signature)

    def deliver(*arguments: Any) -> None:
        given = [pythonqt.wrap(argument) for argument in arguments][:takes]
        slot(*_as_many_as(slot, given))

    call = _with_arity(deliver, _arity(wrapper._native, _name_of(signal)))
    _connections(wrapper).append((_name_of(signal), slot, call, signal))
    signal.connect(call)
    return True


def disconnect(wrapper: Any, signal: Any, slot: Callable) -> bool:
    known = _connections(wrapper)
    for entry in known:
        if entry[0] == _name_of(signal) and entry[1] == slot:
            entry[3].disconnect(entry[2])
            known.remove(entry)
            return True
    return False


def _connections(wrapper: Any) -> list:
    """Connections live as long as the C++ object, not as long as one of its wrappers."""
    native = wrapper._native
    if not hasattr(native, "_standin_connections"):
        native._standin_connections = []
        _KEEP.append(native)
    return native._standin_connections


#: PySide6 forgets a Python object's attributes when only C++ refers to it; this list keeps those that matter.
_KEEP: list = []


def _with_arity(function: Callable, count: int) -> Callable:
    """Return `function` with a count: PySide6 leaves a signal's arguments out for one that takes any number."""
    names = ", ".join(f"a{index}" for index in range(count))
    return eval(f"lambda {names}: function({names})", {"function": function})


def _name_of(signal: Any) -> str:
    return str(signal).partition("SignalInstance ")[2].partition("(")[0]


def _arity(native: Any, name: str) -> int:
    """Return how many arguments a signal has, default ones included (`clicked()` is `clicked(bool)`'s short form)."""
    meta = native.metaObject()
    methods = (meta.method(index) for index in range(meta.methodCount()))
    return max(method.parameterCount() for method in methods if bytes(method.name()).decode() == name)


def _argument_count(signature: str) -> int:
    inside = signature.partition("(")[2].rstrip(")").strip()
    return len(inside.split(",")) if inside else 0


def _as_many_as(slot: Callable, arguments: list) -> list:
    """Cut the arguments to those that `slot` takes, as PythonQt does for Python functions."""
    code = getattr(slot, "__code__", None) or getattr(getattr(slot, "__func__", None), "__code__", None)
    if code is None or code.co_flags & 0x04:
        return arguments
    bound = 1 if hasattr(slot, "__self__") else 0
    return arguments[: code.co_argcount - bound]
