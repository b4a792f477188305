"""`driftline dashboard`: serves the dashboard. Builds it from the settings; decides only who must show a token."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ops.errors import CliError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from uvicorn import Config

    from ops.settings import Settings

MAX_HEAD_BYTES = 65_536
TOKEN_BYTES = 16


def dashboard() -> None:
    """Show how it goes, in a browser: freshness, users and their slates, propensities, fairness, models, dead letters.

    Reads topics and the pages of workers and learners that DRIFTLINE_DASHBOARD_ENDPOINTS names; any number of viewers
    costs about what one does. Writes nothing, but for dead letters that somebody has it send again.
    """
    import typer
    from uvicorn import Server

    from ops.connection import configure_logs, connect
    from ops.dashboard.app import Dashboard
    from ops.health.processes import endpoints
    from ops.settings import load
    from streams.names import Topics

    settings = load()
    secret = token(settings)
    listed = endpoints(settings.dashboard_endpoints)
    cluster = connect(settings)
    configure_logs()
    made = Dashboard(cluster, Topics(settings.topic_prefix), settings.app_id, listed, secret)
    host, port = settings.dashboard_host, settings.dashboard_port
    typer.echo(f"http://{f'[{host}]' if ':' in host else host}:{port}", err=True)
    Server(serving(made.app(), host, port)).run()


def serving(app: Starlette, host: str, port: int) -> Config:
    """How it is served: a request line and headers of at most 64 KiB, and so many connections at a time."""
    from uvicorn import Config

    return Config(
        app,
        host,
        port,
        http="h11",
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        limit_concurrency=600,
    )


def token(settings: Settings) -> str | None:
    """The token to ask for; None: on loopback, without one. Raises CliError where one is missing or too short."""
    given = settings.dashboard_token.get_secret_value() if settings.dashboard_token else None
    if settings.dashboard_token_file is not None:
        if given is not None:
            raise CliError("DRIFTLINE_DASHBOARD_TOKEN and DRIFTLINE_DASHBOARD_TOKEN_FILE are both set", "Unset one.")
        try:
            given = settings.dashboard_token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            path = settings.dashboard_token_file
            raise CliError(
                f"the dashboard's token cannot be read from {path}: {error}", "Name another file."
            ) from error
    if given is not None and len(given.encode()) < TOKEN_BYTES:
        raise CliError("the dashboard's token is too short", f"Choose one of at least {TOKEN_BYTES} bytes.")
    if given is None and not is_loopback(settings.dashboard_host):
        raise CliError(
            f"DRIFTLINE_DASHBOARD_HOST={settings.dashboard_host!r} is beyond this machine, and there is no token",
            "Set DRIFTLINE_DASHBOARD_TOKEN (`openssl rand -hex 16` makes one), or leave the host at 127.0.0.1.",
        )
    return given


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
