"""The few pages that the gateway itself shows; everything else comes from the visitor's process."""

from __future__ import annotations

from html import escape

from aiohttp import web

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>SOFA</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; margin: 0 1rem }}
main {{ max-width: 34rem }}
h1 {{ font-size: 1.3rem }}
input, button, a.button {{ font: inherit; padding: .45rem .9rem }}
a.button {{ display: inline-block; border: 1px solid; border-radius: .3rem; text-decoration: none }}
</style></head><body><main><h1>SOFA</h1><p role="alert">{sentence}</p>{more}</main></body></html>"""

_TOKEN_FORM = """<form><label>Token <input name="token" type="password" autocomplete="off" autofocus></label>
<button>Open</button></form>"""


def token_page() -> web.Response:
    """Ask for the token."""
    return _page(
        401, "This address needs a token: open the link that “sofa view” printed, or enter it here.", _TOKEN_FORM
    )


def ended_page(sentence: str) -> web.Response:
    """Say that a session is no more, and offer a new one."""
    # From .../v/ID/index.html, two up is where the gateway begins.
    return _page(410, sentence, '<p><a class="button" href="../../">Start a new session</a></p>')


def error_page(status: int, sentence: str) -> web.Response:
    """Say what is wrong."""
    return _page(status, sentence, "")


def _page(status: int, sentence: str, more: str) -> web.Response:
    text = _PAGE.format(sentence=escape(sentence), more=more)
    return web.Response(status=status, text=text, content_type="text/html", headers={"Cache-Control": "no-store"})
