"""The host: a Faust app that runs long-lived jobs, with their lifecycle, health pages and signals.

Faust (on mode) supervises, serves the web pages and runs agents of low rate; the event path never passes
through its streams or tables (docs/adr/0001). Knows nothing of what a job does.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import faust
from faust.auth import OAuthCredentials
from faust.types.auth import CredentialsT
from mode import Service
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from streams.cluster import Cluster


class Job(Protocol):
    """Something that runs until it is stopped."""

    async def run(self) -> None:
        """Run until `stop`; raise what stopped it otherwise."""

    def stop(self) -> None:
        """Have `run` finish what is in hand and return."""

    def status(self) -> dict[str, Any]:
        """Plain JSON values, among them `ready`: bool."""


def faust_connection(cluster: Cluster) -> dict[str, Any]:
    """The settings of a Faust app that has its clients connect to `cluster` as `Cluster`'s own do."""
    servers = [f"kafka://{server.strip()}" for server in cluster.bootstrap_servers.split(",")]
    return {"broker": servers, "broker_credentials": _faust_credentials(cluster.security)}


def _faust_credentials(security: Mapping[str, Any]) -> CredentialsT | None:
    protocol, context = security.get("security_protocol", "PLAINTEXT"), security.get("ssl_context")
    if protocol == "PLAINTEXT":
        return None
    if protocol == "SSL":
        return faust.SSLCredentials(context)
    if "sasl_oauth_token_provider" in security:
        return OAuthCredentials(oauth_cb=security["sasl_oauth_token_provider"], ssl_context=context)
    return faust.SASLCredentials(
        username=security["sasl_plain_username"],
        password=security["sasl_plain_password"],
        mechanism=security["sasl_mechanism"],
        ssl_context=context,
    )


class _WithoutClients(faust.App.BootStrategy):
    enable_kafka = False


class HostApp(faust.App):
    """A Faust app whose jobs bring their own Kafka clients: Faust's consumer refuses to start without a topic."""

    BootStrategy = _WithoutClients

    async def _wait_for_table_recovery_completed(self) -> bool:
        return False  # there are no tables, and nobody would ever say that they are recovered


def faust_app(
    app_id: str, folder: Path, *, web_host: str = "127.0.0.1", web_port: int = 0, **options: Any
) -> faust.App:
    """Return a Faust app that creates no topic and keeps nothing; its web server is on when `web_port` is not 0."""
    return HostApp(
        app_id,
        broker="kafka://localhost:1",  # never connected to: see HostApp
        topic_allow_declare=False,
        topic_disable_leader=True,
        store="memory://",
        datadir=folder,
        autodiscover=False,
        **web_options(web_port, web_host),
        **options,
    )


def web_options(port: int, address: str = "127.0.0.1") -> dict[str, Any]:
    """A Faust app's settings for pages on `port` (0: none) of `address`, by default for this machine only."""
    return {"web_enabled": port != 0, "web_host": address, "web_bind": address, "web_port": port or 6066}


def host(app: faust.App, make: Callable[[], Job], render: Callable[[Job], bytes] | None = None) -> None:
    """Have `app` run the job that `make` returns (called in the event loop), and show how it is.

    `render` makes the page of metrics of the job; without it there are those of the process only.

    Pages: `/health` (200 while the process lives), `/ready` (503 until the job is ready), `/status` (all it
    says), `/metrics` (Prometheus).
    """
    hosted: list[Job] = []

    @app.service
    class Hosted(Service):
        async def on_start(self) -> None:
            self._finished = asyncio.Event()
            hosted.append(make())

        @Service.task
        async def _run(self) -> None:
            try:
                await hosted[0].run()
            finally:
                self._finished.set()

        async def on_stop(self) -> None:
            hosted[0].stop()
            await self._finished.wait()

    def metrics() -> bytes:
        return render(hosted[0]) if render is not None and hosted else generate_latest(REGISTRY)

    pages(app, lambda: hosted[0].status() if hosted else {"ready": False, "state": "starting"}, metrics)


def pages(app: faust.App, status: Callable[[], dict[str, Any]], metrics: Callable[[], bytes]) -> None:
    """Show how a process is: `/health`, `/ready`, `/status`, `/metrics`."""

    @app.page("/health")
    async def health(view: Any, request: Any) -> Any:
        return view.json({"alive": True})

    @app.page("/ready")
    async def ready(view: Any, request: Any) -> Any:
        is_ready = bool(status()["ready"])
        return view.json({"ready": is_ready}, status=200 if is_ready else 503)

    @app.page("/status")
    async def all_it_says(view: Any, request: Any) -> Any:
        return view.json(status())

    @app.page("/metrics")
    async def figures(view: Any, request: Any) -> Any:
        return view.bytes(metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def run(app: faust.App) -> None:
    """Serve until SIGTERM, SIGINT or `app.stop()`; raises what stopped it when it did not stop by itself.

    A second signal ends the process at once, whatever is in hand.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        stopping.set()
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in signals:
        loop.add_signal_handler(number, stop)
    ended = asyncio.create_task(_serve(app))
    await asyncio.wait({ended, asyncio.create_task(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
    await app.stop()
    await ended
    if app.crash_reason is not None:
        raise app.crash_reason


async def _serve(app: faust.App) -> None:
    await app.start()
    await app.wait_until_stopped()
