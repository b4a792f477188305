"""The web application: which address shows which page, whole or live, and the one thing that can be done here.

Knows HTTP and templates; what is on a page is views.py's, who may see it guard.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jinja2
from aiokafka.errors import KafkaError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ops.dashboard.follow import Follower
from ops.dashboard.guard import COOKIE, Guard, from_here, is_token
from ops.dashboard.live import Crowded, Live
from ops.dashboard.lookup import User, look_up
from ops.dashboard.seen import Seen
from ops.dashboard.views import Views
from ops.errors import CliError
from ops.health.processes import Processes
from ops.health.saying import duration
from streams.blame import told
from streams.cluster import Cluster
from streams.contracts import MAX_ID_BYTES
from streams.names import Topics

HERE = Path(__file__).parent
PAGES = {
    "overview": "Overview",
    "user": "User",
    "item": "Item",
    "propensity": "Propensity",
    "fairness": "Fairness",
    "index": "Index",
    "models": "Models",
    "events": "Events",
}
MAX_FORM_BYTES = 4096
LOOKUPS = 2
LOOKUPS_KEPT = 32
LOOKUP_S = 4.0


class Dashboard:
    """What all requests share. `cluster` None: no topics are followed."""

    def __init__(
        self,
        cluster: Cluster | None,
        topics: Topics,
        app_id: str,
        endpoints: tuple[str, ...] = (),
        token: str | None = None,
    ) -> None:
        self.cluster, self.topics, self.app_id, self.token = cluster, topics, app_id, token
        self.seen = Seen()
        self.processes = Processes(endpoints)
        self.views = Views(self.seen, self.processes)
        self.live = Live()
        self._found: OrderedDict[str, tuple[float, User | str]] = OrderedDict()
        self._looking = asyncio.Semaphore(LOOKUPS)
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
        )
        self._environment.filters["age"] = _age
        self._environment.globals["parts"] = self._environment.get_template("parts.html").module

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/", lambda request: RedirectResponse("/overview")),
            Route("/health", lambda request: JSONResponse({"alive": True})),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/events/replay", self._replay, methods=["POST"]),
            Route("/live/{page}", self._stream),
            Mount("/static", StaticFiles(directory=HERE / "static")),
            Route("/{page}", self._page),
        ]
        return Starlette(routes=routes, middleware=[Middleware(Guard, token=self.token)], lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.processes.run(), name="processes")]
        if self.cluster is not None:
            tasks.append(asyncio.create_task(Follower(self.cluster, self.topics, self.seen).run(), name="topics"))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- pages -------------------------------------------------------------------------------------

    async def _page(self, request: Request) -> Response:
        page = request.path_params["page"]
        if page not in PAGES:
            return self._html("missing.html", {"page": "", "asked": page[:80]}, 404)
        content = await self._content(page, request.query_params.get("id", "").strip())
        return self._html(f"{page}.html", content, 400 if content.get("refused") else 200)

    async def _stream(self, request: Request) -> Response:
        page, asked = request.path_params["page"], request.query_params.get("id", "").strip()
        if page not in PAGES:
            return PlainTextResponse("There is no such page.", 404)

        async def make() -> dict[str, Any]:
            content = await self._content(page, asked)
            template = self._environment.get_template(f"{page}.html")
            context = template.new_context(self._context(content))
            return {"html": "".join(template.blocks["live"](context)), "charts": content.get("charts", {})}

        try:
            events = self.live.watch(f"{page} {asked[:MAX_ID_BYTES]}", make)
        except Crowded:
            return PlainTextResponse("Too many viewers: close a page elsewhere.", 503)
        return StreamingResponse(events, media_type="text/event-stream")

    async def _content(self, page: str, asked: str) -> dict[str, Any]:
        """What the page shows; `refused` and `problem` are sentences."""
        content: dict[str, Any] = {"page": page, "id": asked, "refused": "", "problem": "", "found": None, "charts": {}}
        if page not in ("user", "item"):
            return content | self.views.pages[page]()
        if len(asked.encode(errors="replace")) > MAX_ID_BYTES:
            return content | {"id": "", "refused": f"An id has at most {MAX_ID_BYTES} bytes of UTF-8."}
        if not asked:
            return content
        if page == "item":
            found = self.views.item(asked)
        else:
            user = await self._user(asked)
            if isinstance(user, str):
                return content | {"problem": user}
            found = self.views.user(user)
        return content | {"found": found, "charts": found["charts"]}

    async def _user(self, user: str) -> User | str:
        """What was found of a user, or why nothing could be."""
        if self.cluster is None:
            return "No cluster is followed."
        now = asyncio.get_running_loop().time()
        known = self._found.get(user)
        if known is not None and now - known[0] < LOOKUP_S:
            return known[1]
        before = known[1] if known is not None and isinstance(known[1], User) else None
        async with self._looking:
            try:
                found: User | str = await look_up(self.cluster, self.topics, user, before)
            except (KafkaError, OSError, TimeoutError) as error:
                found = f"The topics cannot be read: {told(error)}."
        self._found[user] = (asyncio.get_running_loop().time(), found)
        self._found.move_to_end(user)
        while len(self._found) > LOOKUPS_KEPT:
            self._found.popitem(last=False)
        return found

    # -- what is done ------------------------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        if request.method == "GET" or self.token is None:
            return self._html("login.html", {"page": "", "wrong": False})
        if not from_here(request):
            return PlainTextResponse("This was not sent by this page.", 403)
        given = (await _form(request)).get("token", "")
        if not is_token(self.token, given):
            await asyncio.sleep(0.5)
            return self._html("login.html", {"page": "", "wrong": True}, 401)
        answer = RedirectResponse("/overview", 303)
        answer.set_cookie(COOKIE, given, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return answer

    async def _replay(self, request: Request) -> Response:
        """Send dead letters of one reason again, after a confirmation that says how many."""
        if self.cluster is None or not from_here(request):
            return PlainTextResponse("This was not sent by this page.", 403)
        form = await _form(request)
        try:
            told_of = await self._replayed(form.get("of", ""), form.get("reason", ""), form.get("confirm") == "yes")
        except (CliError, KafkaError, OSError, TimeoutError) as error:
            problem = error.problem if isinstance(error, CliError) else told(error)
            return self._html("replayed.html", {"page": "events", "problem": problem, "count": 0, "done": None}, 409)
        return self._html("replayed.html", {"page": "events", "problem": ""} | told_of)

    async def _replayed(self, of: str, reason: str, confirmed: bool) -> dict[str, Any]:
        from ops.deadletters.letters import Filter
        from ops.deadletters.mailbox import Mailbox
        from ops.deadletters.plan import of_events, of_items, plan
        from ops.deadletters.replay import execute
        from streams.deadletters import REASONS

        if reason not in REASONS or of not in ("events", "items") or self.cluster is None:
            raise CliError(f"there are no letters of {of[:40]!r} with reason {reason[:40]!r}")
        replay = (of_items if of == "items" else of_events)(self.app_id, self.topics, Filter(reason=reason))
        async with Mailbox(self.cluster, replay.letters) as box:
            made = await plan(replay, box)
            done = await execute(replay, box, made) if confirmed and made.count else None
        return {
            "of": of,
            "reason": reason,
            "count": made.count,
            "left_out": sorted(made.left_out.items()),
            "done": done,
        }

    # -- markup ------------------------------------------------------------------------------------

    def _html(self, template: str, content: dict[str, Any], status: int = 200) -> HTMLResponse:
        return HTMLResponse(self._environment.get_template(template).render(self._context(content)), status)

    def _context(self, content: dict[str, Any]) -> dict[str, Any]:
        from streams.deadletters import REASONS

        return {"pages": PAGES, "with_token": self.token is not None, "reasons": REASONS} | content


def _age(value: float | None) -> str:
    """An age in words."""
    return "age not known" if value is None else f"{duration(value)} ago"


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, of which there are few and short ones: what is longer than they can be is left unread."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            return {}
    return dict(parse_qsl(body.decode(errors="replace"), max_num_fields=10)) if body.count(b"&") < 10 else {}
