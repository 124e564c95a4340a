"""The stand-in for PythonQt is worth what it agrees with: what the real PythonQt answered, question by question."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from PySide6 import QtWidgets
from standin import facts, native, pythonqt
from standin.slicer_app import Application

FACTS = json.loads((Path(__file__).parent / "data" / "pythonqt_facts_used.json").read_text(encoding="utf-8"))
#: Answers that name a memory address or Qt 5's own wording; what they say is asked in tests of their own below.
_WORDING = {
    "w.size",
    "t.singleShot",
    "QtCore.QTimer.singleShot",
    "p.program",
    "b.deleteLater",
    "b.sizePolicy",
    "p.readAllStandardOutput()",
    "tab.horizontalHeader()",
    "b.metaObject().className()",
}


@pytest.fixture(scope="module")
def answers(application) -> dict[str, str]:
    qt = SimpleNamespace(**pythonqt.module_of_qt())

    class Sub(qt.QWidget):
        def __init__(self) -> None:
            qt.QWidget.__init__(self)
            self.mine = 3

    names = {
        "QtCore": qt,
        "QtGui": qt,
        "hits": [],
        "b": qt.QPushButton("hello"),
        "s": qt.QSlider(),
        "c": qt.QComboBox(),
        "w": qt.QWidget(),
        "t": qt.QTimer(),
        "p": qt.QProcess(),
        "tab": qt.QTableWidget(2, 2),
        "sub": Sub(),
    }
    result = {}
    for expression, _ in FACTS["behaviour"]:
        try:
            result[expression] = repr(eval(expression, names))
        except Exception as error:
            result[expression] = f"{type(error).__name__}: {error}"
    return result


@pytest.mark.parametrize(
    ("expression", "answer"), [pair for pair in FACTS["behaviour"] if pair[0] not in _WORDING], ids=lambda text: text
)
def test_answers_as_pythonqt_does(answers, expression, answer):
    assert answers[expression] == answer


@pytest.mark.parametrize("class_name", sorted(FACTS["classes"]))
def test_a_fresh_instance_offers_properties_as_values_and_methods_as_calls(application, class_name):
    qt = SimpleNamespace(**pythonqt.module_of_qt())
    instance = getattr(qt, class_name)()
    wrong = []
    entry = FACTS["classes"][class_name]
    for name in entry["property"]:
        if (
            name[0].islower()
            and instance._native.metaObject().indexOfProperty(name) >= 0
            and callable(getattr(instance, name))
        ):
            wrong.append(f"{name} is a call, PythonQt has a property")
    for name in entry["method"]:
        if hasattr(instance._native, name) and not callable(getattr(instance, name)):
            wrong.append(f"{name} is a value, PythonQt has a call")
    for name in entry["signal"]:
        if hasattr(instance._native, name) and not isinstance(getattr(instance, name), pythonqt.Signal):
            wrong.append(f"{name} is no signal")
    assert wrong == []


def test_a_misspelt_name_on_a_slicer_widget_is_an_error(application):
    combo = pythonqt.wrapper_of(native.qMRMLNodeComboBox)()
    with pytest.raises(AttributeError, match="setNodeTypes"):
        combo.setNodeTypes(["vtkMRMLScalarVolumeNode"])
    with pytest.raises(AttributeError, match="curentNode"):
        combo.curentNode()
    with pytest.raises(AttributeError, match="noneEnable'"):
        combo.noneEnable = True


def test_connecting_to_a_signal_that_a_widget_lacks_is_refused(application):
    combo = pythonqt.wrapper_of(native.qMRMLNodeComboBox)()
    assert combo.connect("currentNodeChanged(vtkMRMLNode*)", print) is True
    assert combo.connect("currentNodeChanged(vtkMRMLVolumeNode*)", print) is False
    assert combo.connect("currentIndexChanged(int)", print) is False


def test_a_python_subclass_sees_the_events_of_what_it_filters(application):
    qt = SimpleNamespace(**pythonqt.module_of_qt())
    seen = []

    class Filter(qt.QObject):
        def eventFilter(self, obj, event):
            seen.append(event.type() == qt.QEvent.DynamicPropertyChange)

    watched, watcher = qt.QWidget(), Filter()
    watched.installEventFilter(watcher)
    watched.setProperty("anything", 1)
    watched._native.removeEventFilter(watcher._native)
    assert True in seen


@pytest.mark.parametrize("widget", [*native.SLICER_WIDGETS, *native.CTK_WIDGETS], ids=lambda w: w.__name__)
def test_every_slicer_or_ctk_widget_that_stands_in_is_described_by_the_api_file(widget):
    assert facts.names_of(widget.__name__) is not None


def test_every_name_of_the_application_that_stands_in_is_one_of_slicers():
    offered = facts.names_of("qSlicerApplication") | set(dir(QtWidgets.QApplication))
    own = {name for name in vars(Application) if not name.startswith("_") and name != "staticMetaObject"}
    assert own - offered == set()


def test_the_designer_file_uses_only_classes_and_properties_that_exist(application):
    root = ET.parse(Path(__file__).parents[2] / "SOFASegment" / "Resources" / "UI" / "SOFASegment.ui").getroot()
    unknown = []
    for widget in root.iter("widget"):
        names = facts.names_of(widget.get("class"))
        if names is None:
            unknown.append(widget.get("class"))
            continue
        for entry in widget.findall("property"):
            if entry.get("name") not in names and entry.get("stdset") != "0":
                unknown.append(f"{widget.get('class')}.{entry.get('name')}")
    assert unknown == []
