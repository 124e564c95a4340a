"""Checkpoints: found, downloaded, continued, verified, removed; against a real HTTP server on this machine."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sofa_engine.errors import CancelledError, WeightsError
from sofa_engine.progress import CancelToken
from sofa_engine.weights import Manifest, WeightsStore, shipped_folders

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class FileServer(ThreadingHTTPServer):
    """Serves one file; can break off, ignore ranges or serve something else."""

    content = CONTENT
    breaks_after: int | None = None
    knows_ranges = True
    asked: list[str | None]


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.knows_ranges else 0
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(self.server.content) - 1}/{len(self.server.content)}"
            )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.server.breaks_after is None else body[: self.server.breaks_after])
        self.server.breaks_after = None

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[FileServer]:
    server = FileServer(("127.0.0.1", 0), _Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def shipped(tmp_path: Path, server: FileServer) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    write_manifest(folder, url=f"http://127.0.0.1:{server.server_port}/model.safetensors")
    return folder


@pytest.fixture
def store(tmp_path: Path, shipped: Path) -> WeightsStore:
    return WeightsStore((shipped,), tmp_path / "cache")


def write_manifest(folder: Path, **changes: object) -> None:
    entry = {"name": "small", "file": "model.safetensors", "sha256": SHA256, "size": len(CONTENT)}
    entry |= {"arrangement": "compact", "note": "for tests", "url": None} | changes
    (folder / "manifest.json").write_text(json.dumps({"default": "small", "checkpoints": [entry]}), encoding="utf-8")


def leftovers(store: WeightsStore) -> list[Path]:
    return sorted(store.cache.glob("*.part"))


def test_a_download_arrives_whole_and_is_not_repeated(store, server):
    told = []
    path = store.get("small", progress=told.append)
    assert path.read_bytes() == CONTENT
    assert [p.fraction for p in told] == sorted(p.fraction for p in told)
    assert told[-1].fraction == 1
    assert leftovers(store) == []
    assert store.get("small") == path
    assert len(server.asked) == 1


def test_a_download_that_broke_off_is_continued_where_it_stopped(store, server):
    server.breaks_after = 1_500_000
    with pytest.raises(WeightsError, match=r"broke off after 1\.5 of 5\.1 MB.*run it again"):
        store.get("small")
    assert store.list()[0].path is None
    (part,) = leftovers(store)
    assert part.stat().st_size == 1_500_000
    assert store.get("small").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1500000-"]


def test_a_server_that_cannot_continue_sends_everything_again(store, server):
    server.breaks_after = 1_500_000
    with pytest.raises(WeightsError):
        store.get("small")
    server.knows_ranges = False
    assert store.get("small").read_bytes() == CONTENT


def test_what_is_not_the_checkpoint_is_deleted(store, server):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        store.get("small")
    assert list(store.cache.iterdir()) == []


@pytest.mark.parametrize("length", [100, len(CONTENT) + 5_000_000])
def test_a_file_of_another_length_never_takes_the_checkpoints_name(store, server, length):
    server.content = (CONTENT * 2)[:length]
    with pytest.raises(WeightsError):
        store.get("small")
    assert not (store.cache / "model.safetensors").exists()


def test_cancelling_keeps_what_came_for_the_next_time(store):
    cancel = CancelToken()
    with pytest.raises(CancelledError):
        store.get("small", progress=lambda _: cancel.cancel(), cancel=cancel)
    (part,) = leftovers(store)
    assert 0 < part.stat().st_size < len(CONTENT)
    assert store.get("small").read_bytes() == CONTENT


def test_the_part_of_another_version_is_not_continued(store, server, shipped):
    server.breaks_after = 1_500_000
    with pytest.raises(WeightsError):
        store.get("small")
    server.content = CONTENT[::-1]
    newer = hashlib.sha256(server.content).hexdigest()
    write_manifest(shipped, sha256=newer, url=f"http://127.0.0.1:{server.server_port}/model.safetensors")
    assert store.get("small").read_bytes() == CONTENT[::-1]
    assert server.asked == [None, None]


def test_a_server_that_is_not_there_is_one_sentence(store, shipped):
    write_manifest(shipped, url="http://127.0.0.1:9/model.safetensors")
    with pytest.raises(WeightsError, match="broke off after 0"):
        store.get("small")


def test_an_address_without_encryption_is_refused(store, shipped):
    write_manifest(shipped, url="http://example.org/model.safetensors")
    with pytest.raises(WeightsError, match="not https"):
        store.get("small")


def test_a_shipped_checkpoint_needs_no_download(store, shipped, server):
    (shipped / "model.safetensors").write_bytes(CONTENT)
    assert store.resolve() == shipped / "model.safetensors"
    assert store.get("small") == shipped / "model.safetensors"
    assert server.asked == []


def test_a_git_lfs_pointer_in_place_of_the_checkpoint_is_not_taken_for_it(store, shipped):
    (shipped / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    with pytest.raises(WeightsError, match="sofa weights get small"):
        store.resolve()


def test_a_damaged_checkpoint_is_found_out(store):
    path = store.get("small")
    assert store.verify("small") == path
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(WeightsError, match="damaged"):
        store.verify("small")


def test_a_checkpoint_can_be_carried_by_hand_to_a_machine_without_a_network(store, tmp_path, server):
    carried = tmp_path / "usb-stick" / "renamed.bin"
    carried.parent.mkdir()
    carried.write_bytes(CONTENT)
    assert store.add(carried).read_bytes() == CONTENT
    assert store.resolve("small").name == "model.safetensors"
    assert server.asked == []


def test_a_strange_file_is_not_taken_over(store, tmp_path):
    strange = tmp_path / "strange.pth"
    strange.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="none of the checkpoints that SOFA knows"):
        store.add(strange)
    assert not store.cache.exists()


def test_removing_deletes_the_download_and_its_parts_but_nothing_that_ships(store, shipped, server):
    server.breaks_after = 100
    with pytest.raises(WeightsError):
        store.get("small")
    assert store.remove("small")
    assert leftovers(store) == []
    store.get("small")
    assert store.remove("small")
    assert store.list()[0].path is None
    assert not store.remove("small")
    (shipped / "model.safetensors").write_bytes(CONTENT)
    assert not store.remove("small")
    assert store.resolve("small").is_file()


def test_a_file_of_ones_own_is_taken_as_it_is(store, tmp_path):
    own = tmp_path / "mine.safetensors"
    own.write_bytes(b"mine")
    assert store.resolve(own) == own


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("nothing/mine.safetensors", "no checkpoint file nothing/mine.safetensors"),
        ("tiny", r"no checkpoint called 'tiny' \(known are small\)"),
        ("small", "sofa weights get small"),
        (None, "sofa weights get small"),
    ],
)
def test_what_is_not_here_is_named_with_what_to_do(store, asked, sentence):
    with pytest.raises(WeightsError, match=sentence):
        store.resolve(asked)


def test_without_any_manifest_the_user_is_asked_for_a_checkpoint(tmp_path):
    with pytest.raises(WeightsError, match="--weights FILE"):
        WeightsStore((tmp_path,), tmp_path / "cache").resolve()


@pytest.mark.parametrize("changes", [{"file": "../../evil"}, {"sha256": "0"}, {"size": -1}, {"surprise": 1}])
def test_a_damaged_manifest_is_refused(store, shipped, changes):
    write_manifest(shipped, **changes)
    with pytest.raises(WeightsError, match="not a manifest"):
        store.manifest()


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, shipped):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(WeightsError, match="cannot be written"):
        WeightsStore((shipped,), tmp_path / "file" / "cache").get("small")


def test_the_manifest_of_this_repository_is_sound():
    manifest = WeightsStore().manifest()
    assert isinstance(manifest, Manifest)
    assert (shipped_folders()[0] / "manifest.json").is_file()
    assert manifest.default in {None, *(entry.name for entry in manifest.checkpoints)}
    for entry in manifest.checkpoints:
        if (shipped_folders()[0] / entry.file).is_file():
            WeightsStore().verify(entry.name)
