"""The question that is asked before work is lost."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trame_server import Server

#: What an upload is called to the page, which keeps the files until the answer: see `assets/sofa.js`.
UPLOAD = "upload"


class QuestionLogic:
    """One question at a time; a later one takes its place."""

    def __init__(self, server: Server) -> None:
        self._state = server.state
        self._verb: Callable[[], object] = _nothing

    async def ask_before(self, loss: str, title: str, yes: str, verb: Callable[[], object]) -> None:
        """Do at once what destroys nothing; otherwise do it once the user has said yes.

        Args:
            loss: what is lost, in a sentence; empty if nothing is.
            title: the question.
            yes: what the button says that goes on.
            verb: what to do; may return an awaitable.
        """
        if not loss:
            await _do(verb)
            return
        self._show(loss, title, yes, verb)

    def may_upload(self, loss: str) -> bool:
        """Return whether an upload destroys nothing; otherwise ask, and let the page go on after a yes."""
        if loss:
            self._show(loss, "Open the files?", "Open", _nothing, about=UPLOAD)
        return not loss

    async def go_on(self) -> None:
        """Do what was asked about."""
        verb, self._verb = self._verb, _nothing
        self._state.question_open = False
        await _do(verb)

    def _show(self, loss: str, title: str, yes: str, verb: Callable[[], object], about: str = "") -> None:
        self._verb = verb
        state = self._state
        state.question, state.question_title, state.question_yes = loss, title, yes
        state.question_about = about
        state.question_open = True


def _nothing() -> None:
    pass


async def _do(verb: Callable[[], object]) -> None:
    result = verb()
    if inspect.isawaitable(result):
        await result
