"""Telling whoever listens that something changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """A list of functions that are called in turn; Qt's own signals cannot be made from Python in Slicer."""

    def __init__(self) -> None:
        self._listeners: list[Callable[..., Any]] = []

    def connect(self, listener: Callable[..., Any]) -> None:
        """Call `listener` from now on; a second time changes nothing."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def disconnect(self, listener: Callable[..., Any]) -> None:
        """Stop calling `listener`; harmless if it was never connected."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def emit(self, *arguments: Any) -> None:
        """Call every listener that was connected when this began."""
        for listener in tuple(self._listeners):
            listener(*arguments)
