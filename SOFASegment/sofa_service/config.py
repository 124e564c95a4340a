"""How an engine process is started; the launcher hands this over as JSON, `sofa serve` fills it from its options."""

from __future__ import annotations

import importlib
import ipaddress
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from sofa_engine.api import LocalSession
from sofa_engine.case import Case
from sofa_engine.errors import InputError
from sofa_service.framing import Limits

#: Environment variable with the JSON of a `ServeConfig`; not on the command line, which every user can read.
CONFIG_VARIABLE = "SOFA_ENGINE_CONFIG"
DEFAULT_PORT = 8484


class SessionFactory(Protocol):
    """Opens a case on a device; `sofa_engine.loading.open_session` and what tests use instead."""

    def __call__(self, case: Case, *, weights: Path | None, device: str, **options: int) -> LocalSession:
        """Return a session that had no first pass yet; the one option is `feature_bytes`, where it is configured."""


class ParentProcess(BaseModel):
    """The process whose end ends this one.

    It is looked up once, when this is made: at the very start of the child. From then on psutil tells it from a later
    process of the same number. No time of day is handed over, for a clock that is set would then look like an end.
    """

    model_config = ConfigDict(frozen=True)

    pid: int
    _process: psutil.Process | None = PrivateAttr(default=None)

    def model_post_init(self, _context: object, /) -> None:
        """Look the process up."""
        with suppress(psutil.Error):
            self._process = psutil.Process(self.pid)

    @staticmethod
    def this() -> ParentProcess:
        """Return the running process."""
        return ParentProcess(pid=os.getpid())

    def alive(self) -> bool:
        """Whether that very process still runs."""
        try:
            process = self._process
            return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class ServeConfig(BaseModel):
    """Options of one engine process.

    Attributes:
        port: 0 takes any free port.
        factory: "module:function" of a `SessionFactory`.
        budget_mb: memory for open sessions; beyond it the least recently used are spilled. None: half of the machine's
            memory, or of the device's.
        feature_mb: memory for one case's features, beyond it they go to a temporary file. None: by the device's memory.
        share: number of engines that share this machine's memory.
        max_spilled: spilled sessions kept; beyond it the least recently used are evicted.
        idle_minutes: sessions unused for so long are evicted; 0 never.
        key_prefix: begins every session's id; tells the front which of its workers holds it.
        ready_file: written when the engine listens: JSON with url, token and pid, readable by its user alone.
        parent: when it ends, so does the engine.
        workers: engine processes behind one address, one per device.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str = Field(default_factory=lambda: secrets.token_urlsafe(32), min_length=16, repr=False)
    certfile: Path | None = None
    keyfile: Path | None = None
    behind_proxy: bool = False
    factory: str = "sofa_engine.loading:open_session"
    weights: Path | None = None
    device: str = "auto"
    budget_mb: int | None = None
    feature_mb: int | None = Field(default=None, ge=0)
    share: int = Field(default=1, ge=1)
    max_spilled: int = 32
    idle_minutes: float = 0.0
    message_mb: int = 512
    raw_mb: int = 2048
    key_prefix: str = ""
    ready_file: Path | None = None
    parent: ParentProcess | None = None
    workers: int = Field(default=1, ge=1, le=64)

    @property
    def limits(self) -> Limits:
        """Return what uploads are held to."""
        return Limits(message_bytes=self.message_mb << 20, raw_bytes=self.raw_mb << 20)

    @property
    def scheme(self) -> str:
        """Return "https" where a certificate is given."""
        return "https" if self.certfile else "http"

    def check(self) -> None:
        """Refuse to offer patients' images in the clear.

        Raises:
            InputError: neither loopback nor TLS nor a proxy, or half a certificate.
        """
        if (self.certfile is None) != (self.keyfile is None):
            raise InputError("TLS needs both a certificate and its key: give --certfile and --keyfile.")
        for path in (self.certfile, self.keyfile):
            if path is not None and not path.is_file():
                raise InputError(f"The TLS file {path} does not exist; check --certfile and --keyfile.")
        if not (is_loopback(self.host) or self.certfile or self.behind_proxy):
            raise InputError(
                f"Serving on {self.host} without encryption would show patients' images to the network: give "
                "--certfile and --keyfile, or --behind-proxy if a proxy in front does TLS."
            )

    def load_factory(self) -> Callable[[Case], LocalSession]:
        """Import the session factory and bind weights and device to it.

        Raises:
            InputError: there is no such function.
        """
        module, _, name = self.factory.partition(":")
        try:
            factory: SessionFactory = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as exc:
            raise InputError(f"The session factory {self.factory} cannot be imported: {exc}.") from exc
        options = {} if self.feature_mb is None else {"feature_bytes": self.feature_mb << 20}
        return lambda case: factory(case, weights=self.weights, device=self.device, **options)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
