"""Sending dead letters again from the page, on a real broker: asked, confirmed, sent, and said so."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from ops.dashboard.app import Dashboard
from ops.dashboard.follow import Follower
from streams.cluster import Cluster
from streams.topics import Topics
from tests.conftest import Wire
from tests.ops.deadletters.posted import Bad, post
from tests.ops.deadletters.test_replay import read

pytestmark = pytest.mark.broker

HERE = "http://127.0.0.1:8085"
ASKED = {"of": "events", "reason": "schema"}


async def until(browser: httpx.AsyncClient, words: str) -> str:
    """The page of events, once it says so."""
    async with asyncio.timeout(60):
        while words not in (text := (await browser.get("/events")).text):
            await asyncio.sleep(0.2)
    return text


async def send(browser: httpx.AsyncClient, **form: str) -> str:
    answer = await browser.post("/events/replay", data=ASKED | form, headers={"origin": HERE})
    assert answer.status_code == 200
    return answer.text


async def test_letters_of_a_reason_go_back_to_their_topic_after_a_confirmation_and_the_page_says_so(
    wire: Wire, topics: Topics, cluster: Cluster
) -> None:
    letters = [Bad(b"one", reason="schema"), Bad(b"two", reason="schema", offset=1), Bad(b"other", offset=2)]
    await post(cluster, topics.events_dlq, topics.events, letters)
    dashboard = Dashboard(cluster, topics, "app")
    following = asyncio.create_task(Follower(cluster, topics, dashboard.seen).run())
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=dashboard.app()), base_url=HERE) as browser:
            assert "sent again" not in await until(browser, "other")
            assert "2 letters of events with reason" in await send(browser)
            assert await read(wire, topics.events) == []  # nothing before it is confirmed
            assert "2 sent again." in await send(browser, confirm="yes")
            assert [record.value for record in await read(wire, topics.events)] == [b"one", b"two"]
            text = await until(browser, "sent again")
            assert text.count("sent again") == 2
            assert "No letter of events with reason schema is left" in await send(browser)
            assert "sent again before" in await send(browser, confirm="yes")
            assert len(await read(wire, topics.events)) == 2
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
