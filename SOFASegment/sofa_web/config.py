"""How the gateway and its visitors are started."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sofa_engine.errors import InputError
from sofa_service.config import ParentProcess, ServeConfig, is_loopback

#: Environment variable with the JSON of a `VisitorConfig`; not on the command line, which every user can read.
VISITOR_VARIABLE = "SOFA_VISITOR_CONFIG"
#: Header by which a visitor's process knows that a request comes from its gateway.
SECRET_HEADER = "X-SOFA-Visitor"
DEFAULT_PORT = 8080


class ViewConfig(BaseModel):
    """Options of `sofa view`.

    Attributes:
        port: 0 takes any free port.
        token: what lets a browser in; part of the address that is printed.
        behind_proxy: whether a proxy in front does TLS.
        public_url: address by which browsers reach this server where it is another than its own, such as a proxy's.
        prefix: path under which a proxy passes requests on unchanged, such as "/sofa".
        case: folder that every new visitor sees first.
        folder: where visitors may open cases from; None lets them reach `case` alone.
        factory: see `sofa_service.config.ServeConfig`.
        engine_url: an engine that runs already, instead of one of one's own; with `engine_token`.
        idle_minutes: visitors who did nothing for so long are ended; 0 never.
        away_minutes: visitors whose page has been closed for so long lose their place to somebody who needs it.
        max_visitors: scenes that may be open at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str = Field(default_factory=lambda: secrets.token_urlsafe(24), min_length=16, repr=False)
    certfile: Path | None = None
    keyfile: Path | None = None
    behind_proxy: bool = False
    public_url: str = ""
    prefix: str = ""
    case: Path | None = None
    folder: Path | None = None
    device: str = "auto"
    weights: Path | None = None
    factory: str | None = None
    engine_url: str | None = None
    engine_token: str = Field(default="", repr=False)
    idle_minutes: float = Field(default=60.0, ge=0)
    away_minutes: float = Field(default=5.0, ge=0)
    max_visitors: int = Field(default=8, ge=1)

    @field_validator("prefix")
    @classmethod
    def _slashes(cls, prefix: str) -> str:
        return "/" + prefix.strip("/") if prefix.strip("/") else ""

    @property
    def scheme(self) -> str:
        """Return "https" where a certificate is given."""
        return "https" if self.certfile else "http"

    def check(self) -> None:
        """Refuse what cannot work or would show patients' images to the network.

        Raises:
            InputError: no encryption off loopback, half a certificate, a folder that is not there, a public address
                that is none, or options of an engine of one's own beside another's.
        """
        ServeConfig(
            host=self.host, certfile=self.certfile, keyfile=self.keyfile, behind_proxy=self.behind_proxy
        ).check()
        for path in (self.case, self.folder):
            if path is not None and not path.is_dir():
                raise InputError(f"{path} is not a folder; check its name.")
        public = urlsplit(self.public_url)
        if self.public_url and (public.scheme not in {"http", "https"} or not public.netloc or public.query):
            raise InputError(f"{self.public_url} is no address of a page; give one such as https://mri.example/sofa.")
        if self.engine_url is not None and (self.weights is not None or self.device != "auto"):
            raise InputError("The engine at --engine has its own weights and device; leave --weights and --device out.")

    def address(self, port: int) -> str:
        """Return the address to open in a browser, token included."""
        base = self.public_url.rstrip("/") or f"{self.scheme}://{_reachable(self.host)}:{port}{self.prefix}"
        return f"{base}/?token={self.token}"


def _reachable(host: str) -> str:
    """Return what stands in an address for the host that is listened on: all interfaces are no place to go to."""
    if is_loopback(host):
        return "localhost"
    try:
        parsed = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host
    if parsed.is_unspecified:
        return _own_address()
    return f"[{parsed}]" if parsed.version == 6 else str(parsed)


def _own_address() -> str:
    """Return this machine's address in its network, or its name where it has none."""
    # Connecting a datagram socket sends nothing; it only asks which way the machine would take.
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return socket.gethostname()


class VisitorConfig(BaseModel):
    """Options of one visitor's process.

    Attributes:
        secret: what every request to the process must carry.
        scratch: folder of the visitor's own, for uploads and exports; the gateway removes it.
        ready_file: written when the process listens: its port.
        engine_file: see `sofa_web.engine_host`.
        parent: when it ends, so does the visitor.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret: str = Field(repr=False)
    scratch: Path
    ready_file: Path
    engine_file: Path
    parent: ParentProcess
    case: Path | None = None
    folder: Path | None = None
