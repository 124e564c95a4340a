"""Files that arrive, where they arrive: the disk of the server."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sofa_web.transfer import Uploads
from web_tools import run_to_end


def upload(scratch: Path, name: str) -> tuple[int, dict[str, Any], MagicMock]:
    """Send a file; return the answer, and what was asked of the case's logic."""
    case = MagicMock(receiving=contextlib.nullcontext, open_uploaded=AsyncMock())
    form = aiohttp.FormData(quote_fields=False)  # as browsers send names
    form.add_field("file", b"voxels", filename=name)

    async def send() -> tuple[int, dict[str, Any]]:
        app = web.Application()
        app.router.add_post("/upload", Uploads(scratch, case).handle)
        async with TestClient(TestServer(app)) as client:
            answer = await client.post("/upload", data=form)
            return answer.status, await answer.json()

    return *run_to_end(send()), case


def test_a_full_disk_is_a_sentence_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", full)
    status, answer, _case = upload(tmp_path, "t1.nii.gz")
    assert status == 400
    assert answer["sentence"] == "The upload cannot be kept on the server (No space left on device)."
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_file_system_takes_keeps_its_ending(tmp_path):
    status, _answer, case = upload(tmp_path, f"{'脑' * 100}/{'脑' * 100}_t1.nii.gz")
    assert status == 200
    (folder,) = case.open_uploaded.await_args.args
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    assert file.name.endswith("脑_t1.nii.gz")
    assert file.parent.parent == folder
