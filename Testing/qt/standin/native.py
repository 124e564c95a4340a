"""Qt implementations of the Slicer and CTK widgets that the modules use, as far as the modules use them.

`pythonqt` lets Python see only what `facts` lists, so what is added here for the stand-in's own use stays hidden.
"""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal, Slot

from standin.dialogs import qSlicerDICOMExportDialog, qSlicerFileDialog, qSlicerScriptedFileDialog


class qMRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = None

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


class qSlicerWidget(qMRMLWidget):
    pass


class qMRMLNodeComboBox(QtWidgets.QWidget):
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAdded = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox(self)
        layout.addWidget(self._combo)
        self._scene, self._tags, self._filters = None, [], []
        self._types: list[str] = []
        self._none, self._none_text, self._current = False, "None", None
        self._flags = dict.fromkeys(("add", "remove", "edit", "rename", "hidden", "childTypes", "select"), True)
        self._hidden_types: list[str] = []
        self._combo.currentIndexChanged.connect(self._chosen)
        self._combo.setEnabled(False)

    def _flag(name: str) -> Property:  # noqa: N805
        return Property(bool, lambda self: self._flags[name], lambda self, value: self._flags.update({name: value}))

    addEnabled, removeEnabled, editEnabled = _flag("add"), _flag("remove"), _flag("edit")
    renameEnabled, showHidden, showChildNodeTypes = _flag("rename"), _flag("hidden"), _flag("childTypes")
    selectNodeUponCreation = _flag("select")

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)
        self._refresh()

    nodeTypes = Property("QStringList", lambda self: self._types, _set_types)

    def _set_none(self, enabled: bool) -> None:
        self._none = enabled
        self._refresh()

    noneEnabled = Property(bool, lambda self: self._none, _set_none)

    def _set_none_text(self, text: str) -> None:
        self._none_text = text
        self._refresh()

    noneDisplay = Property(str, lambda self: self._none_text, _set_none_text)
    hideChildNodeTypes = Property(
        "QStringList", lambda self: self._hidden_types, lambda self, value: setattr(self, "_hidden_types", list(value))
    )
    currentNodeID = Property(
        str,
        lambda self: self._current.GetID() if self._current else "",
        lambda self, value: self.setCurrentNodeID(value),
    )
    baseName = Property(str, lambda self: "", lambda self, value: None)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if self._scene is not None:
            for tag in self._tags:
                self._scene.RemoveObserver(tag)
        self._scene, self._tags = scene, []
        self._combo.setEnabled(scene is not None)
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent):
                self._tags.append(scene.AddObserver(event, lambda *_: self._refresh()))
        self._refresh()

    def nodes(self) -> list:
        if self._scene is None:
            return []
        all_nodes = (self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes()))
        return [node for node in all_nodes if self._shows(node)]

    def _shows(self, node: Any) -> bool:
        kind = any(node.GetClassName() == t or (self._flags["childTypes"] and node.IsA(t)) for t in self._types)
        excluded = any(node.IsA(hidden) for hidden in self._hidden_types)
        return kind and not excluded and not node.GetHideFromEditors()

    def _refresh(self) -> None:
        nodes = self.nodes()
        before = self._current
        if before is not None and before not in nodes:
            self._current = None
        if self._current is None and not self._none and nodes:
            self._current = nodes[0]
        self._combo.blockSignals(True)
        self._combo.clear()
        if self._none:
            self._combo.addItem(self._none_text)
        self._listed = ([None] if self._none else []) + nodes
        for node in nodes:
            self._combo.addItem(node.GetName())
        self._combo.setCurrentIndex(self._listed.index(self._current) if self._current in self._listed else -1)
        self._combo.blockSignals(False)
        if self._current is not before:
            self._announce()

    def _chosen(self, index: int) -> None:
        self._current = self._listed[index] if 0 <= index < len(self._listed) else None
        self._announce()

    def _announce(self) -> None:
        self.currentNodeChanged.emit(self._current)
        self.currentNodeIDChanged.emit(self._current.GetID() if self._current else "")

    def currentNode(self) -> Any:
        return self._current

    def nodeCount(self) -> int:
        return len(self.nodes())

    def setCurrentNode(self, node: Any) -> None:
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene else None
        if node is self._current:
            return
        self._current = node if node in self.nodes() else None
        self._combo.blockSignals(True)
        self._combo.setCurrentIndex(self._listed.index(self._current) if self._current in self._listed else -1)
        self._combo.blockSignals(False)
        self._announce()

    def setCurrentNodeID(self, node_id: str) -> None:
        self.setCurrentNode(self._scene.GetNodeByID(node_id) if self._scene and node_id else None)

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        self._filters.append((node_type, name, value))


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        text = next((a for a in arguments if isinstance(a, str)), "")
        super().__init__(next((a for a in arguments if isinstance(a, QtWidgets.QWidget)), None))
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self.setContentsMargins(0, 24, 0, 0)
        self.toggled.connect(self._show_contents)

    def event(self, event: QtCore.QEvent) -> bool:
        if event.type() == QtCore.QEvent.LayoutRequest or event.type() == QtCore.QEvent.Polish:
            self._show_contents(self.isChecked())
        return super().event(event)

    def _show_contents(self, shown: bool) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget) and child.isHidden() == shown and not child.property("kept_hidden"):
                was_hidden_by_module = shown and not child.property("hidden_by_collapse")
                if was_hidden_by_module:
                    continue
                child.setProperty("hidden_by_collapse", not shown)
                child.setVisible(shown)
        self.updateGeometry()
        self.contentsCollapsed.emit(not shown)

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))
    flat = Property(bool, lambda self: False, lambda self, value: None)
    contentsLineWidth = Property(int, lambda self: 1, lambda self, value: None)

    def sizeHint(self) -> QtCore.QSize:
        inside = self.layout().totalSizeHint() if self.layout() and self.isChecked() else QtCore.QSize(100, 0)
        return QtCore.QSize(inside.width(), max(24, inside.height() if self.isChecked() else 24))

    minimumSizeHint = sizeHint

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), 23)
        painter.drawControl(QtWidgets.QStyle.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, 5, 13, 13)
        down = QtWidgets.QStyle.PE_IndicatorArrowDown
        painter.drawPrimitive(down if self.isChecked() else QtWidgets.QStyle.PE_IndicatorArrowRight, arrow)
        painter.drawText(QtCore.QRect(26, 0, self.width() - 30, 23), QtCore.Qt.AlignVCenter, self.text())


class ctkPathLineEdit(QtWidgets.QWidget):
    currentPathChanged = Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._edit, self._button = QtWidgets.QLineEdit(self), QtWidgets.QToolButton(self)
        self._button.setText("…")
        layout.addWidget(self._edit)
        layout.addWidget(self._button)
        self._values: dict[str, Any] = {"nameFilters": [], "settingKey": "", "label": ""}
        self._edit.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, lambda self: self._edit.text(), lambda self, value: self._edit.setText(value))
    nameFilters = Property(
        "QStringList",
        lambda self: self._values["nameFilters"],
        lambda self, value: self._values.update(nameFilters=list(value)),
    )
    settingKey = Property(
        str, lambda self: self._values["settingKey"], lambda self, value: self._values.update(settingKey=value)
    )

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(path)

    def addCurrentPathToHistory(self) -> None:
        pass


class qMRMLTableView(QtWidgets.QTableView):
    """Shows a table node; the model is filled again whenever the node says that it changed."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node, self._tag, self._scene = None, None, None
        self.setModel(QtGui.QStandardItemModel(self))

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def mrmlTableNode(self) -> Any:
        return self._node

    def setMRMLTableNode(self, node: Any) -> None:
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        if node is not None:
            self._tag = node.AddObserver("ModifiedEvent", lambda *_: self._fill())
        self._fill()

    @Slot()
    def _fill(self) -> None:
        model = self.model()
        model.clear()
        if self._node is None:
            return
        table = self._node.GetTable()
        columns = [table.GetColumn(c) for c in range(table.GetNumberOfColumns())]
        model.setHorizontalHeaderLabels([column.GetName() or "" for column in columns])
        for row in range(table.GetNumberOfRows()):
            model.appendRow([QtGui.QStandardItem(column.GetVariantValue(row).ToString()) for column in columns])


class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """What a module's widget gets as its parent: a QWidget with a vertical layout that knows whether it is shown."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        QtWidgets.QVBoxLayout(self)
        self._entered, self._python, self._make = False, None, None

    isEntered = Property(bool, lambda self: self._entered)

    def useWidgetFactory(self, make: Any) -> None:
        self._make = make

    def reload(self) -> None:
        self._python = self._make()
        self._python.setup()

    def self(self) -> Any:
        return self._python

    def enter(self) -> None:
        self._entered = True
        self._python.enter()

    def exit(self) -> None:
        self._entered = False
        self._python.exit()


class ctkMenuButton(QtWidgets.QPushButton):
    pass


class qMRMLSegmentationShow3DButton(ctkMenuButton):
    """Makes and removes the closed surfaces of a segmentation node, as its onToggled does."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node = None
        self.setCheckable(True)
        self.setEnabled(False)
        self.toggled.connect(self._toggled)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node
        self.blockSignals(True)
        self.setChecked(node is not None and node.GetSegmentation().ContainsRepresentation("Closed surface"))
        self.blockSignals(False)

    def _toggled(self, on: bool) -> None:
        if self._node is not None:
            segmentation = self._node.GetSegmentation()
            (segmentation.CreateRepresentation if on else segmentation.RemoveRepresentation)("Closed surface")


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Remembers what it was set to edit."""

    edited: ClassVar[list[Any]] = []

    def setSegmentationNode(self, node: Any) -> None:
        self.edited.append(node)

    def setSourceVolumeNode(self, node: Any) -> None:
        self.edited.append(node)


class ctkMessageBox(QtWidgets.QMessageBox):
    dontShowAgainVisible = Property(bool, lambda self: False, lambda self, value: None)
    dontShowAgainSettingsKey = Property(str, lambda self: "", lambda self, value: None)
    dontShowAgain = Property(bool, lambda self: False, lambda self, value: None)


SLICER_WIDGETS = (
    qMRMLWidget,
    qSlicerWidget,
    qMRMLNodeComboBox,
    qMRMLTableView,
    qSlicerScriptedLoadableModuleWidget,
    qSlicerDICOMExportDialog,
    qMRMLSegmentationShow3DButton,
    qMRMLSegmentEditorWidget,
    qSlicerFileDialog,
    qSlicerScriptedFileDialog,
)
CTK_WIDGETS = (ctkCollapsibleButton, ctkPathLineEdit, ctkMenuButton, ctkMessageBox)
