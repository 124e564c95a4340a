"""Errors of the way between a face and its engine; the text is one sentence for a person."""

from __future__ import annotations

from sofa_engine.errors import SofaError


class ServiceError(SofaError):
    """The engine refused a request or could not be used."""


class EngineLostError(ServiceError):
    """The engine died, or the connection to it broke, while it was answering; nothing was changed."""


class EngineUnreachableError(EngineLostError):
    """Nothing answers at the engine's address; the request never reached it."""


class SessionGoneError(ServiceError):
    """The engine no longer holds this session (evicted, timed out or restarted)."""


class UnauthorizedError(ServiceError):
    """The token is missing or wrong."""


class VersionMismatchError(ServiceError):
    """Client and engine speak different versions of the protocol."""


class MessageError(ServiceError):
    """A message that is malformed or declares more than its limits allow."""


class TooLargeError(MessageError):
    """A message or case beyond the engine's limits."""


class BusyError(ServiceError):
    """The engine has no room right now."""


class StartError(ServiceError):
    """A local engine that did not start."""
