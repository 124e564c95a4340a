"""Slicer around the modules: real MRML from slicer-core, the stand-ins of `qt` and `ctk`, an application, a host.

`SlicerStandIn` puts everything into `sys.modules` and into the `slicer` package, and takes it out again. Where the
environment variable SLICER_SOURCE_DIR names a checkout of Slicer's sources, Slicer's own `ScriptedLoadableModule` and
`parameterNodeWrapper` are used instead of the short ones here, which is how those are compared with the originals.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import slicer
import slicer.util
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from standin import native, parameter_node, pythonqt, scripted_module

_MODULE_LOGICS = {
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "volumes": "vtkSlicerVolumesLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "tables": "vtkSlicerTablesLogic",
    "plots": "vtkSlicerPlotsLogic",
    "annotations": "vtkSlicerAnnotationModuleLogic",
}


class ModuleManager(QtCore.QObject):
    moduleAboutToBeUnloaded = QtCore.Signal("QString")
    moduleLoaded = QtCore.Signal("QString")


class Application(QtCore.QObject):
    """`slicer.app`. Every public name here is one that qSlicerApplication or QApplication offers (a test looks)."""

    startupCompleted = QtCore.Signal()

    def __init__(self, application: QtWidgets.QApplication) -> None:
        super().__init__()
        self._application, self._manager, self._logic = application, ModuleManager(), None
        self._testing, self._layout = False, None

    applicationName = QtCore.Property(str, lambda self: "Slicer")
    majorVersion = QtCore.Property(int, lambda self: 5)
    minorVersion = QtCore.Property(int, lambda self: 12)

    def testingEnabled(self) -> bool:
        return self._testing

    def moduleManager(self) -> ModuleManager:
        return self._manager

    def layoutManager(self) -> Any:
        return self._layout

    def applicationLogic(self) -> Any:
        return self._logic

    def processEvents(self) -> None:
        self._application.processEvents()

    def topLevelWidgets(self) -> list:
        return self._application.topLevelWidgets()

    def setOverrideCursor(self, shape: Any) -> None:
        self._application.setOverrideCursor(shape)

    def restoreOverrideCursor(self) -> None:
        self._application.restoreOverrideCursor()

    def translate(self, _context: str, text: str) -> str:
        return text


class UiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file with Slicer's and CTK's widgets in it, and makes the connections that pass on the scene."""

    def load(self, file: QtCore.QFile, parent: Any = None) -> Any:
        tree = ET.fromstring(bytes(file.readAll()).decode())
        connections = tree.find("connections")
        wanted = (
            []
            if connections is None
            else [
                tuple(connection.findtext(part) for part in ("sender", "signal", "receiver", "slot"))
                for connection in connections
            ]
        )
        if connections is not None:
            tree.remove(connections)
        for widget in (*native.SLICER_WIDGETS, *native.CTK_WIDGETS):
            if issubclass(widget, QtWidgets.QWidget):
                self.registerCustomWidget(widget)
        buffer = QtCore.QBuffer()
        buffer.setData(ET.tostring(tree))
        buffer.open(QtCore.QIODevice.ReadOnly)
        root = super().load(buffer, parent)
        for sender, signal, receiver, slot in wanted:
            source = root if sender == root.objectName() else root.findChild(QtCore.QObject, sender)
            target = root.findChild(QtCore.QObject, receiver)
            getattr(source, signal.partition("(")[0]).connect(getattr(target, slot.partition("(")[0]))
        return root


class Module:
    """What a scripted module's class gets as its parent, and what `slicer.modules.<name>` is."""

    _PROPERTIES = frozenset(
        {
            "title",
            "categories",
            "dependencies",
            "contributors",
            "helpText",
            "acknowledgementText",
            "icon",
            "hidden",
            "associatedNodeTypes",
            "index",
        }
    )

    def __init__(self, path: Path) -> None:
        object.__setattr__(self, "path", str(path))
        object.__setattr__(self, "_representation", None)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._PROPERTIES:
            raise AttributeError(f"'{name}' does not exist on qSlicerScriptedLoadableModule")
        object.__setattr__(self, name, value)

    def widgetRepresentation(self) -> Any:
        """Return the module's panel, made and set up on the first call."""
        if self._representation is None:
            name = Path(self.path).stem
            host = native.qSlicerScriptedLoadableModuleWidget()

            def make() -> Any:
                widget = getattr(sys.modules[name], f"{name}Widget")(pythonqt.wrap(host))
                setattr(slicer.modules, f"{name}Widget", widget)
                return widget

            host.useWidgetFactory(make)
            host.setMRMLScene(slicer.mrmlScene)
            host._standin_wrapper = pythonqt.wrap(host)
            object.__setattr__(self, "_representation", host._standin_wrapper)
            host.reload()
        return self._representation


class SlicerStandIn:
    """Slicer with a scene, an application and, if wanted, a main window."""

    def __init__(self, application: QtWidgets.QApplication, *, mainWindow: bool = True) -> None:
        self._before_modules, self._before_names = dict(sys.modules), dict(vars(slicer))
        self.installed: list[list[str]] = []
        self.read_dialogs: list[native.qSlicerScriptedFileDialog] = []
        self.declines_install = False
        self._install_qt()
        self._install_python()
        self.app = Application(application)
        slicer.app = pythonqt.wrap(self.app)
        self.app._standin_wrapper = slicer.app
        self._install_scene()
        self.mainWindow = QtWidgets.QMainWindow() if mainWindow else None
        if self.mainWindow is not None:
            self.mainWindow.setObjectName("qSlicerMainWindow")

    def close(self) -> None:
        """Take everything out of the process again."""
        for module in list(vars(slicer.modules).values()):
            if isinstance(module, Module) and module._representation is not None:
                self.app.moduleManager().moduleAboutToBeUnloaded.emit(Path(module.path).stem)
                module._representation._native.deleteLater()
        if self.mainWindow is not None:
            self.mainWindow.deleteLater()
        slicer.mrmlScene.Clear(1)
        QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
        # A reload of the module loads these again; the next test must not meet two generations of one enum.
        for name in list(sys.modules):
            if name in {"qt", "ctk"} or name.startswith(("slicer.", "SOFASegment", "SOFATraining", "sofa_")):
                del sys.modules[name]
        own = ("slicer.", "SOFASegment", "SOFATraining", "sofa_")
        sys.modules.update({name: module for name, module in self._before_modules.items() if name.startswith(own)})
        for name in set(vars(slicer)) - set(self._before_names):
            delattr(slicer, name)
        for name, value in self._before_names.items():
            setattr(slicer, name, value)

    def load(self, path: Path) -> Any:
        """Load a scripted module as Slicer does: its class with a parent; the widget is made when first shown."""
        name = path.stem
        sys.path.insert(0, str(path.parent)) if str(path.parent) not in sys.path else None
        specification = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
        module = Module(path)
        setattr(slicer.modules, name.lower(), module)
        setattr(slicer.modules, f"{name}Instance", getattr(sys.modules[name], name)(module))
        make_dialog = getattr(sys.modules[name], f"{name}FileDialog", None)
        if make_dialog is not None:
            dialog = native.qSlicerScriptedFileDialog()
            dialog._standin_wrapper = pythonqt.wrap(dialog)
            dialog.usePython(make_dialog(dialog._standin_wrapper))
            self.read_dialogs.append(dialog)
        return module

    def dropOnMainWindow(self, mime: QtCore.QMimeData) -> list[str]:
        """Drop onto the main window as qSlicerIOManager::dropEvent does; returns the readers that are offered.

        Where Slicer would ask which reader to use, the first is taken.
        """
        offered = [dialog for dialog in self.read_dialogs if dialog.isAccepted(mime)]
        if offered:
            button, modifier = QtCore.Qt.LeftButton, QtCore.Qt.NoModifier
            event = QtGui.QDropEvent(QtCore.QPointF(5, 5), QtCore.Qt.CopyAction, mime, button, modifier)
            event.ignore()
            offered[0].take(event)
        return [dialog.description for dialog in offered]

    def _install_qt(self) -> None:
        qt, ctk = types.ModuleType("qt"), types.ModuleType("ctk")
        vars(qt).update(pythonqt.module_of_qt())
        qt.QUiLoader = pythonqt.wrapper_of(UiLoader)
        for widget in native.CTK_WIDGETS:
            setattr(ctk, widget.__name__, pythonqt.wrapper_of(widget))
        for widget in native.SLICER_WIDGETS:
            setattr(slicer, widget.__name__, pythonqt.wrapper_of(widget))
        sys.modules.update(qt=qt, ctk=ctk)

    def _install_python(self) -> None:
        translation = types.ModuleType("slicer.i18n")
        translation.tr = lambda text: text
        translation.translate = lambda _context, text: text
        wrapper = types.ModuleType("slicer.parameterNodeWrapper")
        wrapper.parameterNodeWrapper = parameter_node.parameterNodeWrapper
        packaging = types.ModuleType("slicer.packaging")
        packaging.load_requirements = lambda path: [
            line for line in Path(path).read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
        ]
        packaging.pip_ensure = self._pip_ensure
        for module in (translation, wrapper, packaging):
            sys.modules[module.__name__] = module
            setattr(slicer, module.__name__.partition(".")[2], module)
        source = os.environ.get("SLICER_SOURCE_DIR")
        if source:
            self._install_slicers_own_python(Path(source) / "Base" / "Python" / "slicer")
            return
        sys.modules["slicer.ScriptedLoadableModule"] = scripted_module
        slicer.ScriptedLoadableModule = scripted_module

    @staticmethod
    def _install_slicers_own_python(folder: Path) -> None:
        """Use Slicer's own base classes and parameter node wrapper, from a checkout of Slicer's sources."""

        def placeholder(name: str) -> type:
            """Stand for a widget class that those name and the modules do not use."""
            if name.startswith(("ctk", "qMRML", "qSlicer")):
                return type(name, (), {})
            raise AttributeError(name)

        sys.modules["ctk"].__getattr__ = slicer.__getattr__ = placeholder
        for name in ("parameterNodeWrapper", "ScriptedLoadableModule"):
            for stale in [known for known in sys.modules if known.startswith(f"slicer.{name}")]:
                del sys.modules[stale]
            path = folder / name / "__init__.py" if (folder / name).is_dir() else folder / f"{name}.py"
            specification = importlib.util.spec_from_file_location(f"slicer.{name}", path)
            module = importlib.util.module_from_spec(specification)
            sys.modules[f"slicer.{name}"] = module
            specification.loader.exec_module(module)
            setattr(slicer, name, module)

    def _pip_ensure(
        self,
        requirements: Any,
        constraints: Any = None,
        skip_packages: Any = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> None:
        """Take what Slicer 5.12's function takes, remember what was asked for, and install nothing."""
        self.installed.append(list(requirements))
        if self.declines_install:
            raise RuntimeError("User declined installation.")

    def _install_scene(self) -> None:
        scene = slicer.vtkMRMLScene()
        slicer.mrmlScene = scene
        logic = slicer.vtkSlicerApplicationLogic()
        logic.SetMRMLScene(scene)
        self.app._logic = logic
        logic.GetColorLogic().AddDefaultColorNodes() if logic.GetColorLogic() else None
        slicer.modules = types.SimpleNamespace()
        for name, class_name in _MODULE_LOGICS.items():
            if not hasattr(slicer, class_name):
                continue
            module_logic = getattr(slicer, class_name)()
            module_logic.SetMRMLApplicationLogic(logic)
            module_logic.SetMRMLScene(scene)
            logic.SetModuleLogic(name.capitalize(), module_logic)
            setattr(slicer.modules, name, types.SimpleNamespace(logic=lambda keep=module_logic: keep))
