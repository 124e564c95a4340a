"""Files between the browser and the visitor's process: a case up, results down."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import BodyPartReader, web

from sofa_engine.errors import InputError, SofaError
from sofa_engine.types import LabelScheme
from SOFASegmentLib import export, report

if TYPE_CHECKING:
    from SOFASegmentLib import SegmentController

_CHUNK = 1 << 20
#: Four float32 volumes of 512 x 512 x 400 voxels, uncompressed, fit.
UPLOAD_BYTES = 2 << 30
_MOST_FILES = 5000


class Uploads:
    """Takes the files of one case into a folder of its own and opens it."""

    def __init__(self, scratch: Path, open_case: Callable[[Path], Awaitable[None]]) -> None:
        """Keep uploads below `scratch`; `open_case` opens a folder and raises `SofaError` where it cannot."""
        self._scratch = scratch
        self._open_case = open_case
        self._current: Path | None = None

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a POST of multipart form data."""
        folder = Path(tempfile.mkdtemp(prefix="upload-", dir=self._scratch))
        try:
            await self._receive(request, folder)
            await self._open_case(folder)
        except SofaError as error:
            shutil.rmtree(folder, ignore_errors=True)
            return web.json_response({"sentence": str(error).replace(f"{folder}", "The upload")}, status=400)
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
        room, count = UPLOAD_BYTES, 0
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or not part.filename:
                continue
            count += 1
            if count > _MOST_FILES:
                raise InputError(f"More than {_MOST_FILES} files were sent; upload the four sequences alone.")
            with (folder / _safe_name(part.filename, folder)).open("xb") as file:
                while chunk := await part.read_chunk(_CHUNK):
                    room -= len(chunk)
                    if room < 0:
                        raise InputError(f"The upload is larger than {UPLOAD_BYTES >> 30} GiB; compress the volumes.")
                    file.write(chunk)
        if not count:
            raise InputError("No file arrived; choose the sequences of one patient.")


class Downloads:
    """Writes results and sends them."""

    def __init__(self, scratch: Path, get_controller: Callable[[], SegmentController]) -> None:
        """Write below `scratch` before sending, so that what is sent is whole."""
        self._folder = scratch / "export"
        self._get_controller = get_controller

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a GET of `download/labels|boxes|report`."""
        controller = self._get_controller()
        self._folder.mkdir(exist_ok=True)
        try:
            path = self._write(controller, request.match_info["what"], request.query.get("scheme", "2020"))
        except SofaError as error:
            return web.Response(status=409, text=str(error))
        # No FileResponse: it would call a .nii.gz "gzip-encoded", and browsers would unpack it under that name.
        return web.Response(
            body=path.read_bytes(),
            content_type="application/octet-stream",
            headers={"Content-Disposition": f'attachment; filename="{path.name}"', "Cache-Control": "no-store"},
        )

    def _write(self, controller: SegmentController, what: str, scheme: str) -> Path:
        if what == "labels":
            if scheme not in set(LabelScheme):
                raise InputError(f"“{scheme}” is no label scheme; choose 2020 or 2023.")
            return export.writeLabels(
                controller, self._folder / export.proposedFileName(controller), LabelScheme(scheme)
            )
        if what == "boxes":
            return report.writeBoxes(controller, self._folder / export.proposedFileName(controller, "_boxes.json"))
        if what == "report":
            return report.writeReport(controller, self._folder / export.proposedFileName(controller, "_report.json"))
        raise InputError(f"There is nothing called “{json.dumps(what)[1:-1]}” to download.")


def _safe_name(given: str, folder: Path) -> str:
    """Return a name for a file of the upload: the last part of what the browser said, letters and digits only."""
    name = re.sub(r"[^\w.()-]+", "_", re.split(r"[/\\]", given)[-1]).lstrip(".")[-120:] or "file"
    if not (folder / name).exists():
        return name
    # DICOM series of several folders often repeat their names.
    return next(f"{n}_{name}" for n in range(1, _MOST_FILES + 2) if not (folder / f"{n}_{name}").exists())
