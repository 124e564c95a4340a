"""Errors whose text is shown to a person as it is: one sentence, what is wrong and what to do."""

from __future__ import annotations


class SofaError(Exception):
    """Base of every error that SOFA raises on purpose. `str(error)` is one sentence for a human."""


class InputError(SofaError):
    """An image, folder or option that cannot be used."""


class WeightsError(SofaError):
    """A checkpoint that cannot be loaded, downloaded or verified."""


class OutputError(SofaError):
    """A result that cannot be written where it was asked for."""


class CancelledError(SofaError):
    """The work was cancelled by the user; nothing was changed."""

    def __init__(self, message: str = "Cancelled.") -> None:
        super().__init__(message)


class OutOfMemoryError(SofaError):
    """Not enough memory even for the smallest batch."""
