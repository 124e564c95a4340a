"""Pictures of the panel in its main states; kept where the environment variable SOFA_SCREENSHOTS names a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import slicer
from panel_tools import Panel, drag
from PySide6 import QtGui, QtWidgets

#: How long a real case may take on a busy machine.
PATIENCE_S = 3000
#: Width of Slicer's module panel on a laptop's screen.
WIDTH = 420


@pytest.fixture
def take(panel, tmp_path):
    folder = Path(os.environ.get("SOFA_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def shoot(name: str, *opened: str) -> QtGui.QImage:
        for section in ("understand", "export", "advanced"):
            getattr(panel.ui, f"{section}CollapsibleButton").collapsed = section not in opened
        host = panel.host._native
        host.show()
        for _ in range(3):
            QtWidgets.QApplication.processEvents()
            host.resize(WIDTH, host.sizeHint().height())
        QtWidgets.QApplication.processEvents()
        image = host.grab().toImage()
        assert image.save(str(folder / f"{name}.png"))
        assert host.minimumSizeHint().width() <= WIDTH, "the panel would be cut off at its right side"
        return image

    return shoot


def cut_off(panel: Panel) -> list[str]:
    """Buttons whose text does not fit into them."""
    found = []
    for name, widget in vars(panel.ui).items():
        native = widget._native
        if isinstance(native, QtWidgets.QPushButton) and native.isVisible():
            needed = native.fontMetrics().horizontalAdvance(native.text())
            if needed > native.width():
                found.append(name)
    return found


def test_empty(panel, take):
    take("empty")
    assert cut_off(panel) == []


def test_volumes_chosen(panel, take):
    panel.choose(panel.addCase())
    take("ready")


def test_volumes_that_do_not_fit(panel, take):
    nodes = panel.addCase()
    nodes["flair"].SetSpacing(1.5, 1.0, 1.0)
    panel.choose(nodes)
    take("other-grid")
    assert panel.ui.alignButton._native.isVisible()


def test_running(panel, take):
    panel.useSessions(panel.endless)
    panel.choose(panel.addCase())
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.ui.progressBar.value > 0)
    take("running")
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.ui.segmentButton.text == "Segment")


def test_engine_dead(panel, take):
    from sofa_service.errors import EngineLostError

    def dead(_case, _progress, _cancel):
        raise EngineLostError("The engine ended in the middle of its answer; nothing was changed. Try again.")

    panel.useSessions(dead)
    panel.choose(panel.addCase())
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.said)
    take("engine-dead")


def test_segmented(panel, take):
    panel.choose(panel.addCase())
    panel.segment()
    take("segmented")
    take("understand", "understand")
    take("everything", "understand", "export", "advanced")
    assert cut_off(panel) == []


def test_locked_and_dragged(panel, take):
    panel.choose(panel.addCase())
    panel.segment()
    panel.ui.etLockButton.click()
    panel.ui.edBoxButton.click()
    drag(panel, "ncr", -4)
    panel.wait(lambda: panel.controller.canUndo and panel.controller.insights is not None)
    take("locked")
    assert cut_off(panel) == []


def test_server(panel, take):
    panel.choose(panel.addCase())
    panel.ui.engineUrlLineEdit.text = "https://gpu.clinic.example:8484"
    panel.ui.engineTokenLineEdit.text = "0123456789abcdef"
    panel.ui.segmentButton.click()
    take("consent", "advanced")


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S)
def test_a_real_case(panel, take, brats_case):
    """A real glioma with the checkpoint that ships, in a real engine process; this is the catalogue's picture."""
    pytest.importorskip("fastapi", reason="the engine process needs fastapi")
    from mrml_tools import realVolumes

    engine = panel.widget.logic.engine
    del engine.openSession
    engine._options = {"python": sys.executable, "timeout_s": PATIENCE_S}
    panel.controller._openSession = engine.openSession
    nodes, _truth = realVolumes(slicer.mrmlScene, Path(os.environ.get("SOFA_CASE", brats_case)))
    panel.choose({modality.value: node for modality, node in nodes.items()})
    panel.ui.segmentButton.click()
    panel.wait(lambda: panel.controller.insights is not None or panel.said, PATIENCE_S)
    assert panel.controller.insights is not None, panel.said
    take("panel", "understand")
    assert cut_off(panel) == []
    engine.close()
