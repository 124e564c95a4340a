"""One visitor's page: scene, views, logic and ui, put together."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from trame_slicer.core import SlicerApp

from sofa_web.allowed_folder import AllowedFolder
from sofa_web.engine_link import EngineLink
from sofa_web.logic.boxes import BoxesLogic
from sofa_web.logic.case import CaseLogic
from sofa_web.logic.display import DisplayLogic
from sofa_web.logic.judge import JudgeLogic
from sofa_web.logic.place_box import PlaceBoxLogic
from sofa_web.logic.question import QuestionLogic
from sofa_web.logic.segment import SegmentLogic
from sofa_web.page_state import defaults
from sofa_web.scheduler import AsyncioScheduler
from sofa_web.transfer import Downloads, Uploads
from sofa_web.ui.page import build_page
from sofa_web.views import Views
from sofa_web.workspace import Workspace

if TYPE_CHECKING:
    from trame_server import Server

    from sofa_web.config import VisitorConfig

_ASSETS = "sofa_assets"


class Page:
    """Everything of one visitor."""

    def __init__(self, server: Server, config: VisitorConfig) -> None:
        """Make scene, views and page; serve nothing yet."""
        self._server = server
        self._config = config
        server.state.update(defaults())
        server.enable_module(
            {
                "serve": {_ASSETS: str(Path(__file__).with_name("assets").resolve())},
                "scripts": [f"{_ASSETS}/sofa.js"],
                "styles": [f"{_ASSETS}/sofa.css"],
            }
        )
        app = SlicerApp()
        views = Views(server, app)
        self._engine = EngineLink(config.engine_file)
        workspace = Workspace(app.scene, AsyncioScheduler(server.state), self._engine.open_session)
        allowed = AllowedFolder(config.folder) if config.folder is not None else None
        self.question = QuestionLogic(server)
        self.case = CaseLogic(server, workspace, allowed, self.question)
        self.segment = SegmentLogic(server, workspace, self.question)
        self.boxes = BoxesLogic(server, workspace, views)
        self.place_box = PlaceBoxLogic(server, workspace, self.boxes)
        self.display = DisplayLogic(server, workspace, views)
        self.judge = JudgeLogic(server, workspace)
        self.uploads = Uploads(config.scratch, self.case)
        self.downloads = Downloads(config.scratch, workspace)
        server.controller.trigger("sofa_key")(self._on_key)
        server.controller.trigger("sofa_may_upload")(self.case.may_upload)
        build_page(self, server)
        server.controller.on_client_connected.add(views.redraw)

    async def start(self) -> None:
        """Show the operator's case, if there is one."""
        if self._config.case is not None:
            with self._server.state:
                await self.case.open_first(self._config.case)

    def close(self) -> None:
        """Let the engine forget this visitor; the scene goes with the process."""
        self._engine.close()

    async def _on_key(self, name: str) -> None:
        """Do what a key of the page means."""
        actions = {
            "segment": self.segment.segment_or_cancel,
            "undo": self.segment.undo,
            "redo": self.segment.redo,
            "boxes": self.boxes.toggle_visible,
            "next": lambda: self.judge.step(1),
            "previous": lambda: self.judge.step(-1),
            "confidence": self.judge.toggle_confidence,
        }
        if name in actions:
            result = actions[name]()
            if inspect.isawaitable(result):
                await result
