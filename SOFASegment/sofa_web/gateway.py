"""The web server that browsers talk to: it checks who comes and passes each visitor on to his or her own process."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from sofa_engine.errors import SofaError
from sofa_web.config import ViewConfig
from sofa_web.pages import ended_page, error_page, token_page
from sofa_web.proxy import pass_request, pass_socket
from sofa_web.visitors import Visitor, Visitors

_PASS_COOKIE = "sofa_pass"
_VISIT_COOKIE = "sofa_visit"
#: Nothing may come from elsewhere. Vue compiles the page's templates in the browser, hence unsafe-eval.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self' ws: wss:; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """Routes: the entrance, which gives a visitor a scene, and everything below `v/<id>/`, which is that scene's."""

    def __init__(self, config: ViewConfig, visitors: Visitors) -> None:
        self._config = config
        self._visitors = visitors
        # What the cookie holds is made anew at every start, so that a cookie never outlives the server.
        self._pass = secrets.token_urlsafe(24)
        self._client: aiohttp.ClientSession | None = None

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_add_headers)
        app.cleanup_ctx.append(self._connections)
        prefix = self._config.prefix
        if prefix:
            app.router.add_get(prefix, self._add_slash)
        app.router.add_get(f"{prefix}/", self._enter)
        app.router.add_get(prefix + "/v/{visitor}/session", self._session)
        app.router.add_route("*", prefix + "/v/{visitor}/{rest:.*}", self._pass_on)
        return app

    async def _connections(self, _app: web.Application):
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as self._client:
            yield

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let through who shows the token or the cookie that the token earned, and whose page is ours."""
        origin = request.headers.get("Origin")
        if origin and origin != "null" and urlsplit(origin).netloc not in self._hosts(request):
            return error_page(403, "This request comes from another site's page and is refused.")
        if not self._passes(request):
            return token_page()
        try:
            return await handler(request)
        except SofaError as error:
            return error_page(503, str(error))

    def _passes(self, request: web.Request) -> bool:
        """Whether a request may go on.

        Raises:
            web.HTTPFound: it brought the token to another page than the entrance, which is where it counts.
        """
        prefix, given = self._config.prefix, request.query.get("token")
        if request.path == prefix:  # not yet below where the cookie is sent: all that this does is to add a slash
            return True
        knows = given is not None and hmac.compare_digest(given.encode(), self._config.token.encode())
        if request.path == f"{prefix}/" and given is not None:
            return knows
        if knows:
            # Relative, as the entrance's own answer is.
            ups = "../" * request.path.removeprefix(f"{prefix}/").count("/")
            raise web.HTTPFound(URL(ups or "./").with_query(token=given))
        shown = request.cookies.get(self._cookie(request, _PASS_COOKIE), "")
        return hmac.compare_digest(shown.encode(), self._pass.encode())

    async def _add_slash(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(URL(f"{self._config.prefix}/").with_query(request.query))

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        """Send a visitor to his or her scene, making one where there is none."""
        visitor = self._visitors.find(request.cookies.get(self._cookie(request, _VISIT_COOKIE), ""))
        if visitor is None or "new" in request.query:
            visitor = await self._visitors.admit()
        # Relative, so that it is right behind a proxy that cuts the prefix off as well.
        response = web.Response(status=302, headers={"Location": f"v/{visitor.id}/index.html"})
        for name, value in ((_PASS_COOKIE, self._pass), (_VISIT_COOKIE, visitor.id)):
            response.set_cookie(
                self._cookie(request, name),
                value,
                httponly=True,
                samesite="Lax",
                secure=self._encrypted(request),
                path=f"{self._config.prefix}/",
            )
        return response

    async def _session(self, request: web.Request) -> web.StreamResponse:
        """Tell the page whether its scene still lives; asking does not keep it alive."""
        visitor_id = request.match_info["visitor"]
        if self._visitors.find(visitor_id) is None:
            return web.json_response({"sentence": self._visitors.ending(visitor_id).value}, status=410)
        return web.json_response({"alive": True})

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        visitor_id = request.match_info["visitor"]
        visitor = self._visitors.find(visitor_id)
        if visitor is None:
            return ended_page(self._visitors.ending(visitor_id).value)
        visitor.touch()
        target = self._target(visitor, request)
        assert self._client is not None
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                with visitor.page():
                    return await pass_socket(request, self._client, target, visitor.secret, visitor.touch)
            return await pass_request(request, self._client, target, visitor.secret)
        except aiohttp.ClientError:
            return ended_page(self._visitors.ending(visitor_id).value)

    def _target(self, visitor: Visitor, request: web.Request) -> URL:
        """Return the address in the visitor's process; the path is passed on as it came, encoded."""
        begin = f"{self._config.prefix}/v/{visitor.id}"
        rest = request.rel_url.raw_path.removeprefix(begin)
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        return URL(f"http://127.0.0.1:{visitor.port}{rest}{query}", encoded=True)

    def _hosts(self, request: web.Request) -> set[str]:
        """Return what pages of ours may call this server."""
        forwarded = request.headers.get("X-Forwarded-Host") if self._config.behind_proxy else None
        known = {(forwarded or request.host).split(",")[0].strip()}
        return known | ({urlsplit(self._config.public_url).netloc} if self._config.public_url else set())

    def _encrypted(self, request: web.Request) -> bool:
        return request.secure or (
            self._config.behind_proxy and request.headers.get("X-Forwarded-Proto", "").startswith("https")
        )

    def _cookie(self, request: web.Request, name: str) -> str:
        """Return a cookie's name on this server.

        Browsers send a host's cookies to all of its ports, and a proxy may put several machines under one host: with
        one name, each server would overwrite what lets the browser into the others. The name stays the same when the
        server is started again, so that no cookies pile up.
        """
        assert request.transport is not None
        port = request.transport.get_extra_info("sockname")[1]
        here = f"{socket.gethostname()}:{port}{self._config.prefix}"
        return f"{name}_{hashlib.sha256(here.encode()).hexdigest()[:8]}"


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
