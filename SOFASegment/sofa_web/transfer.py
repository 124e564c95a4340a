"""Files between the browser and the visitor's process: a case up, results down."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import BodyPartReader, web

from sofa_engine.errors import InputError, OutputError, SofaError
from sofa_engine.types import LabelScheme
from sofa_web.detached import check_data_files
from SOFASegmentLib import export, report
from SOFASegmentLib.controller import Phase

if TYPE_CHECKING:
    from sofa_web.logic.case import CaseLogic
    from sofa_web.workspace import Workspace
    from SOFASegmentLib import SegmentController

_CHUNK = 1 << 20
#: Four float32 volumes of 512 x 512 x 400 voxels, uncompressed, fit.
UPLOAD_BYTES = 2 << 30
_MOST_FILES = 5000
_MOST_LEVELS = 8
#: Of a name; file systems take 255, and a number may be put in front.
_MOST_BYTES = 200
#: A drag is settled and measured within seconds, on a slow machine within a minute.
_SETTLE_S = 60.0
_POLL_S = 0.05


class Uploads:
    """Takes the files of one case into a folder of its own and opens it."""

    def __init__(self, scratch: Path, case: CaseLogic) -> None:
        """Keep uploads below `scratch` and open them in `case`."""
        self._scratch = scratch
        self._case = case
        self._current: Path | None = None

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a POST of multipart form data."""
        folder = Path(tempfile.mkdtemp(prefix="upload-", dir=self._scratch))
        try:
            # Before anything is received: gigabytes are not sent to be refused.
            self._case.check_idle()
            with self._case.receiving(), _disk_told():
                await self._receive(request, folder)
            await self._case.open_uploaded(folder)
        except SofaError as error:
            shutil.rmtree(folder, ignore_errors=True)
            sentence = str(error).replace(f"{folder}/", "").replace(f"{folder}", "The upload")
            return web.json_response({"sentence": sentence}, status=400)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        # Kept while the case is open: an export takes over the orientation fields of the file it is drawn on.
        if self._current is not None:
            shutil.rmtree(self._current, ignore_errors=True)
        self._current = folder
        return web.json_response({"ok": True})

    async def _receive(self, request: web.Request, folder: Path) -> None:
        if not request.content_type.startswith("multipart/"):
            raise InputError("An upload needs files; choose the sequences of one patient.")
        room, files = UPLOAD_BYTES, 0
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or not part.filename:
                continue
            files += 1
            if files > _MOST_FILES:
                raise InputError(f"More than {_MOST_FILES} files were sent; upload the four sequences alone.")
            with _safe_path(part.filename, folder).open("xb") as file:
                while chunk := await part.read_chunk(_CHUNK):
                    room -= len(chunk)
                    if room < 0:
                        raise InputError(f"The upload is larger than {UPLOAD_BYTES >> 30} GiB; compress the volumes.")
                    file.write(chunk)
        if not files:
            raise InputError("No file arrived; choose the sequences of one patient.")
        for file in folder.rglob("*"):
            check_data_files(file, folder)


class Downloads:
    """Writes results and sends them."""

    def __init__(self, scratch: Path, workspace: Workspace) -> None:
        """Write below `scratch` before sending, so that what is sent is whole."""
        self._folder = scratch / "export"
        self._workspace = workspace

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a GET of `download/labels|boxes|report|facts`."""
        what = request.match_info["what"]
        self._folder.mkdir(exist_ok=True)
        try:
            await self._settled(what)
            path = await self._write(self._workspace.controller, what, request.query.get("scheme", "2020"))
        except SofaError as error:
            return web.Response(status=409, text=str(error))
        if what == "labels":
            self._workspace.work.exported()
        # No FileResponse: it would call a .nii.gz "gzip-encoded", and browsers would unpack it under that name.
        return web.Response(
            body=path.read_bytes(),
            content_type="application/octet-stream",
            headers={"Content-Disposition": _attachment(path.name), "Cache-Control": "no-store"},
        )

    async def _settled(self, what: str) -> None:
        """Wait while a drag is still at work: half of it in a file would be nobody's result."""
        controller, deadline = self._workspace.controller, time.monotonic() + _SETTLE_S
        measures = what in {"report", "facts"}
        while controller.phase is Phase.READY and (controller.changing or (measures and not controller.measured)):
            if time.monotonic() > deadline:
                raise OutputError("The segmentation is still changing; try again in a moment.")
            await asyncio.sleep(_POLL_S)

    async def _write(self, controller: SegmentController, what: str, scheme: str) -> Path:
        if scheme not in set(LabelScheme):
            raise InputError(f"“{scheme}” is no label scheme; choose 2020 or 2023.")
        if what == "labels":
            return export.writeLabels(
                controller, self._folder / export.proposedFileName(controller), LabelScheme(scheme)
            )
        if what == "boxes":
            return report.writeBoxes(controller, self._folder / export.proposedFileName(controller, "_boxes.json"))
        if what == "report":
            path = self._folder / export.proposedFileName(controller, "_report.html")
            return await asyncio.to_thread(report.htmlReport(controller, LabelScheme(scheme)), path)
        if what == "facts":
            return report.writeReport(controller, self._folder / export.proposedFileName(controller, "_report.json"))
        raise InputError(f"There is nothing called “{json.dumps(what)[1:-1]}” to download.")


@contextmanager
def _disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"The upload cannot be kept on the server ({error.strerror or error}).") from error


def _attachment(name: str) -> str:
    """Return the header that names a download: in ASCII, and whole for those who read RFC 5987."""
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _safe_path(given: str, folder: Path) -> Path:
    """Return a new path below `folder` for what the browser calls a file; its folders are made.

    They are kept, since they may say which sequence a series is. Names become letters and digits, and none leads up.
    """
    words = (re.sub(r"[^\w.()-]+", "_", part).lstrip(".") for part in re.split(r"[/\\]", given))
    # The ending says what a file is. File systems count bytes, and cutting may leave a part of a letter in front.
    cleaned = (word.encode()[-_MOST_BYTES:].decode(errors="ignore") for word in words)
    *folders, name = [part for part in cleaned if part][-_MOST_LEVELS:] or ["file"]
    place = folder.joinpath(*folders)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # a file has the name of a folder: no browser sends that
        place = folder
    path = place / name
    # Files that were chosen in several folders may share a name.
    return path if not path.exists() else next(p for n in count(1) if not (p := place / f"{n}_{name}").exists())
