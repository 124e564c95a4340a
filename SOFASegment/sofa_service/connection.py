"""HTTP to an engine: token, version handshake, time-outs, errors as exceptions, frames of a stream."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from pydantic import ValidationError

from sofa_engine import __version__
from sofa_engine.errors import CancelledError, InputError
from sofa_engine.progress import CancelToken
from sofa_service.config import is_loopback
from sofa_service.errors import EngineLostError, EngineUnreachableError, ServiceError, VersionMismatchError
from sofa_service.framing import FrameReader, Limits, Packet, decode
from sofa_service.protocol import (
    HEARTBEAT_S,
    MESSAGE_TYPE,
    PROTOCOL_HEADER,
    PROTOCOL_VERSION,
    ErrorMessage,
    Frame,
    FrameKind,
    Hello,
    version_sentence,
)

#: Quick verbs wait for the worker, and perhaps for their spilled session to wake.
_CALL_TIMEOUT = httpx.Timeout(10.0, read=600.0, write=120.0)
#: A stream shows signs of life every `HEARTBEAT_S`; so long without one and the engine hangs.
_STREAM_TIMEOUT = httpx.Timeout(10.0, read=30.0, write=120.0)
#: Behind a proxy that holds the stream back until its end there are no signs of life.
_BUFFERED_TIMEOUT = httpx.Timeout(10.0, read=1800.0, write=120.0)
#: Time that a cancelled request has to end before the client stops listening.
_CANCEL_GRACE_S = 10.0
_LIMITS = Limits()
_ATTEMPTS = 3


class Reply:
    """A stream being read: iterate frames, each with its arrays; counts bytes."""

    def __init__(self, response: httpx.Response, cancel: CancelToken | None) -> None:
        self._response = response
        self._cancel = cancel
        self._deadline: float | None = None
        self._pieces = response.iter_raw()

    @property
    def sent(self) -> int:
        """Return the bytes of the request's body."""
        return int(self._response.request.headers.get("Content-Length", 0))

    @property
    def received(self) -> int:
        """Return the bytes of the answer's body so far."""
        return self._response.num_bytes_downloaded

    def drain(self) -> None:
        """Read what is left of a stream that is about to end, so that its connection can be used again."""
        with _translated():
            for _ in self._pieces:
                pass

    def drop(self) -> None:
        """Stop listening.

        Raises:
            CancelledError: always.
        """
        raise CancelledError

    def pieces(self) -> Iterator[bytes]:
        """Yield the stream as it arrives."""
        with _translated():
            yield from self._pieces

    def frames(self, on_cancel: Callable[[], None]) -> Generator[tuple[Frame, Mapping[str, np.ndarray]], None, None]:
        """Yield frames up to the last; heartbeats are swallowed.

        Args:
            on_cancel: called once when the token is found cancelled; tells the engine.

        Raises:
            SofaError: what the engine reports, or `EngineLostError` when the stream breaks off.
        """
        reader = FrameReader(_LIMITS)
        for data in self.pieces():
            for packet in reader.feed(data):
                frame = _frame(packet)
                if frame.error is not None:
                    self.drain()
                    raise frame.error.exception()
                if frame.kind is FrameKind.DONE:
                    self.drain()
                if frame.kind is not FrameKind.ALIVE:
                    yield frame, packet.arrays
                if frame.kind is FrameKind.DONE:
                    return
            self._look_at_token(on_cancel)
        raise EngineLostError("The engine ended in the middle of its answer; nothing was changed. Try again.")

    def _look_at_token(self, on_cancel: Callable[[], None]) -> None:
        if self._cancel is None or not self._cancel.cancelled:
            return
        if self._deadline is None:
            self._deadline = time.monotonic() + _CANCEL_GRACE_S
            on_cancel()
        elif time.monotonic() > self._deadline:
            raise CancelledError("Cancelled; the engine is still finishing its last batch.")


class Connection:
    """One kept-alive pool of connections to one engine. Thread-safe."""

    def __init__(self, url: str, token: str, *, ca_file: str | None = None) -> None:
        """Prepare to talk to `url`; nothing is sent yet.

        Raises:
            InputError: the address is no http(s) URL, or would send images and token in the clear, or the
                authority's certificate cannot be read.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url!r} is not the address of an engine; it looks like https://host:port.")
        self.remote = not is_loopback(parts.hostname)
        if parts.scheme == "http" and self.remote:
            raise InputError(f"{url} would send images and token unencrypted; use its https:// address.")
        self.url = url.rstrip("/")
        self._timeout = _STREAM_TIMEOUT
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}", PROTOCOL_HEADER: str(PROTOCOL_VERSION)},
            timeout=_CALL_TIMEOUT,
            verify=_trusting(ca_file) if parts.scheme == "https" else True,
            # A proxy of the environment must not stand between Slicer and its own local engine.
            trust_env=self.remote,
        )

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._http.is_closed

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def hello(self) -> Hello:
        """Shake hands.

        Raises:
            VersionMismatchError: the engine speaks another version of the protocol.
            EngineUnreachableError: nothing answers.
        """
        response = self.request("GET", "/v1/hello", repeat=True)
        try:
            hello = Hello.model_validate_json(response.content)
        except ValidationError:
            raise ServiceError(f"What answers at {self.url} is not a SOFA engine; check the address.") from None
        if hello.protocol != PROTOCOL_VERSION:
            raise VersionMismatchError(version_sentence(PROTOCOL_VERSION, hello.protocol, __version__, hello.version))
        return hello

    def check_stream(self) -> str | None:
        """Return a sentence if a proxy on the way holds streams back; from then on their time-outs are longer."""
        times = []
        with self.stream("GET", "/v1/stream-check") as reply:
            for _ in reply.pieces():
                times.append(time.perf_counter())
        if len(times) > 1 and times[-1] - times[0] > HEARTBEAT_S / 2:
            return None
        self._timeout = _BUFFERED_TIMEOUT
        return (
            "A proxy on the way holds the engine's answers back, so segments will not follow the mouse: "
            "switch its buffering off (nginx: proxy_buffering off)."
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        repeat: bool = False,
        json: Any = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a quick verb.

        Args:
            method: HTTP method.
            path: beginning with /v1.
            repeat: whether the verb may be sent again when the connection breaks.
            json: body as an object, or
            content: body as a message.
            params: query.
        """
        for attempt in range(_ATTEMPTS if repeat else 1):
            try:
                with self._open():
                    response = self._http.request(
                        method, path, json=json, content=content, params=params, headers=_content_type(content)
                    )
                break
            except EngineUnreachableError:
                raise
            except EngineLostError:
                if attempt + 1 >= (_ATTEMPTS if repeat else 1):
                    raise
                time.sleep(0.1 * 2**attempt)
        _raise_for(response)
        return response

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        cancel: CancelToken | None = None,
        json: Any = None,
        content: bytes | None = None,
    ) -> Generator[Reply, None, None]:
        """Send a verb whose answer is a stream; leaving the block before its end drops the connection."""
        with self._open():
            request = self._http.build_request(
                method, path, json=json, content=content, headers=_content_type(content), timeout=self._timeout
            )
            response = self._http.send(request, stream=True)
        try:
            if response.status_code != httpx.codes.OK:
                with _translated():
                    response.read()
                _raise_for(response)
            yield Reply(response, cancel)
        finally:
            response.close()

    @contextmanager
    def _open(self) -> Generator[None, None, None]:
        """Turn httpx's errors into sentences, and that the connection was closed before or, by another thread, now."""
        try:
            with _translated():
                yield
        except RuntimeError as exc:
            # httpx has no error of its own for a client that was closed.
            if not self.closed:
                raise
            raise EngineUnreachableError("The engine that this connection led to is gone; connect again.") from exc


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as exc:
        raise InputError(f"The certificate {ca_file} cannot be read: {exc.strerror or exc}.") from exc


def array_of(response: httpx.Response) -> np.ndarray:
    """Return the array of a binary answer."""
    return decode(response.content, _LIMITS).arrays["array"]


def packet_of(response: httpx.Response) -> Packet:
    """Return a binary answer."""
    return decode(response.content, _LIMITS)


def _content_type(content: bytes | None) -> dict[str, str]:
    return {} if content is None else {"Content-Type": MESSAGE_TYPE}


def _frame(packet: Packet) -> Frame:
    try:
        return Frame.model_validate(packet.meta)
    except ValidationError:
        raise ServiceError(
            "The engine's answer cannot be understood; install the same version on both sides."
        ) from None


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        message = ErrorMessage.model_validate_json(response.content)
    except ValidationError:
        raise ServiceError(
            f"{response.request.url.host} answered {response.status_code} {response.reason_phrase}; "
            "check the engine's address, and its proxy if there is one."
        ) from None
    raise message.exception()


@contextmanager
def _translated() -> Generator[None, None, None]:
    """Turn httpx's errors into sentences."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
        address = f"{exc.request.url.host}:{exc.request.url.port or 443}"
        if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            raise ServiceError(
                f"The certificate of {address} is not trusted on this computer: name its authority's file in the "
                "environment variable SOFA_CA and start again."
            ) from exc
        raise EngineUnreachableError(
            f"No engine answers at {address}: check that it runs and that the address is right."
        ) from exc
    except httpx.ReadTimeout as exc:
        raise EngineLostError("The engine has stopped answering; nothing was changed. Try again.") from exc
    except (httpx.TransportError, httpx.StreamError) as exc:
        raise EngineLostError(
            "The connection to the engine broke, or the engine ended, before it had answered. Try again."
        ) from exc
