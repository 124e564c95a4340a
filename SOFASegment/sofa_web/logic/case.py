"""Opening a case: from the server's folder or by upload."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sofa_engine.errors import SofaError
from sofa_engine.types import MODALITIES, Modality
from sofa_web.allowed_folder import AllowedFolder
from SOFASegmentLib import volumes
from SOFASegmentLib.controller import Phase

if TYPE_CHECKING:
    from trame_server import Server

    from sofa_web.logic.question import QuestionLogic
    from sofa_web.workspace import Workspace

_RUNNING = "A case is being segmented; cancel that first."


class CaseLogic:
    """Which case is open, and which others there are."""

    def __init__(
        self, server: Server, workspace: Workspace, allowed: AllowedFolder | None, question: QuestionLogic
    ) -> None:
        """Offer what lies in `allowed`, or uploads alone where it is None."""
        self._state = server.state
        self._workspace = workspace
        self._allowed = allowed
        self._question = question
        #: Whether the user said before an upload that what is open may be lost.
        self._agreed = False
        self._state.browse_allowed = allowed is not None
        workspace.opened.connect(self._on_opened)
        workspace.chosen.connect(self._update)

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
        """Open the folder that is shown; ask first where a result would be lost."""
        if self._allowed is not None:
            loss = self._workspace.work.lostByLeaving()
            await self._question.ask_before(loss, "Open another case?", "Open", self._open_browsed)

    def may_upload(self) -> bool:
        """Return whether the page may send files now; otherwise say why not, or ask."""
        if self._workspace.controller.phase is Phase.RUNNING:
            self._state.failure = _RUNNING
        elif self._state.opening:
            self._state.failure = "A case is being opened; wait until it is there."
        else:
            loss = self._workspace.work.lostByLeaving()
            self._agreed = bool(loss)
            return self._question.may_upload(loss)
        return False

    def check_idle(self) -> None:
        """Refuse another case while one is being segmented.

        Raises:
            SofaError: one is.
        """
        if self._workspace.controller.phase is Phase.RUNNING:
            raise SofaError(_RUNNING)

    @contextlib.contextmanager
    def receiving(self) -> Iterator[None]:
        """Show that a case is on its way; also an upload that breaks off ends that."""
        with self._state:
            self._state.opening = True
        try:
            yield
        finally:
            with self._state:
                self._state.opening, self._state.upload_percent = False, None

    async def _open_browsed(self) -> None:
        assert self._allowed is not None
        try:
            folder = self._allowed.case_folder(self._state.browse_path)
            await self.open_folder(folder)
        except SofaError as error:
            self._state.browse_failure = str(self._allowed.shown(error))
            return
        self._state.browse_open = False

    async def open_first(self, folder: Path) -> None:
        """Open the operator's case; what is wrong with it is shown on the page."""
        try:
            await self.open_folder(folder)
        except SofaError as error:
            # Visitors need not know where on the server it lies.
            self._state.failure = str(error).replace(f"{folder.parent}{os.sep}", "")

    async def open_uploaded(self, folder: Path) -> None:
        """Open what was uploaded, unless somebody has worked meanwhile and was not asked; see `open_folder`."""
        if not self._agreed and self._workspace.work.lostByLeaving():
            raise SofaError("The segmentation was changed while the files came; export it, then upload them again.")
        await self.open_folder(folder, "Upload")

    async def open_folder(self, folder: Path, title: str | None = None) -> None:
        """Open a case in place of the one that is open.

        Args:
            folder: its files.
            title: see `Workspace.open_case`.

        Raises:
            SofaError: it cannot be read, or something is running; what was open stays.
        """
        self.check_idle()
        with self.receiving():
            # Reading belongs to the main thread, as everything of a scene does: let the page show first that it began.
            await asyncio.sleep(0.05)
            self._workspace.open_case(folder, title)

    async def align(self) -> None:
        """Resample what lies on another grid; ask first where a result would be lost."""
        loss = self._workspace.work.lostByLeaving()
        await self._question.ask_before(loss, "Align the volumes?", "Align", self._align)

    def _align(self) -> None:
        try:
            self._workspace.align()
        except SofaError as error:
            self._state.failure = str(error)

    def choose(self, key: str, node_id: str | None) -> None:
        """Say which volume is a sequence, or with None that it is missing."""
        node = self._workspace.scene.GetNodeByID(node_id) if node_id else None
        nodes: dict[Modality, object] = {**self._workspace.state.inputs(), Modality(key): node}
        self._workspace.choose({modality: chosen for modality, chosen in nodes.items() if chosen is not None})

    def _on_opened(self, notes: tuple[str, ...]) -> None:
        state = self._state
        with state:
            state.case_notes = list(notes)
            state.sequences_open = not self._workspace.matched
            state.failure = ""
            state.notices = []
            self._update()

    def _update(self) -> None:
        """Show what is chosen and whether it fits."""
        scene, nodes = self._workspace.state, self._workspace.volumes()
        chosen = scene.inputs()
        state = self._state
        state.case_name = self._workspace.title
        state.sequences = [
            {"key": m.value, "title": m.title, "node": chosen[m].GetID() if m in chosen else None} for m in MODALITIES
        ]
        state.candidates = [{"title": node.GetName(), "value": node.GetID()} for node in nodes]
        if chosen:
            state.grid_fits, state.grid_sentence = volumes.gridReport(chosen, scene.referenceModality())
        else:
            state.grid_fits = False
            state.grid_sentence = "The names do not say which sequence each volume is; choose at least one here."
        state.can_align = len(chosen) > 1 and not state.grid_fits
