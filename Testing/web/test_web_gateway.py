"""Who gets in, what can be reached, and what becomes of visitors who leave; without a browser."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import SimpleITK as sitk

import web_tools
from sofa_engine.errors import InputError, OutputError
from sofa_engine.model.checkpoint import save_checkpoint
from sofa_engine.tiny import tiny_model
from sofa_web.allowed_folder import AllowedFolder
from sofa_web.config import ViewConfig
from sofa_web.transfer import _attachment, _disk_told
from web_tools import Server, until, write_case

#: Starting a visitor's views takes a few seconds of both cores.
PATIENCE = 90 * web_tools.PATIENCE


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server]) -> Server:
    return start_server(prefix="/sofa", max_visitors=1)


@pytest.fixture(scope="module")
def inside(server: Server) -> Iterator[httpx.Client]:
    """Somebody who came with the token, followed to the scene."""
    with httpx.Client(timeout=PATIENCE, follow_redirects=True) as client:
        answer = client.get(server.address)
        assert answer.status_code == 200, answer.text
        client.base_url = str(answer.url).removesuffix("index.html")
        yield client


def test_without_the_token_nothing_is_shown(server):
    for address in (server.base, f"{server.base}?token=wrong", f"{server.base}v/anything/index.html"):
        answer = httpx.get(address)
        assert answer.status_code == 401
        assert "token" in answer.text
        assert not answer.cookies


@pytest.mark.parametrize("page", ["", "/v/of-before/index.html", "/v/of-before/session"])
def test_the_token_that_is_entered_on_any_page_leads_to_the_entrance(server, page):
    address, token = server.base.removesuffix("/") + page, server.address.partition("token=")[2]
    answer = httpx.get(address, params={"token": token})
    assert answer.status_code == 302
    assert answer.next_request.url == httpx.URL(server.base, params={"token": token})
    assert httpx.get(address, params={"token": "wrong"}, follow_redirects=True).status_code == 401


def test_the_page_lies_under_the_prefix_and_allows_no_other_host(inside, server):
    assert str(inside.base_url).startswith(server.base + "v/")
    policy = inside.get("index.html").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy.replace("https:", "").replace("http:", "")


def test_coming_back_leads_to_the_same_scene_and_a_further_visitor_is_told_that_it_is_full(inside, server):
    assert str(inside.get(server.base).url) == str(inside.base_url) + "index.html"
    answer = httpx.get(server.address)
    assert answer.status_code == 503
    assert "taken" in answer.text


def test_a_page_of_another_site_is_refused(inside):
    answer = inside.get("session", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "path", ["../../../../etc/passwd", "%2e%2e/%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd"]
)
def test_no_path_leads_out_of_what_is_served(inside, path):
    answer = inside.get(httpx.URL(f"{inside.base_url}{path}"))
    assert answer.status_code in {401, 404}
    assert "root:" not in answer.text


def test_the_visitors_own_port_lets_only_the_gateway_in(inside, server):
    (process,) = server.processes("sofa_web.visitor")
    ports = [c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert len(ports) == 1
    for path in ("/index.html", "/ws", "/download/labels"):
        assert httpx.get(f"http://127.0.0.1:{ports[0]}{path}").status_code == 403


def test_there_is_nothing_to_download_before_a_case_is_segmented(inside):
    answer = inside.get("download/labels")
    assert answer.status_code == 409
    assert "press Segment" in answer.text
    assert inside.get("download/..%2f..%2fetc").status_code in {404, 409}


def test_an_upload_with_a_wicked_name_stays_in_its_folder(inside, tmp_path):
    case = write_case(tmp_path / "case", "up")
    files = [("file", (f"../../../{f.name}", f.read_bytes())) for f in sorted(case.iterdir())]
    assert inside.post("upload", files=files).json() == {"ok": True}
    answer = inside.post("upload", files=[("file", ("/etc/t1.nii.gz", b"no image"))])
    assert answer.status_code == 400
    assert "t1.nii.gz" in answer.json()["sentence"]
    assert "/etc" not in answer.json()["sentence"]


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("x_t1.mhd", "ObjectType = Image\nNDims = 3\nDimSize = 8 8 8\nElementType = MET_UCHAR\nElementDataFile = {}\n"),
        ("x_t1.mha", "NDims = 3\nComment = a\rElementDataFile = LOCAL\nElementDataFile : {}\n"),
        ("x_t1.mhd", "NDims = 3\nDimSize = 8 8 8\nElementType = MET_UCHAR\nElementDataFile = LIST\n{}\n"),
        ("x_t1.nhdr", "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 8 8\nencoding: raw\ndata file: {}\n"),
        ("x_t1.nrrd", "NRRD0004\r\ntype: uint8\r\nDatafile: ../../../../../../../../../../../..{}\r\n\r\n"),
        ("x_t1.nhdr", "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 8 8\ndata file: s%02d.raw 0 7 1\n"),
    ],
)
def test_an_upload_shows_no_other_file_of_the_server(inside, tmp_path, name, header):
    (tmp_path / "secret.raw").write_bytes(bytes(range(256)) * 2)
    content = header.format(tmp_path / "secret.raw").encode()
    answer = inside.post("upload", files=[("file", (name, content))])
    assert answer.status_code == 400
    assert "does not hold its voxels itself" in answer.json()["sentence"]


def test_a_header_and_its_voxels_can_be_uploaded_together(inside, tmp_path):
    for name in ("t1", "t1c", "t2", "flair"):
        image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 999, (24, 40, 32)).astype(np.int16))
        sitk.WriteImage(image, str(tmp_path / f"x_{name}.{'mhd' if name < 't2' else 'nhdr'}"))
    files = [("file", (f.name, f.read_bytes())) for f in sorted(tmp_path.iterdir())]
    assert inside.post("upload", files=files).json() == {"ok": True}


def test_a_very_long_name_and_a_full_disk_are_sentences(inside, tmp_path, monkeypatch):
    case = write_case(tmp_path / "case")
    files = [("file", (f"{'脑' * 150}{f.name}", f.read_bytes())) for f in sorted(case.iterdir())]
    assert inside.post("upload", files=files).json() == {"ok": True}
    with pytest.raises(OutputError, match=r"cannot be kept on the server \(No space left"), _disk_told():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_download_is_named_for_everybody():
    assert _attachment("Müller_T1c.nii.gz") == (
        "attachment; filename=\"M_ller_T1c.nii.gz\"; filename*=UTF-8''M%C3%BCller_T1c.nii.gz"
    )


def test_an_idle_visitor_is_ended_and_told_so(start_server):
    server = start_server(idle_minutes=0.05)
    with httpx.Client(timeout=PATIENCE, follow_redirects=True) as client:
        page = str(client.get(server.address).url)
        until(lambda: not server.processes("sofa_web.visitor"))
        answer = client.get(page)
        assert answer.status_code == 410
        assert "not used" in answer.text
        assert client.get(page.replace("index.html", "session")).status_code == 410


def test_when_the_server_is_killed_no_process_is_left(start_server):
    server = start_server()
    httpx.get(server.address, timeout=PATIENCE)
    until(lambda: server.processes("sofa_service"))
    family = psutil.Process(server.process.pid).children(recursive=True)
    os.kill(server.process.pid, signal.SIGKILL)
    _gone, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_off_loopback_encryption_is_required(case_folder):
    with pytest.raises(InputError, match="without encryption"):
        ViewConfig(host="0.0.0.0", case=case_folder).check()
    ViewConfig(host="0.0.0.0", case=case_folder, behind_proxy=True).check()
    with pytest.raises(InputError, match="not a folder"):
        ViewConfig(case=case_folder / "missing").check()


@pytest.mark.parametrize("own", [{"weights": Path("mine.pth")}, {"device": "cpu"}])
def test_weights_and_device_are_refused_beside_an_engine_that_has_its_own(own):
    ViewConfig(engine_url="http://engine:8000").check()
    with pytest.raises(InputError, match="has its own weights and device"):
        ViewConfig(engine_url="http://engine:8000", **own).check()


def test_the_command_prints_the_address_and_ends_cleanly(case_folder):
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "sofa_cli.main", "view", str(case_folder), "--port", "0", "--no-browser"]
    code = "from sofa_cli.main import run; run()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command[3:]],
        env={**os.environ, "PYTHONPATH": str(root / "SOFASegment")},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    said = process.stdout.readline()
    assert said.startswith("SOFA is at http://localhost:")
    assert "?token=" in said
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_the_demo_ends_in_the_browser_on_any_free_port(case_folder, tmp_path):
    root = Path(__file__).resolve().parents[2]
    save_checkpoint(tiny_model(), tmp_path / "tiny.safetensors", name="tiny")
    opened = tmp_path / "opened.txt"
    (tmp_path / "browser.sh").write_text(f'#!/bin/sh\necho "$1" > {opened}\n', encoding="utf-8")
    (tmp_path / "browser.sh").chmod(0o755)
    options = ["--case", str(case_folder), "--weights", str(tmp_path / "tiny.safetensors"), "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from sofa_cli.main import run; run()", "demo", *options, "--view"],
        env={
            **os.environ,
            "PYTHONPATH": str(root / "SOFASegment"),
            "BROWSER": f"{tmp_path / 'browser.sh'} %s",
        },
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    said = next(line for line in process.stdout if line.startswith("SOFA is at "))
    until(opened.is_file)
    address = opened.read_text(encoding="utf-8").strip()
    assert address in said
    assert httpx.get(address, follow_redirects=True, timeout=PATIENCE).status_code == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0


class TestAllowedFolder:
    """Nothing outside of the operator's folder can be reached."""

    @pytest.fixture
    def allowed(self, tmp_path: Path) -> AllowedFolder:
        write_case(tmp_path / "cases" / "one")
        write_case(tmp_path / "secret" / "two")
        (tmp_path / "cases" / "sneaky").symlink_to(tmp_path / "secret")
        linked = tmp_path / "cases" / "linked"
        linked.mkdir()
        (linked / "x_t1.nii.gz").symlink_to(tmp_path / "secret" / "two" / "patient_t1.nii.gz")
        (tmp_path / "cases" / ".hidden").mkdir()
        return AllowedFolder(tmp_path / "cases")

    def test_lists_what_is_inside_and_opens_it(self, allowed, tmp_path):
        assert allowed.listing("").folders == ("linked", "one")
        assert allowed.listing("one").volumes == 4
        assert allowed.case_folder("one") == tmp_path / "cases" / "one"

    @pytest.mark.parametrize(
        "path", ["..", "../secret", "../secret/two", "/etc", "one/../../secret", "sneaky", "sneaky/two", "a\0b", "no"]
    )
    def test_refuses_what_leads_out_in_the_same_words_as_what_does_not_exist(self, allowed, path):
        for ask in (allowed.listing, allowed.case_folder):
            with pytest.raises(InputError, match="not a folder that this server offers"):
                ask(path)

    @pytest.mark.parametrize("name", ["x_t1.nii.gz", "x.nii.gz"])
    def test_refuses_a_case_whose_file_is_a_link_to_the_outside(self, allowed, tmp_path, name):
        (tmp_path / "cases" / "linked" / "x_t1.nii.gz").rename(tmp_path / "cases" / "linked" / name)
        with pytest.raises(InputError, match="leads outside"):
            allowed.case_folder("linked")

    def test_a_case_whose_names_say_nothing_may_be_opened_since_the_visitor_will_say_it(self, allowed, tmp_path):
        folder = tmp_path / "cases" / "one"
        for n, file in enumerate(sorted(folder.iterdir())):
            file.rename(folder / f"scan{n}.nii.gz")
        assert allowed.case_folder("one") == folder
