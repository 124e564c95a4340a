"""The page at /docs: the OpenAPI description as plain HTML, because FastAPI's own page loads its scripts elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "code{font-size:1.05em}section{border-top:1px solid #8886;padding:.6rem 0}pre{white-space:pre-wrap;font:inherit}"
)


def add_api_page(app: FastAPI) -> None:
    """Serve the page; build the application with `docs_url=None`."""

    @app.get("/docs", include_in_schema=False)
    def api_page() -> HTMLResponse:
        return HTMLResponse(_render(app.openapi()))


def _render(description: dict[str, Any]) -> str:
    info = description["info"]
    parts = [f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))}</p>"]
    parts.append('<p>For programs: <a href="openapi.json">openapi.json</a></p>')
    for path, verbs in description["paths"].items():
        for verb, operation in verbs.items():
            parts.append(
                f"<section><h2><code>{verb.upper()} {escape(path)}</code></h2>"
                f"<p>{escape(operation.get('summary', ''))}</p>"
                f"<pre>{escape(operation.get('description', ''))}</pre>"
                f"<p>Answers: {', '.join(_answer(code, a) for code, a in operation['responses'].items())}</p></section>"
            )
    body = "".join(parts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style><body>{body}</body></html>"
    )


def _answer(code: str, response: dict[str, Any]) -> str:
    return f"{escape(code)} {escape(response.get('description', ''))}".strip()
