"""Folders, as DICOM comes, dropped and chosen; how far an upload is, and when it is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studies import head, write_dicom
from web_tools import Server, until, write_case
from web_visit import Visit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server]) -> Server:
    return start_server(case=None)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with a folder for each series, whose files have the same names, and what a Mac leaves beside them."""
    for number, description in enumerate(("AX T1", "AX T1 +C POST", "AX T2", "T2 FLAIR")):
        folder = tmp_path / "study" / f"series{number}"
        write_dicom(folder, head(seed=number), description=description, uid=f"1.2.826.0.1.3680043.8.498.{number}")
        for n, file in enumerate(sorted(folder.iterdir())):
            file.rename(folder / f"IM{n:04d}")
        (folder / ".DS_Store").write_bytes(b"no image")
    return tmp_path / "study"


def drop_from_disk(guest: Visit, path: Path) -> None:
    """Drop a file or a folder as a person does, from the desktop."""
    devtools = guest.page.context.new_cdp_session(guest.page)
    carried = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 400, "data": carried})


def choose_folder(guest: Visit, path: Path) -> None:
    with guest.page.expect_file_chooser() as chooser:
        guest.button("Upload a folder").first.click()
    chooser.value.set_files(str(path))


@pytest.mark.parametrize("way", [drop_from_disk, choose_folder])
def test_a_folder_of_dicom_series_is_opened(visit, server, study, way):
    guest = visit(server)
    way(guest, study)
    guest.wait("() => window.trame.state.get('case_name') || window.trame.state.get('failure')")
    assert guest.state("failure") == ""
    assert [s["node"] is not None for s in guest.state("sequences")] == 4 * [True]
    assert guest.state("grid_fits")
    assert guest.errors == []


def test_it_is_told_how_much_of_an_upload_has_been_sent(visit, server, tmp_path):
    guest = visit(server)
    case = write_case(tmp_path / "mine", "mine")
    devtools = guest.page.context.new_cdp_session(guest.page)
    devtools.send("Network.enable")
    slow = sum(file.stat().st_size for file in case.iterdir()) / 8
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": slow}
    devtools.send("Network.emulateNetworkConditions", conditions)
    choose_folder(guest, case)
    told: set[int] = set()

    def listen() -> bool:
        shown = re.search(r"Uploading: (\d+) %", guest.page.inner_text("body"))
        told.update([int(shown[1])] if shown else [])
        return guest.state("case_name") == "mine_t1ce"

    until(listen)
    assert any(0 < percent < 100 for percent in told)
    assert guest.state("upload_percent") is None
    assert not guest.state("opening")


def test_while_a_case_is_segmented_files_are_refused_before_they_are_sent(visit, start_server, tmp_path):
    guest = visit(start_server("open_unhurried"))
    guest.await_case()
    guest.page.click("[data-test=segment]")
    guest.await_state("phase", "running")
    sent: list[Any] = []
    guest.page.on("request", lambda request: sent.append(request) if request.url.endswith("/upload") else None)
    drop_from_disk(guest, write_case(tmp_path / "mine", "mine"))
    alert = guest.page.locator(".sofa-messages [role=alert]")
    alert.wait_for()
    assert "cancel that first" in alert.inner_text()
    assert sent == []
    assert guest.state("phase") == "running"


def test_an_upload_that_breaks_off_leaves_the_page_usable(visit, server, tmp_path):
    guest = visit(server)
    case = write_case(tmp_path / "mine", "mine")
    devtools = guest.page.context.new_cdp_session(guest.page)
    devtools.send("Network.enable")
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 20_000}
    devtools.send("Network.emulateNetworkConditions", conditions)
    choose_folder(guest, case)
    guest.await_state("opening", True)
    guest.page.wait_for_timeout(1500)
    guest.page.reload()
    guest.page.wait_for_selector("[data-test=segment]")
    guest.await_state("opening", False)
    assert guest.state("upload_percent") is None
