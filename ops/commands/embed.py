"""`driftline embed`: turns item texts into vectors. Builds the embedder from the settings; decides nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from pathlib import Path

    from models.text import TextEncoder
    from ops.embeddings import StoredEncoder
    from ops.settings import Settings
    from streams.cluster import Cluster
    from streams.embedder import EmbedderConfig


def embed(
    web_port: Annotated[
        int, typer.Option(help="Serve /ready, /status and /metrics on this port; 0: on none.", min=0, max=65535)
    ] = 0,
) -> None:
    """Turn item texts into vectors until stopped; start more of them to share the items."""
    import asyncio

    import structlog

    from ops.connection import configure_logs, connect, require_port, require_topics
    from ops.kafka import reachable
    from ops.metrics.export import metrics_page
    from ops.metrics.readings import of_embedder
    from ops.settings import load

    settings = load()
    require_port(web_port, "--web-port")
    cluster = connect(settings)
    require_topics(cluster, settings, "embedder")  # Faust ignores a missing topic, and would wait for items for ever
    configure_logs()

    from streams.embedder import build_app
    from streams.host import run

    config = embedder_config(settings, cluster, web_port)
    encoder = text_encoder(settings)
    structlog.get_logger(__name__).info("embedding", items=config.topics.items, encoder=encoder.fingerprint)

    async def main() -> None:
        await run(build_app(config, encoder, metrics_page(of_embedder)))

    with reachable(cluster):
        asyncio.run(main())


def embedder_config(settings: Settings, cluster: Cluster, web_port: int = 0) -> EmbedderConfig:
    """Return the embedder's configuration as the settings say."""
    from streams.embedder import EmbedderConfig
    from streams.names import Topics

    return EmbedderConfig(
        cluster=cluster,
        group=f"{settings.app_id}-embed",
        topics=Topics(settings.topic_prefix),
        folder=settings.data_dir / "faust",
        session_timeout_s=settings.engine_session_timeout_s,
        web_port=web_port,
        web_host=settings.web_host,
    )


def text_encoder(settings: Settings) -> StoredEncoder:
    """The encoder that the settings name, behind the vectors that are kept of it; it is loaded when a text is new.

    Raises CliError as `encoder_folder` does.
    """
    from ops.embeddings import StoredEncoder

    directory, fingerprint = encoder_folder(settings)
    return StoredEncoder(fingerprint, lambda: _loaded(settings, directory), settings.data_dir / "embeddings")


def encoder_folder(settings: Settings) -> tuple[Path, str]:
    """The folder of the encoder that the settings name, and its fingerprint.

    Raises CliError when there is none, or it asks for what is not known here.
    """
    from models.encoder_config import EncoderConfig, bundled_encoder

    try:
        directory = settings.encoder_path or bundled_encoder()
        config = EncoderConfig.read(
            directory,
            pooling=settings.encoder_pooling,
            prompt=settings.encoder_prompt,
            max_tokens=settings.encoder_max_tokens,
        )
        return directory, config.fingerprint()
    except FileNotFoundError as error:
        raise CliError(
            str(error), "Set DRIFTLINE_ENCODER_PATH to an encoder's folder, or unset it for the one that is installed."
        ) from error
    except ValueError as error:
        raise CliError(str(error), "Say how to use it with DRIFTLINE_ENCODER_POOLING, or take another one.") from error


def _loaded(settings: Settings, directory: Path) -> TextEncoder:
    from transformers.utils.logging import disable_progress_bar

    from models.text import TextEncoder

    disable_progress_bar()  # it would be drawn into the logs
    return TextEncoder(
        directory,
        batch_size=settings.encoder_batch,
        device=settings.encoder_device,
        pooling=settings.encoder_pooling,
        prompt=settings.encoder_prompt,
        max_tokens=settings.encoder_max_tokens,
    )
