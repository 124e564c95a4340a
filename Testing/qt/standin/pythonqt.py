"""PySide6 objects that answer as PythonQt's do.

Properties are attributes and setting one is an assignment; a property is not callable; unknown names raise
AttributeError; `connect` takes a signature and returns whether it found the signal; enums are integers; a plain Qt
object is an instance of its own class only. Subclasses written in Python may have attributes of their own.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

from standin import connections, facts

_NATIVE_SETTER = object.__setattr__
_WRAPPERS: dict[type, type] = {}


class EnumValue(int):
    """An enum or flag as PythonQt shows it: an integer, which remembers what PySide6 wants to be given."""

    def __new__(cls, native: enum.Enum) -> EnumValue:
        value = super().__new__(cls, native.value)
        value.native = native
        return value

    def __or__(self, other: int) -> int:
        return EnumValue(self.native | other.native) if isinstance(other, EnumValue) else int(self) | other


class Signal:
    """A signal found by attribute: `button.clicked.connect(f)`."""

    def __init__(self, owner: PythonQtObject, native: Any) -> None:
        self._owner, self._native = owner, native

    def connect(self, slot: Callable) -> bool:
        """Connect a callable to all of the signal's arguments that it takes."""
        return connections.connect(self._owner, self._native, slot)

    def disconnect(self, slot: Callable) -> bool:
        """Undo `connect`; False where there was no such connection."""
        return connections.disconnect(self._owner, self._native, slot)

    def emit(self, *arguments: Any) -> None:
        """Emit the signal."""
        self._native.emit(*(unwrap(argument) for argument in arguments))


class PythonQtMeta(type):
    """Class attributes: enum values and static methods, read from the PySide6 class behind."""

    def __getattr__(cls, name: str) -> Any:
        native = cls.__dict__.get("_native") or next(
            (base.__dict__["_native"] for base in cls.__mro__ if "_native" in base.__dict__), None
        )
        if native is None or name.startswith("__") or not hasattr(native, name):
            raise AttributeError(f"type object '{cls.__name__}' has no attribute '{name}'")
        known = facts.names_of(native.__name__)
        if known is not None and name not in known:
            raise AttributeError(f"type object '{cls.__name__}' has no attribute '{name}'")
        value = getattr(native, name)
        return _function(value) if callable(value) and not isinstance(value, type) else wrap(value)


class PythonQtObject(metaclass=PythonQtMeta):
    """Base of all wrapped QObjects. `_native` of an instance is the PySide6 object, of a class its PySide6 class."""

    _native: Any = None

    def __init__(self, *arguments: Any) -> None:
        native_class = _native_class_for(type(self))
        _NATIVE_SETTER(self, "_native", native_class(*(unwrap(argument) for argument in arguments)))
        self._native._standin_wrapper = self

    def __getattr__(self, name: str) -> Any:
        native = self.__dict__.get("_native")
        class_name = wrapped_class(type(self)).__name__
        if native is None:
            raise AttributeError(f"{class_name}.__init__ was not called before '{name}'")
        if not shiboken6.isValid(native):
            raise ValueError(f"Trying to read attribute '{name}' of a destroyed C++ {class_name} object")
        known = facts.names_of(class_name)
        if name.startswith("__") or (known is not None and name not in known):
            raise AttributeError(f"{class_name} has no attribute named '{name}'")
        return _read(self, native, name, class_name)

    def __setattr__(self, name: str, value: Any) -> None:
        native, class_name = self.__dict__.get("_native"), wrapped_class(type(self)).__name__
        known = facts.names_of(class_name)
        if native is not None and shiboken6.isValid(native) and (known is None or name in known):
            property_name = "objectName" if name == "name" else name
            if native.metaObject().indexOfProperty(property_name) >= 0:
                native.setProperty(property_name, _for_property(native, property_name, value))
                return
        if type(self) is wrapped_class(type(self)):
            raise AttributeError(
                f"'{name}' does not exist on {class_name} and creating new attributes on C++ objects is not allowed"
            )
        _NATIVE_SETTER(self, name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PythonQtObject) and _address(self._native) == _address(other._native)

    def __hash__(self) -> int:
        return hash(_address(self._native))

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__} (C++ object)"

    def connect(self, *arguments: Any) -> bool:
        """Connect by signature: `connect("clicked(bool)", f)`. False where there is no such signal."""
        signature, slot = arguments[0], arguments[-1]
        signal = connections.signal_by_signature(self, signature)
        return signal is not None and connections.connect(self, signal, slot, signature)

    def disconnect(self, *arguments: Any) -> bool:
        """Undo `connect`; False where there was no such connection."""
        signal = connections.signal_by_signature(self, arguments[0])
        return signal is not None and connections.disconnect(self, signal, arguments[-1])

    def className(self) -> str:
        """Return the C++ class's name."""
        return wrapped_class(type(self)).__name__

    def inherits(self, class_name: str) -> bool:
        """Tell whether the C++ class derives from `class_name`; `isinstance` does not tell this in PythonQt."""
        return self._native.inherits(class_name)

    def delete(self) -> None:
        """Delete the C++ object now."""
        shiboken6.delete(self._native)

    def setProperty(self, name: str, value: Any) -> bool:
        """Set a property; False for a dynamic one, which is set nevertheless."""
        return self._native.setProperty(name, unwrap(value))

    def property(self, name: str) -> Any:
        """Return a property or a dynamic property."""
        return wrap(self._native.property(name))

    def findChild(self, kind: type, name: str = "") -> Any:
        """Return the first descendant of a class, or None."""
        return wrap(self._native.findChild(kind._native, name))

    def findChildren(self, kind: type, name: str = "") -> tuple:
        """Return the descendants of a class."""
        found = self._native.findChildren(kind._native, name) if name else self._native.findChildren(kind._native)
        return tuple(wrap(child) for child in found)

    def installEventFilter(self, event_filter: PythonQtObject) -> None:
        """Let `event_filter.eventFilter` see this object's events first."""
        self._native.installEventFilter(event_filter._native)


def wrap(value: Any) -> Any:
    """Return what PythonQt would have returned for a PySide6 value."""
    if isinstance(value, enum.Enum):
        return EnumValue(value)
    if isinstance(value, QtCore.QObject):
        existing = getattr(value, "_standin_wrapper", None)
        if existing is not None:
            return existing
        wrapper_class = wrapper_of(type(value))
        wrapper = wrapper_class.__new__(wrapper_class)
        _NATIVE_SETTER(wrapper, "_native", value)
        return wrapper
    if isinstance(value, (list, tuple)):
        return tuple(wrap(item) for item in value)
    if type(value).__module__.startswith("PySide6."):
        wrapper_class = value_class_of(type(value))
        wrapper = wrapper_class.__new__(wrapper_class)
        _NATIVE_SETTER(wrapper, "_native", value)
        return wrapper
    return value


def unwrap(value: Any) -> Any:
    """Return the PySide6 value behind a wrapped one."""
    if isinstance(value, EnumValue):
        return value.native
    if isinstance(value, (PythonQtObject, PythonQtValue)):
        return value._native
    if isinstance(value, (list, tuple)):
        return type(value)(unwrap(item) for item in value)
    return value


class PythonQtValue(metaclass=PythonQtMeta):
    """Base of wrapped values that are not QObjects: colours, sizes, table items, events. All members are calls."""

    _native: Any = None

    def __init__(self, *arguments: Any) -> None:
        native_class = next(base.__dict__["_native"] for base in type(self).__mro__ if "_native" in base.__dict__)
        _NATIVE_SETTER(self, "_native", native_class(*(unwrap(argument) for argument in arguments)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_native" not in self.__dict__ or not hasattr(self._native, name):
            raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")
        value = getattr(self._native, name)
        return _function(value) if callable(value) else wrap(value)

    def __eq__(self, other: object) -> bool:
        return self._native == unwrap(other)

    def __hash__(self) -> int:
        return hash(self._native)

    def __str__(self) -> str:
        return str(self._native.data()) if isinstance(self._native, QtCore.QByteArray) else str(self._native)


def value_class_of(native: type) -> type:
    """Return the wrapper class for a PySide6 class that is not a QObject."""
    if native not in _WRAPPERS:
        _WRAPPERS[native] = PythonQtMeta(native.__name__, (PythonQtValue,), {"_native": native})
    return _WRAPPERS[native]


def wrapper_of(native: type) -> type:
    """Return the wrapper class for a PySide6 class, made on first use; the same one every time."""
    for known in native.__mro__:
        # Native subclasses that Python made (for virtual functions) are wrapped as the class that they extend.
        if known.__dict__.get("_standin_of"):
            return known._standin_of
        if not known.__name__.startswith("_"):
            native = known
            break
    if native not in _WRAPPERS:
        _WRAPPERS[native] = PythonQtMeta(native.__name__, (PythonQtObject,), {"_native": native, "_wrapped": True})
    return _WRAPPERS[native]


def wrapped_class(cls: type) -> type:
    """Return the class that stands for the C++ class, `cls` itself or the base of a Python subclass."""
    return next(base for base in cls.__mro__ if "_wrapped" in base.__dict__)


def _native_class_for(cls: type) -> type:
    """Return the PySide6 class to instantiate; for a Python subclass one whose virtual functions call back."""
    base = wrapped_class(cls)
    if cls is base:
        return base._native
    if "_virtual_native" not in cls.__dict__:
        overrides = {
            name: _virtual(name)
            for python_class in cls.__mro__[: cls.__mro__.index(base)]
            for name in python_class.__dict__
            if not name.startswith("_") and callable(getattr(base._native, name, None))
        }
        cls._virtual_native = type(f"_{cls.__name__}", (base._native,), {**overrides, "_standin_of": base})
    return cls._virtual_native


def _virtual(name: str) -> Callable:
    def call_python(native: Any, *arguments: Any) -> Any:
        result = getattr(native._standin_wrapper, name)(*(wrap(argument) for argument in arguments))
        # As in Slicer's own event filters, no answer means False.
        return bool(result) if name in {"eventFilter", "event"} else unwrap(result)

    return call_python


def _read(wrapper: PythonQtObject, native: Any, name: str, class_name: str) -> Any:
    property_name = "objectName" if name == "name" else name
    if native.metaObject().indexOfProperty(property_name) >= 0:
        # Where a function has a property's name, PythonQt may answer the function (QTimer.singleShot, Qt 6 properties).
        if not facts.is_method(class_name, name):
            return wrap(native.property(property_name))
    if not hasattr(native, name):
        if facts.names_of(class_name) is not None:
            raise NotImplementedError(f"{class_name}.{name} exists in Slicer, but this stand-in does not implement it.")
        raise AttributeError(f"{class_name} has no attribute named '{name}'")
    value = getattr(native, name)
    if isinstance(value, QtCore.SignalInstance):
        return Signal(wrapper, value)
    return _function(value) if callable(value) else wrap(value)


#: PySide6 answers these with the chosen filter beside the file; PythonQt with the file.
_ANSWER_FIRST = frozenset({"getOpenFileName", "getSaveFileName"})


def _function(native: Callable) -> Callable:
    def call(*arguments: Any) -> Any:
        answer = native(*(unwrap(argument) for argument in arguments))
        return answer[0] if getattr(native, "__name__", "") in _ANSWER_FIRST else wrap(answer)

    return call


def _for_property(native: Any, name: str, value: Any) -> Any:
    """Return `value` as the property's type; an integer may stand for an enum."""
    value = unwrap(value)
    current = native.property(name)
    if isinstance(current, enum.Enum) and isinstance(value, int):
        return type(current)(value)
    return list(value) if isinstance(value, tuple) else value


def _address(native: Any) -> int:
    return shiboken6.getCppPointer(native)[0]


def module_of_qt() -> dict[str, Any]:
    """Return the names of Slicer's `qt` module: QtCore, QtGui, QtWidgets and QUiLoader's place, all wrapped."""
    names: dict[str, Any] = {}
    for source in (QtCore, QtGui, QtWidgets):
        for name in dir(source):
            value = getattr(source, name)
            if name.startswith("Q") and isinstance(value, type):
                names[name] = wrapper_of(value) if issubclass(value, QtCore.QObject) else value_class_of(value)
    return names
