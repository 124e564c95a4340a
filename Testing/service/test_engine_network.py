"""What lies between a face and an engine on another machine: a proxy that holds back, and TLS."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import pytest

from service_tools import drag, environment, until
from sofa_engine.errors import InputError
from sofa_service.client import EngineClient
from sofa_service.config import CONFIG_VARIABLE, ServeConfig
from sofa_service.errors import ServiceError


class BufferingProxy:
    """Holds every answer back until it is complete, as nginx does by default."""

    def __init__(self, target):
        self._target = (target.hostname, target.port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        """One request for each connection: HTTP/1.0 semantics are enough for a proxy that is slow."""
        with client, client.makefile("rb") as incoming, socket.create_connection(self._target) as upstream:
            head, length = b"", 0
            while (line := incoming.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                if not line.lower().startswith(b"connection:"):
                    head += line
            if not head:
                return
            upstream.sendall(head + b"Connection: close\r\n\r\n" + incoming.read(length))
            answer = b""
            while data := upstream.recv(65536):
                answer += data
            client.sendall(answer)

    def close(self):
        self._server.close()


def test_behind_a_proxy_that_buffers_everything_works_and_the_user_is_told_why_it_is_late(start_engine, case):
    engine = start_engine()
    proxy = BufferingProxy(urlsplit(engine.url))
    try:
        with EngineClient(proxy.url, engine.token) as client:
            session = client.open(case)
            session.first_pass()
            patches = drag(session)
            assert patches
            assert any("proxy_buffering off" in sentence for sentence in session.warnings)
            with EngineClient(engine.url, engine.token) as direct:
                assert direct.warning is None
    finally:
        proxy.close()


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program, which makes the test's certificate, is not on this machine")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout {key} -out {cert}".split(),
        check=True,
        capture_output=True,
    )
    return cert, key


def test_over_tls_the_engine_answers_those_who_trust_its_certificate(certificate, case, start_engine, monkeypatch):
    cert, key = certificate
    plain = start_engine()
    ready = cert.with_name("ready.json")
    config = ServeConfig(port=0, certfile=cert, keyfile=key, factory="service_fakes:open_quick", ready_file=ready)
    child = subprocess.Popen(
        [sys.executable, "-m", "sofa_service"],
        env=environment(**{CONFIG_VARIABLE: config.model_dump_json()}),
    )
    try:
        until(ready.exists)
        url = json.loads(ready.read_text(encoding="utf-8"))["url"]
        assert url.startswith("https://")
        with EngineClient(url, config.token, ca_file=str(cert)) as client:
            session = client.open(case)
            session.first_pass()
            assert session.labels().any()
        with pytest.raises(ServiceError, match=r"certificate of .* is not trusted .* SOFA_CA"):
            EngineClient(url, config.token)
        with pytest.raises(InputError, match=r"nowhere\.pem cannot be read: No such file"):
            EngineClient(url, config.token, ca_file="nowhere.pem")
        monkeypatch.setenv("SOFA_CA", str(cert))
        with EngineClient(url, config.token) as client:
            assert client.status().sessions
        with pytest.raises(ServiceError):
            EngineClient(plain.url.replace("http:", "https:"), plain.token)
    finally:
        child.terminate()
        child.wait()
