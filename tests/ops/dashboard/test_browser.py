"""The pages in a real browser, before a running system: live, harmless, quiet, and fit for a keyboard and a reader.

Skipped, and said so, where there is no Chromium with its driver (Debian: chromium, chromium-driver).
SCREENSHOTS=FOLDER keeps pictures of the pages.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ops.dashboard.app import PAGES
from ops.kafka import ports
from streams.cluster import Cluster
from streams.contracts import Impression, Interaction, Item, encode
from streams.topics import Topics
from tests import small
from tests.conftest import Start, Wire
from tests.ops.dashboard.hostile import ATTACKS
from tests.streams.test_worker import publish_world, until_covered

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="no chromium with chromedriver on this machine"),
]

USER = ATTACKS["user"]
SERIOUS = ("serious", "critical")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-extensions",
    ):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path / 'chromium'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def address(worker_settings: dict[str, str], tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A dashboard as a process of its own, and the port where it looks for a worker."""
    port, web_port = ports.free(), ports.free()
    more = {"DRIFTLINE_DASHBOARD_PORT": str(port), "DRIFTLINE_DASHBOARD_ENDPOINTS": f"127.0.0.1:{web_port}"}
    with (tmp_path / "dashboard.log").open("wb") as log:
        command = [sys.executable, "-m", "ops.cli", "dashboard"]
        with subprocess.Popen(command, env=os.environ | worker_settings | more, stdout=log, stderr=log) as process:
            yield f"http://127.0.0.1:{port}", web_port
            process.terminate()
    print((tmp_path / "dashboard.log").read_text()[-3000:])


TITLES = ("The long way home", "A quiet war", "Letters from the coast", "Night shift", "Salt and iron")


async def catalogue(wire: Wire, topics: Topics) -> None:
    items = [
        Item(f"i{number}", f"{TITLES[number % len(TITLES)]} {number}", categories=[small.GENRES[number % 4]])
        for number in range(40)
    ]
    items[1] = Item("i1", ATTACKS["title"], categories=[ATTACKS["category"]])
    await wire.produce(topics.items, [(item.item.encode(), encode(item)) for item in items])


async def traffic(cluster: Cluster, topics: Topics) -> None:
    """What users do, until cancelled; now and then something that cannot be used."""
    producer = cluster.producer()
    await producer.start()
    try:
        number = 0
        while True:
            user = USER if number % 3 == 0 else f"u{number % 17}"
            now = time.time_ns() // 1_000_000
            event = Interaction(user, f"i{number % 12}", now)  # few, so that there is something left to recommend
            await producer.send(topics.events, encode(event), user.encode())
            if number % 5 == 0:  # another system's slate: an outcome, when its window closes
                shown = Impression(user, now, [f"i{(number + at) % 40}" for at in range(5)])
                await producer.send(topics.events, encode(shown), user.encode())
            if number % 20 == 0:
                await producer.send(topics.events, ATTACKS["message"].encode(), user.encode())
            number += 1
            await asyncio.sleep(0.05)
    finally:
        await producer.stop()


@pytest.fixture
async def system(
    wire: Wire, topics: Topics, cluster: Cluster, start: Start, tmp_path: Path, address: tuple[str, int]
) -> AsyncIterator[str]:
    url, web_port = address
    await publish_world(wire, topics, tmp_path)
    await catalogue(wire, topics)
    start(DRIFTLINE_WORKER_WEB_PORT=str(web_port), DRIFTLINE_STATE_OUTCOME_WINDOW_S="2")
    sending = asyncio.create_task(traffic(cluster, topics))
    await until_covered(wire, topics, 40)
    yield url
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_each_page_is_live_harmless_quiet_and_accessible(system: str, browser: Any) -> None:
    axe = (files("axe_core_python") / "axe.min.js").read_text()
    await asyncio.to_thread(look_at_all, system, browser, axe)


def look_at_all(url: str, browser: Any, axe: str) -> None:
    pictures = os.environ.get("SCREENSHOTS")
    ids = {"user": USER, "item": "i1"}
    for page in PAGES:
        browser.set_window_size(1280, 1000)
        address = f"{url}/{page}" + (f"?id={quote(ids[page], safe='')}" if page in ids else "")
        browser.get(address)
        wait(browser, "return Number(document.body.dataset.updates || 0) >= 1", page)
        assert browser.execute_script("return document.getElementById('connection').textContent") == "Live"
        assert browser.execute_script("return window.hacked") is None, page
        assert browser.execute_script("return document.images.length + document.querySelectorAll('iframe').length") == 0
        found = browser.execute_async_script(axe + "; axe.run().then(arguments[arguments.length - 1])")
        bad = [one for one in found["violations"] if one["impact"] in SERIOUS]
        assert not bad, (page, [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in bad])
        complaints = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        assert not complaints, (page, complaints)
        if pictures:
            browser.save_screenshot(str(Path(pictures) / f"{page}.png"))
        browser.set_window_size(390, 844)
        width = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1], (page, width)  # nothing is cut off on a phone
    check_numbers(url, browser)


def check_numbers(url: str, browser: Any) -> None:
    """The overview's numbers move, the user's page names what was sent, hostile titles are text."""
    browser.set_window_size(1280, 1000)
    browser.get(f"{url}/events")
    wait(browser, "return document.querySelectorAll('#tail tbody tr').length > 5", "events")
    before = browser.execute_script("return document.querySelector('#tail tbody').textContent")
    wait(browser, f"return document.querySelector('#tail tbody').textContent !== {before!r}", "events that move")
    assert ATTACKS["message"][:40] in browser.execute_script("return document.querySelector('#letters').textContent")
    browser.get(f"{url}/overview")
    wait(browser, "return document.querySelector('#figures .value') !== null", "figures")
    wait(browser, "return /ms|µs/.test(document.querySelector('#figures .value').textContent)", "a latency")
    wait(browser, "return document.querySelectorAll('.uplot canvas').length >= 1", "a chart")
    browser.get(f"{url}/item?id=i1")
    assert ATTACKS["title"] in browser.execute_script("return document.querySelector('#item').textContent")


def wait(browser: Any, script: str, what: str, seconds: float = 40) -> None:
    for _ in range(round(seconds / 0.2)):
        if browser.execute_script(script):
            return
        time.sleep(0.2)
    pytest.fail(f"{what}: not within {seconds} s: {browser.execute_script('return document.body.innerText')[:2000]}")
