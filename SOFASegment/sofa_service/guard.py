"""What every request passes before anything of it is read: token, protocol version, size."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sofa_engine import __version__
from sofa_engine.errors import SofaError
from sofa_service.errors import TooLargeError, UnauthorizedError, VersionMismatchError
from sofa_service.protocol import (
    MESSAGE_TYPE,
    PROTOCOL_HEADER,
    PROTOCOL_VERSION,
    ErrorCode,
    ErrorMessage,
    version_sentence,
)

_JSON_BYTES = 1 << 20
#: Documentation only; nothing of a patient, nothing that computes.
_OPEN_PATHS = frozenset({"/docs", "/openapi.json"})


def error_response(error: SofaError) -> JSONResponse:
    """Answer with an error's status, code and sentence."""
    code = ErrorCode.of(error)
    headers = {"WWW-Authenticate": "Bearer"} if code is ErrorCode.UNAUTHORIZED else None
    body = ErrorMessage(code=code, sentence=str(error)).model_dump(mode="json")
    return JSONResponse(body, code.status, headers)


class Guard:
    """ASGI middleware; pure, because Starlette's BaseHTTPMiddleware hides a client's disappearance from a stream."""

    def __init__(self, app: ASGIApp, token: str, message_bytes: int) -> None:
        self._app = app
        self._token = token.encode()
        self._message_bytes = message_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http" or scope["path"] in _OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._message_bytes if headers.get("content-type") == MESSAGE_TYPE else _JSON_BYTES
        started = False

        async def counted_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            self._check_token(headers)
            self._check_version(headers)
            declared = headers.get("content-length", "0")
            if not declared.isdigit() or int(declared) > limit:
                raise _too_large(limit)
            await self._app(scope, _counted(receive, limit), counted_send)
        except SofaError as error:
            if started:
                raise
            await error_response(error)(scope, receive, send)

    def _check_token(self, headers: Headers) -> None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Constant time, and bytes: compare_digest refuses non-ASCII text.
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            raise UnauthorizedError("The engine's token is missing or wrong: give the one that `sofa serve` printed.")

    @staticmethod
    def _check_version(headers: Headers) -> None:
        theirs = headers.get(PROTOCOL_HEADER, str(PROTOCOL_VERSION))
        if theirs != str(PROTOCOL_VERSION):
            number = int(theirs) if theirs.isdigit() else 0
            raise VersionMismatchError(version_sentence(number, PROTOCOL_VERSION, "of another build", __version__))


def _counted(receive: Receive, limit: int) -> Receive:
    """Count a body that declares no length while it arrives."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_large(limit)
        return message

    return counted


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"The request is larger than the {limit / 2**20:.0f} MiB that the engine accepts.")
