"""Bad input at the engine's door: a status, a code, a sentence, and nothing left behind."""

from __future__ import annotations

import http.server
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest
import zstandard

from sofa_engine.errors import InputError
from sofa_engine.geometry import Geometry
from sofa_engine.types import Modality, SubRegion
from sofa_service.client import EngineClient
from sofa_service.config import CONFIG_VARIABLE, ServeConfig
from sofa_service.errors import (
    EngineUnreachableError,
    ServiceError,
    StartError,
    UnauthorizedError,
    VersionMismatchError,
)
from sofa_service.framing import encode
from sofa_service.protocol import MESSAGE_TYPE, PROTOCOL_HEADER, CaseHeader


@pytest.fixture
def http_client(shared_engine):
    headers = {"Authorization": f"Bearer {shared_engine.token}", "Content-Type": MESSAGE_TYPE}
    with httpx.Client(base_url=shared_engine.url, headers=headers) as http_client:
        yield http_client


def upload(geometry, **arrays):
    return encode(CaseHeader(geometry=geometry).model_dump_json(), arrays)


def refusal(response, status, code):
    assert response.status_code == status, response.text
    assert response.json()["code"] == code
    return response.json()["sentence"]


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic abc", "Bearer", "Bearer \xe9t\xe9"])
@pytest.mark.parametrize("path", ["/v1/hello", "/v1/status", "/v1/sessions/x/labels", "/v1/nothing"])
def test_without_the_token_every_door_is_closed(shared_engine, header, path):
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    sentence = refusal(httpx.get(shared_engine.url + path, headers=headers), 401, "unauthorized")
    assert "token is missing or wrong" in sentence


def test_an_upload_without_the_token_is_refused_and_takes_no_memory(shared_engine, client):
    before = client.status().process_mb
    flood = (bytes(1 << 20) for _ in range(200))
    response = httpx.post(f"{shared_engine.url}/v1/sessions", content=flood, headers={"Content-Type": MESSAGE_TYPE})
    refusal(response, 401, "unauthorized")
    assert client.status().process_mb < before + 50


def test_a_wrong_token_is_a_sentence_for_the_client(shared_engine):
    with pytest.raises(UnauthorizedError, match="token is missing or wrong"):
        EngineClient(shared_engine.url, "wrong")


def test_the_api_page_needs_no_token_and_lists_the_verbs(shared_engine):
    page = httpx.get(f"{shared_engine.url}/docs")
    paths = httpx.get(f"{shared_engine.url}/openapi.json").json()["paths"]
    assert page.status_code == 200
    assert all(path in page.text for path in paths)
    assert "http://" not in page.text and "https://" not in page.text  # a hospital has no way out
    assert {"/v1/sessions", "/v1/sessions/{key}/refine", "/v1/sessions/{key}/labels"} <= set(paths)


@pytest.mark.parametrize("declared", [True, False])
def test_an_oversized_upload_is_refused_while_it_arrives(start_engine, declared):
    engine = start_engine(message_mb=1)
    body = bytes(3 << 20)
    content = body if declared else (body[i : i + 65536] for i in range(0, len(body), 65536))
    headers = {"Authorization": f"Bearer {engine.token}", "Content-Type": MESSAGE_TYPE}
    response = httpx.post(f"{engine.url}/v1/sessions", content=content, headers=headers)
    assert "1 MiB that the engine accepts" in refusal(response, 413, "too_large")


def test_a_case_that_unpacks_to_too_much_is_refused(start_engine):
    engine = start_engine(raw_mb=1)
    geometry = Geometry.from_matrix((100, 100, 100), np.eye(4))
    headers = {"Authorization": f"Bearer {engine.token}", "Content-Type": MESSAGE_TYPE}
    body = upload(geometry, t1=np.zeros(geometry.shape, np.float32))
    assert "at most 1 MiB" in refusal(
        httpx.post(f"{engine.url}/v1/sessions", content=body, headers=headers), 413, "too_large"
    )


def test_a_case_beyond_the_memory_budget_is_refused(start_engine, case):
    client = start_engine(budget_mb=1).client()
    with pytest.raises(ServiceError, match="larger --memory"):
        client.open(case)
    assert client.status().sessions == ()


def test_a_compression_bomb_ends_in_a_sentence_and_costs_no_memory(http_client, client):
    before = client.status().process_mb
    bomb = zstandard.compress(bytes(1 << 30))
    meta = CaseHeader(geometry=Geometry.from_matrix((4, 4, 4), np.eye(4))).model_dump()
    table = [{"name": "t1", "dtype": "float32", "shape": [4, 4, 4], "size": len(bomb)}]
    header = json.dumps({"meta": meta, "arrays": table}).encode()
    body = b"SOFA" + struct.pack("<I", len(header)) + header + bomb
    assert "unpacks to 1073741824" in refusal(http_client.post("/v1/sessions", content=body), 422, "malformed")
    assert client.status().process_mb < before + 100


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({}, "one to four arrays"),
        ({"t1": np.zeros((4, 5, 6), np.uint8)}, "T1 must be float32, not uint8"),
        ({"t1": np.zeros((6, 5, 4), np.float32)}, r"T1 has shape \(6, 5, 4\) but the geometry says \(4, 5, 6\)"),
        ({"../../etc/passwd": np.zeros((4, 5, 6), np.float32)}, "one to four arrays named"),
    ],
)
def test_arrays_that_are_no_case_are_refused(http_client, arrays, sentence):
    body = upload(Geometry.from_matrix((4, 5, 6), np.eye(4)), **arrays)
    assert re.search(sentence, refusal(http_client.post("/v1/sessions", content=body), 422, "malformed"))


def test_a_geometry_that_is_none_is_refused(http_client):
    flat = Geometry.from_matrix((4, 5, 6), np.zeros((4, 4)))
    body = upload(flat, t1=np.zeros((4, 5, 6), np.float32))
    assert "invertible" in refusal(http_client.post("/v1/sessions", content=body), 422, "malformed")
    body = encode("{}", {"t1": np.zeros((4, 5, 6), np.float32)})
    assert "needs a geometry" in refusal(http_client.post("/v1/sessions", content=body), 422, "malformed")


@pytest.mark.parametrize("body", [b"", b"SOFA", b"\x1f\x8b" + bytes(100)])
def test_a_malformed_upload_is_refused(http_client, body):
    refusal(http_client.post("/v1/sessions", content=body), 422, "malformed")


def test_images_without_a_brain_are_the_engines_own_sentence(client, case):
    empty = replace(case, images={Modality.T1: np.full(case.geometry.shape, 7, np.float32)})
    session = client.open(empty)
    with pytest.raises(InputError, match="hold no brain"):
        session.first_pass()
    session.close()


@pytest.mark.parametrize("verb", ["labels", "state", "undo", "refine", "first-pass", "cancel", "edit"])
def test_an_unknown_session_is_gone(http_client, verb):
    refine = {"sub_region": "et", "boxes": []}
    bodies = {"refine": {"json": refine}, "first-pass": {"json": {}}, "cancel": {"json": {"generation": 1}}}
    method = "GET" if verb in {"labels", "state"} else "POST"
    edit = encode('{"extent": {"lower": [0,0,0], "upper": [1,1,1]}}', {"labels": np.zeros((1, 1, 1), np.uint8)})
    headers = {"Content-Type": "application/json"} if verb in bodies else {}
    options = bodies.get(verb, {"content": edit} if verb == "edit" else {})
    response = http_client.request(method, f"/v1/sessions/nobody/{verb}", headers=headers, **options)
    assert "Open the case again" in refusal(response, 410, "gone")


@pytest.mark.parametrize(
    "body",
    [
        {"sub_region": "brain", "boxes": []},
        {"sub_region": "et", "boxes": [{"lower": [5, 5, 5], "upper": [1, 1, 1]}]},
        {"sub_region": "et", "boxes": [{"lower": [0, 0], "upper": [1, 1]}]},
        {"sub_region": "et", "boxes": [], "typing_eror": 1},
        {},
    ],
)
def test_a_request_with_a_mistake_says_where_it_is(http_client, body):
    response = http_client.post("/v1/sessions/x/refine", json=body, headers={"Content-Type": "application/json"})
    assert "The request's body" in refusal(response, 422, "malformed")


def test_a_bug_in_the_engine_is_told_without_its_inside(start_engine, case):
    engine = start_engine("open_broken")
    session = engine.client().open(case)
    session.first_pass()
    (box,) = session.boxes()[SubRegion.NCR]
    with pytest.raises(ServiceError, match="failed unexpectedly") as caught:
        list(session.refine(SubRegion.NCR, [box.grown((0, 2, 2), session.geometry.shape)]))
    assert "secret detail" not in str(caught.value)
    assert "secret detail" in engine.log_tail()
    assert session.labels().any()


def test_another_version_is_told_who_must_update(shared_engine):
    headers = {"Authorization": f"Bearer {shared_engine.token}", PROTOCOL_HEADER: "99"}
    response = httpx.get(f"{shared_engine.url}/v1/hello", headers=headers)
    assert "install the same version on both sides" in refusal(response, 426, "version")


@pytest.fixture
def other_server():
    """A web server that is no engine of ours; answers everything with what is put into it."""
    answer = {"status": 200, "body": b"<html>router login</html>"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(answer["body"])))
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answer
    server.shutdown()
    server.server_close()


def test_connecting_to_an_engine_of_another_version_is_a_sentence(other_server):
    url, answer = other_server
    answer["body"] = json.dumps({"protocol": 7, "version": "9.9.0", "new_field": 1}).encode()
    with pytest.raises(VersionMismatchError, match=r"version 9\.9\.0 \(protocol 7\).*the engine is the newer"):
        EngineClient(url, "token")


def test_connecting_to_something_else_is_a_sentence(other_server):
    url, answer = other_server
    with pytest.raises(ServiceError, match="is not a SOFA engine"):
        EngineClient(url, "token")
    answer["status"] = 502
    with pytest.raises(ServiceError, match="answered 502"):
        EngineClient(url, "token")


def test_connecting_to_nobody_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(EngineUnreachableError, match=f"No engine answers at 127.0.0.1:{port}"):
        EngineClient(f"http://127.0.0.1:{port}", "token")


@pytest.mark.parametrize("url", ["http://gpu.clinic.example:8484", "ftp://x", "gpu:8484", ""])
def test_the_client_sends_nothing_in_the_clear_and_knows_an_address(url):
    with pytest.raises(InputError):
        EngineClient(url, "token")


def test_serving_a_network_in_the_clear_is_refused():
    with pytest.raises(InputError, match="--certfile and --keyfile, or --behind-proxy"):
        ServeConfig(host="0.0.0.0").check()
    ServeConfig(host="0.0.0.0", behind_proxy=True).check()
    ServeConfig(host="::1").check()
    with pytest.raises(InputError, match="both a certificate and its key"):
        ServeConfig(certfile="cert.pem").check()


def test_a_port_in_use_is_told_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = ServeConfig(port=server.getsockname()[1], factory="service_fakes:open_quick")
        child = subprocess.run(
            [sys.executable, "-m", "sofa_service"],
            env={**os.environ, CONFIG_VARIABLE: config.model_dump_json()},
            check=False,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
    assert child.returncode == 2
    assert f"Port {config.port} on 127.0.0.1 cannot be used" in child.stderr
    assert "Traceback" not in child.stderr


def test_an_engine_that_cannot_start_says_why(start_engine):
    began = time.monotonic()
    with pytest.raises(StartError, match="session factory service_fakes:no_such cannot be imported"):
        start_engine("no_such")
    with pytest.raises(StartError, match="cannot be started with /no/such/python"):
        start_engine(python="/no/such/python")
    assert time.monotonic() - began < 60
