"""Things break while a clinician works: engines die, clients vanish, proxies hold back. Nothing of hers is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from io import BytesIO
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest

from fakes import ThresholdPredictor
from service_tools import drag, environment, until
from sofa_engine.session import SegmentationSession
from sofa_engine.types import Box, SubRegion
from sofa_service.client import EngineClient
from sofa_service.config import ParentProcess
from sofa_service.connection import Connection
from sofa_service.engine import Engine
from sofa_service.errors import EngineLostError, EngineUnreachableError, SessionGoneError
from sofa_service.framing import Limits, encode
from sofa_service.protocol import CaseHeader, ErrorCode, RefineRequest
from sofa_service.sessions import SessionStore
from sofa_service.worker import Job, JobKind, Worker


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_killed_between_two_actions_the_engine_comes_back_with_boxes_labels_and_undo(start_engine, case):
    engine = start_engine()
    told = []
    session = engine.client().open(case, notify=told.append)
    session.first_pass()
    drag(session)
    drag(session)
    session.undo()
    labels, boxes, old = session.labels(), session.boxes(), engine.pid
    os.kill(engine.pid, signal.SIGKILL)
    np.testing.assert_array_equal(session.labels(), labels)
    assert session.boxes() == boxes
    assert (session.can_undo(), session.can_redo()) == (True, True)
    assert engine.pid != old and session.recoveries == 1
    assert told == ["The engine no longer holds this case; it is being opened again as it was."]


def test_killed_in_mid_run_the_engine_costs_one_sentence_and_nothing_else(start_engine, case):
    engine = start_engine("open_suicidal")
    session = engine.client().open(case)
    session.first_pass()
    drag(session)
    labels, shape = session.labels(), session.geometry.shape
    fatal = Box((0, 0, 0), shape)
    with pytest.raises(EngineLostError, match="The connection to the engine broke, or the engine ended"):
        list(session.refine(SubRegion.ED, [fatal]))
    np.testing.assert_array_equal(session.labels(), labels)
    assert session.recoveries == 1
    session.undo()
    assert not session.can_undo()


def test_every_open_case_survives_the_engines_death(start_engine, case):
    engine = start_engine()
    client = engine.client()
    sessions = [client.open(case) for _ in range(2)]
    for number, session in enumerate(sessions):
        session.first_pass()
        drag(session, by=2 + 2 * number)
    labels = [session.labels() for session in sessions]
    os.kill(engine.pid, signal.SIGKILL)
    for session, before in zip(sessions, labels, strict=True):
        np.testing.assert_array_equal(session.labels(), before)
    assert len(client.status().sessions) == 2


def test_a_remote_engine_that_is_gone_is_a_sentence_until_it_is_back(start_engine, case):
    engine = start_engine()
    client = EngineClient(engine.url, engine.token)  # by address, as from another computer: it cannot restart it
    session = client.open(case)
    session.first_pass()
    drag(session)
    labels, token, port = session.labels(), engine.token, urlsplit(engine.url).port
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineUnreachableError, match="No engine answers at"):
        session.labels()
    start_engine(port=port, token=token)
    np.testing.assert_array_equal(session.labels(), labels)
    assert session.recoveries == 1
    client.close()


def test_an_engine_that_stops_answering_is_a_sentence(start_engine, case, monkeypatch):
    engine = start_engine()
    client = EngineClient(engine.url, engine.token)
    session = client.open(case)
    session.first_pass()
    monkeypatch.setattr(client.connection, "_timeout", httpx.Timeout(2.0))
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(EngineLostError, match="has stopped answering; nothing was changed"):
        drag(session)
    os.kill(engine.pid, signal.SIGCONT)


def test_a_client_that_another_thread_closes_meanwhile_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(f"http://127.0.0.1:{listener.getsockname()[1]}", "token")

        def hang_up():
            listener.accept()[0].close()
            connection.close()

        closing = threading.Thread(target=hang_up)
        closing.start()
        with pytest.raises(EngineUnreachableError, match="gone"):
            connection.request("GET", "/v1/hello", repeat=True)
        closing.join()
    with pytest.raises(EngineUnreachableError, match="gone"), connection.stream("GET", "/v1/stream-check"):
        pass


def test_a_client_that_vanishes_in_mid_stream_leaves_no_work_and_no_change_behind(start_engine, case):
    engine = start_engine("open_slow")
    client = engine.client()
    session = client.open(case)
    session.first_pass()
    before = session.labels()
    url = urlsplit(engine.url)
    request = RefineRequest(
        sub_region=SubRegion.ED, boxes=(Box((1, 1, 1), (43, 71, 63)),), generation=77
    ).model_dump_json()
    with socket.create_connection((url.hostname, url.port)) as raw:
        raw.sendall(
            f"POST {session._wire._path('refine')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {engine.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(request)}\r\n\r\n{request}".encode()
        )
        assert raw.recv(200).startswith(b"HTTP/1.1 200")
        assert client.status().queued == 1
    began = time.monotonic()
    until(lambda: client.status().queued == 0)
    assert time.monotonic() - began < 2  # the whole refinement would take longer
    np.testing.assert_array_equal(session.labels(), before)
    assert not session._wire.connection.request("GET", session._wire._path("state")).json()["can_undo"]


def test_a_client_that_vanishes_while_uploading_leaves_nothing_behind(start_engine):
    engine = start_engine()
    url = urlsplit(engine.url)
    files = len(psutil.Process(engine.pid).open_files())
    with socket.create_connection((url.hostname, url.port)) as raw:
        raw.sendall(
            f"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {engine.token}\r\n"
            "Content-Type: application/x-sofa-message\r\nContent-Length: 9000000\r\n\r\n".encode()
            + bytes(1 << 20)
        )
        time.sleep(0.3)
    until(lambda: len(psutil.Process(engine.pid).open_files()) <= files)
    assert engine.client().status().sessions == ()


def test_the_engine_ends_when_its_parent_is_killed(tmp_path):
    script = (
        "import sys, time\n"
        "from sofa_service.launcher import LocalEngine\n"
        "engine = LocalEngine(factory='service_fakes:open_quick')\n"
        "engine.start()\n"
        "print(engine.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    face = subprocess.Popen([sys.executable, "-c", script], env=environment(), stdout=subprocess.PIPE, encoding="utf-8")
    pid = int(face.stdout.readline())
    assert psutil.pid_exists(pid)
    face.kill()
    face.wait()
    until(lambda: gone(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="sets the clock of psutil on Linux")
def test_a_clock_that_is_set_is_no_end_of_the_face(monkeypatch):
    boot = psutil.boot_time()
    handed_over = ParentProcess.this().model_dump_json()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot + 3600)
    face = ParentProcess.model_validate_json(handed_over)
    assert face.alive()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot - 7200)
    assert face.alive()


def test_a_face_that_has_ended_is_not_alive_and_neither_is_one_that_was_never_there():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    face = ParentProcess(pid=child.pid)
    assert face.alive()
    child.kill()
    until(lambda: not face.alive(), seconds=5)  # a zombie by now
    child.wait()
    assert not face.alive() and not ParentProcess(pid=child.pid).alive()


def test_the_face_comes_before_its_engine_where_both_want_the_processor(start_engine, case):
    engine = start_engine()
    with engine.client() as client:
        client.open(case).close()  # by now all threads have been started
    face = psutil.Process().nice()
    for thread in psutil.Process(engine.pid).threads():
        niceness = os.getpriority(os.PRIO_PROCESS, thread.id) if sys.platform == "linux" else None
        assert niceness is None or niceness > face
    assert psutil.Process(engine.pid).nice() != face


@pytest.mark.skipif(sys.platform == "win32", reason="niceness is POSIX's")
def test_a_face_that_has_stepped_back_itself_gets_its_engine_all_the_same():
    script = (
        "import os, psutil\n"
        "from sofa_service.launcher import LocalEngine\n"
        "os.nice(15)\n"
        "with LocalEngine(factory='service_fakes:open_quick') as engine:\n"
        "    print(psutil.Process(engine.pid).nice())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    assert int(done.stdout) > 15


def test_stopping_ends_the_whole_tree_and_removes_its_files(start_engine):
    engine = start_engine()
    pid, folder = engine.pid, engine._folder
    engine.stop()
    assert gone(pid) and not folder.exists() and not engine.alive


def test_a_face_that_closed_its_client_gets_a_new_one(start_engine, case):
    engine = start_engine()
    with engine.client() as client:
        client.open(case).close()
    assert engine.client().status().sessions == ()


def test_the_token_is_on_no_command_line(start_engine):
    engine = start_engine()
    for process in psutil.process_iter(["cmdline"]):
        assert engine.token not in " ".join(process.info["cmdline"] or [])


@pytest.mark.parametrize("spilled", [False, True])
def test_a_request_that_comes_while_its_session_is_being_closed_is_told_so(case, spilled):
    worker, free, told = Worker(), threading.Event(), {}
    store = SessionStore(
        lambda opened: SegmentationSession(opened, ThresholdPredictor()), limits=Limits(), budget=1 << 40
    )
    engine = Engine(store, worker)
    upload = BytesIO(
        encode(CaseHeader(geometry=case.geometry).model_dump_json(), {m.value: a for m, a in case.images.items()})
    )

    def busy(_):
        free.wait(20)
        return None
        yield

    try:
        record = store.open("key", case, upload)
        worker.submit(Job("another case", JobKind.CALL, busy, lambda *_: None))
        if spilled:
            store._spill(record)
        engine.close("key", lambda *_: None)
        engine.call("key", lambda _, session: session.labels(), lambda result, error: told.update(error=error))
        free.set()
        until(lambda: told)
    finally:
        free.set()
        engine.stop()
    assert isinstance(told["error"], SessionGoneError), told["error"]
    assert str(told["error"]) == "The session was closed. Open the case again."
    assert ErrorCode.of(told["error"]).status == 410
