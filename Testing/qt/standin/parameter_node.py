"""`slicer.parameterNodeWrapper` for the field types that the modules use, stored as Slicer stores them.

Read from Base/Python/slicer/parameterNodeWrapper of Slicer 5.13 (583e9b37d5): serializers.py, guiConnectors.py and
wrapper.py. A type or a widget that Slicer has no serializer or connector for is refused here too.
"""

from __future__ import annotations

import enum
import pathlib
import typing
import weakref
from collections.abc import Callable
from typing import Any

import vtk

PROPERTY = "SlicerParameterName"


def parameterNodeWrapper(cls: type) -> type:
    """Turn the annotated class into a wrapper around a vtkMRMLScriptedModuleNode."""
    fields = typing.get_type_hints(cls)
    defaults = {name: getattr(cls, name, _default_of(kind)) for name, kind in fields.items()}
    for name, kind in fields.items():
        setattr(cls, name, property(_reader(name), _writer(name, kind)))

    def init(self: Any, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._connections, self._updating, self._kept, self._observers = {}, False, {}, []
        for name, value in defaults.items():
            if not parameterNode.HasParameter(name):
                setattr(self, name, value)
            # As in Slicer every field keeps its value and has an observer of its own, called in VTK's order.
            self._kept[name] = _read(parameterNode, name, fields[name])
            keeper = _keeper(weakref.ref(self), name, fields[name])
            self._observers.append(parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, keeper))

    def delete(self: Any) -> None:
        # Without this Python's garbage collector clears functions that the C++ node would still call.
        for tag in self._observers:
            self.parameterNode.RemoveObserver(tag)

    cls.__init__ = init
    cls.__del__ = delete
    cls._fields = fields
    for function in (
        connectGui,
        disconnectGui,
        getValue,
        setValue,
        StartModify,
        EndModify,
        AddObserver,
        RemoveObserver,
        Modified,
    ):
        setattr(cls, function.__name__, function)
    return cls


def _default_of(kind: type) -> Any:
    if _is_node(kind):
        return None
    return next(iter(kind)) if issubclass(kind, enum.Enum) else kind()


def _is_node(kind: type) -> bool:
    import slicer

    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def _reader(name: str) -> Callable:
    return lambda self: self._kept[name]


def _keeper(wrapper: weakref.ref, name: str, kind: type) -> Callable:
    def keep(node: Any, _event: str) -> None:
        if wrapper() is not None:
            wrapper()._kept[name] = _read(node, name, kind)

    return keep


def _read(node: Any, name: str, kind: type) -> Any:
    if _is_node(kind):
        return node.GetNodeReference(name)
    text = node.GetParameter(name)
    if issubclass(kind, enum.Enum):
        return kind[text]
    return text == "True" if kind is bool else kind(text)


def _writer(name: str, kind: type) -> Callable:
    def write(self: Any, value: Any) -> None:
        if not (_is_node(kind) and value is None) and not isinstance(value, kind):
            raise ValueError(f"{name} must be a {kind.__name__}, not {value!r}")
        node = self.parameterNode
        was_modifying = node.StartModify()
        try:
            if _is_node(kind):
                node.SetParameter(name, "")
                node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
            else:
                node.SetParameter(name, value.name if isinstance(value, enum.Enum) else str(value))
            self._kept[name] = _read(node, name, kind)
        finally:
            node.EndModify(was_modifying)

    return write


def connectGui(self: Any, gui: Any) -> int:
    """Bind each widget with the dynamic property to the field that it names; return a tag for `disconnectGui`."""
    bound = {}
    for widget in gui.__dict__.values():
        name = widget.property(PROPERTY)
        if name:
            if name not in self._fields:
                raise ValueError(f"Cannot find a param with the given name: {name}")
            bound[name] = (widget, *_connector(widget, self._fields[name]))
    tag = len(self._connections)
    callbacks = {}
    for name, (widget, read, write, signal) in bound.items():
        write(getattr(self, name))
        callbacks[name] = _from_gui(self, name, read)
        getattr(widget, signal).connect(callbacks[name])

    def update(*_: Any) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for name, (_widget, _read, write, _signal) in bound.items():
                write(getattr(self, name))
        finally:
            self._updating = False

    self._connections[tag] = (bound, callbacks, self.AddObserver(vtk.vtkCommand.ModifiedEvent, update))
    return tag


def _from_gui(self: Any, name: str, read: Callable) -> Callable:
    def changed() -> None:
        if not self._updating:
            setattr(self, name, read())

    return changed


def disconnectGui(self: Any, tag: int) -> None:
    """Undo `connectGui`."""
    if tag not in self._connections:
        return
    bound, callbacks, observer = self._connections.pop(tag)
    for name, (widget, _read, _write, signal) in bound.items():
        getattr(widget, signal).disconnect(callbacks[name])
    self.RemoveObserver(observer)


def _connector(widget: Any, kind: type) -> tuple[Callable, Callable, str]:
    """Return how to read and write a widget and the signal that tells of changes; exact classes, as in Slicer."""
    import ctk
    import slicer

    import qt

    cls = type(widget)
    if kind is bool and cls in (qt.QCheckBox, qt.QPushButton):
        signal = "stateChanged" if cls is qt.QCheckBox else "toggled"
        return lambda: widget.checked, lambda value: setattr(widget, "checked", value), signal
    if kind is str and cls is qt.QLineEdit:
        return lambda: widget.text, lambda value: value == widget.text or setattr(widget, "text", value), "textChanged"
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath) and cls is ctk.ctkPathLineEdit:
        return (
            lambda: kind(widget.currentPath),
            lambda value: setattr(widget, "currentPath", str(value)),
            "currentPathChanged",
        )
    if _is_node(kind) and cls is slicer.qMRMLNodeComboBox:
        widget.nodeTypes = (kind().GetClassName(),)
        return widget.currentNode, widget.setCurrentNode, "currentNodeChanged"
    if isinstance(kind, type) and issubclass(kind, enum.Enum) and cls is qt.QComboBox:
        members = list(kind)
        label = getattr(kind, "label", lambda member: member.name)
        selected = members[widget.currentIndex]
        widget.clear()
        for member in members:
            widget.addItem(label(member))
        widget.currentIndex = members.index(selected)
        return (
            lambda: members[widget.currentIndex],
            lambda value: setattr(widget, "currentIndex", members.index(value)),
            "currentIndexChanged",
        )
    raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to widget type '{cls}'.")


def getValue(self: Any, name: str) -> Any:
    """Return the field called `name`."""
    return getattr(self, name)


def setValue(self: Any, name: str, value: Any) -> None:
    """Set the field called `name`."""
    setattr(self, name, value)


def StartModify(self: Any) -> int:
    return self.parameterNode.StartModify()


def EndModify(self: Any, wasModified: int) -> int:
    return self.parameterNode.EndModify(wasModified)


def AddObserver(self: Any, event: Any, callback: Callable, priority: float = 0.0) -> int:
    return self.parameterNode.AddObserver(event, callback, priority)


def RemoveObserver(self: Any, tag: int) -> None:
    self.parameterNode.RemoveObserver(tag)


def Modified(self: Any) -> None:
    self.parameterNode.Modified()
