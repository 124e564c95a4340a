"""Opening a case: from the server's folder or by upload."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from sofa_engine.errors import SofaError
from sofa_web.allowed_folder import AllowedFolder
from SOFASegmentLib import volumes
from SOFASegmentLib.controller import Phase

if TYPE_CHECKING:
    from trame_server import Server

    from sofa_web.workspace import Workspace


class CaseLogic:
    """Which case is open, and which others there are."""

    def __init__(self, server: Server, workspace: Workspace, allowed: AllowedFolder | None) -> None:
        """Offer what lies in `allowed`, or uploads alone where it is None."""
        self._state = server.state
        self._workspace = workspace
        self._allowed = allowed
        self._state.browse_allowed = allowed is not None
        workspace.opened.connect(self._on_opened)

    def browse(self, path: str = "") -> None:
        """List a folder of the server in the dialog."""
        if self._allowed is None:
            return
        self._state.browse_open = True
        self._state.browse_failure = ""
        try:
            listing = self._allowed.listing(path)
        except SofaError as error:
            self._state.browse_failure = str(error)
            return
        self._state.browse_path = listing.path
        self._state.browse_folders = list(listing.folders)
        self._state.browse_volumes = listing.volumes

    def browse_into(self, name: str) -> None:
        """List a folder in the one that is shown."""
        self.browse(f"{self._state.browse_path}/{name}".lstrip("/"))

    def browse_up(self) -> None:
        """List the folder above."""
        self.browse(self._state.browse_path.rpartition("/")[0])

    async def open_browsed(self) -> None:
        """Open the folder that is shown."""
        if self._allowed is None:
            return
        try:
            folder = self._allowed.case_folder(self._state.browse_path)
            await self.open_folder(folder)
        except SofaError as error:
            self._state.browse_failure = str(error)
            return
        self._state.browse_open = False

    async def open_first(self, folder: Path) -> None:
        """Open the operator's case; what is wrong with it is shown on the page."""
        try:
            await self.open_folder(folder)
        except SofaError as error:
            self._state.failure = str(error)

    async def open_folder(self, folder: Path) -> None:
        """Open a case in place of the one that is open.

        Raises:
            SofaError: it cannot be read, or something is running; what was open stays.
        """
        if self._workspace.controller.phase is Phase.RUNNING:
            raise SofaError("A case is being segmented; cancel that first.")
        with self._state:
            self._state.opening = True
        # Reading belongs to the main thread, as everything of a scene does: let the page show first that it began.
        await asyncio.sleep(0.05)
        try:
            self._workspace.open_case(folder)
        finally:
            with self._state:
                self._state.opening = False

    def align(self) -> None:
        """Resample what lies on another grid."""
        try:
            self._workspace.align()
        except SofaError as error:
            self._state.failure = str(error)

    def _on_opened(self, notes: tuple[str, ...]) -> None:
        state, scene = self._state, self._workspace.state
        reference = scene.reference()
        with state:
            state.case_name = reference.GetName()
            state.case_notes = list(notes)
            state.grid_fits, state.grid_sentence = volumes.gridReport(scene.inputs(), scene.referenceModality())
            state.failure = ""
            state.notices = []
