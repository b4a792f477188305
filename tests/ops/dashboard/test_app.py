"""Who may see the dashboard, that nothing shown is markup, that it holds with many viewers and odd requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import httpx
import pytest

from ops.commands.dashboard import is_loopback, token
from ops.dashboard.app import PAGES, Dashboard
from ops.dashboard.live import MOST_PAGES, MOST_VIEWERS, Crowded, Live
from ops.errors import CliError
from ops.health.processes import endpoints
from ops.settings import Settings
from tests.ops.dashboard import hostile

TOKEN = "a token of sixteen bytes"


def client(dashboard: Dashboard, base: str = "http://127.0.0.1:8085") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=dashboard.app()), base_url=base)


class Markup(HTMLParser):
    """The tags and attributes of a page that could do something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    @property
    def harmful(self) -> list[object]:
        allowed = ("/static/uplot.js", "/static/app.js")
        return [
            (tag, attributes)
            for tag, attributes in self.found
            if tag in ("img", "iframe", "object", "embed", "base")
            or (
                tag == "script"
                and attributes.get("src") not in allowed
                and attributes.get("type") != "application/json"
            )
            or any(name.startswith("on") or name == "style" for name in attributes)
            or any((attributes.get(name) or "").startswith("javascript:") for name in ("href", "action", "src"))
        ]


ASKED = {"user": hostile.ATTACKS["user"], "item": hostile.ATTACKS["item"]}


async def found(user: str) -> object:
    return hostile.user()


async def pages(dashboard: Dashboard) -> AsyncIterator[tuple[str, httpx.Response]]:
    dashboard._user = found  # type: ignore[method-assign, assignment]
    async with client(dashboard) as browser:
        for page in PAGES:
            yield page, await browser.get(f"/{page}", params={"id": ASKED.get(page, "")})


async def test_whatever_ids_titles_categories_and_letters_hold_is_shown_as_text() -> None:
    dashboard = hostile.dashboard()
    hostile.fill(dashboard)
    whole = ""
    async for page, answer in pages(dashboard):
        assert answer.status_code == 200, page
        assert Markup(answer.text).harmful == [], page
        assert "built-in method" not in answer.text, page  # a name of a field that dicts have, too
        whole += answer.text
    for name in ("user", "item", "title", "category", "message"):
        escaped = hostile.ATTACKS[name].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        escaped = escaped.replace('"', "&#34;").replace("'", "&#39;")
        assert escaped[:60] in whole, name  # it was shown, so it was tried


async def test_the_live_stream_escapes_as_the_page_does() -> None:
    dashboard = hostile.dashboard()
    hostile.fill(dashboard)
    dashboard._user = found  # type: ignore[method-assign, assignment]
    for page in PAGES:
        content = await dashboard._content(page, ASKED.get(page, ""))
        template = dashboard._environment.get_template(f"{page}.html")
        live = "".join(template.blocks["live"](template.new_context(dashboard._context(content))))
        assert Markup(live).harmful == []


@pytest.mark.parametrize("page", PAGES)
async def test_an_empty_dashboard_says_what_is_not_known_and_draws_no_noughts(page: str) -> None:
    async with client(hostile.dashboard(endpoints=())) as browser:
        text = (await browser.get(f"/{page}")).text
    assert '<dd class="value">0' not in text
    assert "not known" in text or "empty" in text


async def test_every_answer_forbids_inline_scripts_framing_and_other_origins() -> None:
    async with client(hostile.dashboard()) as browser:
        for path in ("/overview", "/static/app.js", "/nothing", "/login", "/health"):
            headers = (await browser.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy and headers["x-content-type-options"] == "nosniff"


async def test_a_page_of_another_origin_cannot_reach_it_by_a_name_of_its_own() -> None:
    async with client(hostile.dashboard(), "http://evil.example") as browser:
        assert (await browser.get("/overview")).status_code == 403
    async with client(hostile.dashboard()) as browser:
        for origin in ({}, {"origin": "http://evil.example"}):
            answer = await browser.post("/events/replay", data={"of": "events", "reason": "schema"}, headers=origin)
            assert answer.status_code == 403


async def test_with_a_token_nothing_is_seen_without_it() -> None:
    here = {"origin": "http://board.example"}
    async with client(hostile.dashboard(TOKEN), "http://board.example") as browser:
        for path in (*(f"/{page}" for page in PAGES), "/live/overview", "/"):
            answer = await browser.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert (await browser.get("/health")).status_code == 200
        assert (await browser.post("/login", data={"token": "wrong"}, headers=here)).status_code == 401
        assert (await browser.get("/overview")).status_code == 303
        assert (await browser.post("/login", data={"token": TOKEN})).status_code == 403  # from nowhere
        answer = await browser.post("/login", data={"token": TOKEN}, headers=here)
        assert answer.status_code == 303
        assert (
            "httponly" in answer.headers["set-cookie"].lower()
            and "samesite=strict" in answer.headers["set-cookie"].lower()
        )
        assert (await browser.get("/overview")).status_code == 200
    async with client(hostile.dashboard(TOKEN), "http://board.example") as other:
        assert (await other.get("/overview", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200
        assert (await other.get("/overview", headers={"authorization": "Bearer x"})).status_code == 303


@pytest.mark.parametrize("asked", ["x" * 257, "é" * 129, "x" * 1500])
async def test_an_oversize_id_is_refused_in_words(asked: str) -> None:
    async with client(hostile.dashboard()) as browser:
        answer = await browser.get("/user", params={"id": asked})
    assert answer.status_code in (400, 414)
    assert "at most 256 bytes" in answer.text or "too long" in answer.text


async def test_an_endless_address_is_refused() -> None:
    async with client(hostile.dashboard()) as browser:
        assert (await browser.get("/user", params={"id": "x" * 60_000})).status_code == 414


async def test_a_hundred_viewers_cost_what_one_does() -> None:
    live, made = Live(tick=0.05), 0

    async def make() -> dict[str, object]:
        nonlocal made
        made += 1
        return {"html": str(made), "charts": {}}

    async def view() -> list[int]:
        seen: list[int] = []
        events = live.watch("overview", make)
        async for event in events:
            if event.startswith("data: "):
                seen.append(int(json.loads(event[6:])["html"]))
            if len(seen) == 5:
                await events.aclose()  # type: ignore[attr-defined]
        return seen

    found = await asyncio.gather(*(view() for _ in range(100)))
    assert all(len(seen) == 5 and seen == sorted(set(seen)) for seen in found)
    assert made < 50
    assert live.viewers == 0


async def test_viewers_and_pages_at_a_time_are_bounded() -> None:
    live = Live(tick=0.01)

    async def make() -> dict[str, object]:
        return {}

    watched = [live.watch(f"user {number}", make) for number in range(MOST_VIEWERS)]
    with pytest.raises(Crowded):
        live.watch("one more", make)
    for events in watched:
        await anext(events)
        await anext(events)
    assert len(live._made) <= MOST_PAGES
    for events in watched:
        await events.aclose()  # type: ignore[attr-defined]
    assert live.viewers == 0


def test_beyond_loopback_there_must_be_a_token() -> None:
    assert token(Settings(dashboard_host="127.0.0.1")) is None
    assert token(Settings(dashboard_host="0.0.0.0", dashboard_token=TOKEN)) == TOKEN
    for host in ("0.0.0.0", "::", "board.example"):
        with pytest.raises(CliError, match="there is no token"):
            token(Settings(dashboard_host=host))
    assert [is_loopback(host) for host in ("localhost", "127.9.9.9", "::1", "10.0.0.1", "x")] == [True] * 3 + [
        False
    ] * 2


def test_endpoints_are_hosts_with_ports() -> None:
    assert endpoints(" a:1, [::1]:2 ,") == ("a:1", "[::1]:2")
    for wrong in ("a", "http://a:1/", "a:0", "u:p@a:1"):
        with pytest.raises(CliError):
            endpoints(wrong)
