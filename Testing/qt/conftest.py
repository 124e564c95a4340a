"""Qt tests: the stand-in for Slicer, offscreen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6", reason="the Qt tests need PySide6")
pytest.importorskip("slicer", reason="the Qt tests need slicer-core for real MRML")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "service")]

from panel_tools import Panel  # noqa: E402
from PySide6 import QtCore, QtWidgets  # noqa: E402
from standin.slicer_app import SlicerStandIn  # noqa: E402


@pytest.fixture(scope="session")
def application(tmp_path_factory: pytest.TempPathFactory) -> QtWidgets.QApplication:
    # Settings of their own: not the user's, and not those of another test process.
    QtCore.QSettings.setPath(
        QtCore.QSettings.Format.NativeFormat, QtCore.QSettings.Scope.UserScope, str(tmp_path_factory.mktemp("settings"))
    )
    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    app.setStyle("Fusion")
    return app


@pytest.fixture
def slicer_stand_in(application: QtWidgets.QApplication) -> Iterator[SlicerStandIn]:
    stand_in = SlicerStandIn(application)
    yield stand_in
    stand_in.close()


@pytest.fixture
def panel(slicer_stand_in: SlicerStandIn) -> Panel:
    """The module's panel, shown, with an empty scene and nothing remembered."""
    QtCore.QSettings().clear()
    return Panel(slicer_stand_in)


@pytest.fixture
def segmented(panel: Panel) -> Panel:
    """The panel after the first pass on the synthetic patient."""
    panel.choose(panel.addCase())
    panel.segment()
    return panel
