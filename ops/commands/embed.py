"""`driftline embed`: turns item texts into vectors. Builds the embedder from the settings; decides nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.errors import CliError

if TYPE_CHECKING:
    from models.text import TextEncoder
    from ops.settings import Settings
    from streams.cluster import Cluster
    from streams.embedder import EmbedderConfig


def embed() -> None:
    """Turn item texts into vectors until stopped; start more of them to share the items."""
    import asyncio

    import structlog

    from ops.connection import configure_logs, connect, require_topics
    from ops.kafka import reachable
    from ops.settings import load

    settings = load()
    cluster = connect(settings)
    require_topics(cluster, settings, "embedder")  # Faust ignores a missing topic, and would wait for items for ever
    configure_logs()

    from streams.embedder import build_app
    from streams.host import run

    config = embedder_config(settings, cluster)
    encoder = text_encoder(settings)
    structlog.get_logger(__name__).info("embedding", items=config.topics.items, encoder=encoder.fingerprint)

    async def main() -> None:
        await run(build_app(config, encoder))

    with reachable(cluster):
        asyncio.run(main())


def embedder_config(settings: Settings, cluster: Cluster) -> EmbedderConfig:
    """Return the embedder's configuration as the settings say."""
    from streams.embedder import EmbedderConfig
    from streams.names import Topics

    return EmbedderConfig(
        cluster=cluster,
        group=f"{settings.app_id}-embed",
        topics=Topics(settings.topic_prefix),
        folder=settings.data_dir / "faust",
        session_timeout_s=settings.engine_session_timeout_s,
    )


def text_encoder(settings: Settings) -> TextEncoder:
    """Load the encoder that the settings name; raises CliError when there is none."""
    from transformers.utils.logging import disable_progress_bar

    from models.text import TextEncoder

    disable_progress_bar()  # it would be drawn into the logs
    try:
        return TextEncoder(settings.encoder_path)
    except FileNotFoundError as error:
        raise CliError(
            str(error), "Set DRIFTLINE_ENCODER_PATH to an encoder's folder, or unset it for the one that is installed."
        ) from error
