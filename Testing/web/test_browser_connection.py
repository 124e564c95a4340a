"""The server does not answer for a while, or no longer knows the browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from web_tools import Server, until
from web_visit import Visit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guest(browser: Any, start_server: Callable[..., Server]) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    sockets: list[Any] = []

    def join(socket: Any) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    context.route_web_socket("**/ws*", join)
    guest = Visit(context.new_page(), start_server())
    guest.sockets = sockets
    guest.await_case()
    yield guest
    assert guest.errors == []
    context.close()


@pytest.fixture
def answers(guest: Visit) -> Iterator[list[int]]:
    """How the server answers the page's question whether all is well, in this order; 200 once they are used up."""
    answers: list[int] = []

    def answer(route: Any) -> None:
        status = answers.pop(0) if answers else 200
        if status == 200:
            route.continue_()
        elif status == 0:
            route.abort()
        else:
            route.fulfill(status=status, body="<html>no JSON</html>")

    guest.page.route("**/session", answer)
    yield answers
    guest.page.unroute("**/session")


@pytest.mark.parametrize("fault", [502, 0])
def test_a_server_that_answers_again_soon_is_not_even_noticed(guest, answers, fault):
    answers += [fault, fault, 200]
    until(lambda: guest.page.wait_for_timeout(100) or not answers)
    guest.page.wait_for_timeout(500)
    assert guest.page.get_by_role("alertdialog").count() == 0


@pytest.mark.parametrize(("fault", "sentence"), [(502, "is lost"), (0, "is lost"), (401, "sofa view")])
def test_a_server_that_stays_away_is_told_and_the_page_goes_on_by_itself_when_it_is_back(
    guest, answers, fault, sentence
):
    answers += 1000 * [fault]
    dialog = guest.page.get_by_role("alertdialog")
    dialog.wait_for()
    assert sentence in dialog.inner_text()
    answers.clear()
    dialog.wait_for(state="detached")
    guest.page.wait_for_selector("[data-test=segment]")
    guest.await_case()


def test_a_page_whose_own_connection_broke_while_the_server_answers_goes_on_by_itself(guest):
    before = len(guest.sockets)
    assert before
    guest.sockets[-1].close()
    until(lambda: guest.page.wait_for_timeout(100) or len(guest.sockets) > before)
    guest.page.wait_for_selector("[data-test=segment]")
    guest.await_case()
    guest.errors.clear()  # trame itself throws what a connection that broke leaves unanswered
