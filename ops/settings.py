"""Every setting: its meaning, unit, default and limits, read from the environment over a file.

The environment wins (`DRIFTLINE_<NAME>`), then the TOML file (`driftline.toml` in the working directory, or
the one that `DRIFTLINE_CONFIG` names), then the default. Lower layers never see this object: each gets a
small dataclass of its own. Knows nothing about what the settings do.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from ops import security
from ops.errors import CliError

PREFIX = "DRIFTLINE_"
CONFIG_VARIABLE = "DRIFTLINE_CONFIG"
DEBUG_VARIABLE = "DRIFTLINE_DEBUG"
DEFAULT_FILE = "driftline.toml"

_Action = Annotated[str, Field(min_length=1, max_length=64)]
_FOLLOWS_FROM_ANOTHER = "default_factory_not_called"  # pydantic: releases_dir, because data_dir is wrong
_PATHS = (
    "data_dir",
    "releases_dir",
    "state_dir",
    "encoder_path",
    "arrange_rules",
    "kafka_sasl_password_file",
    "kafka_sasl_token_file",
    "kafka_ssl_ca_file",
    "kafka_ssl_cert_file",
    "kafka_ssl_key_file",
    "dashboard_token_file",
)
_HIDDEN = "********"
Origin = Literal["environment", "file", "default"]


def default_data_dir() -> Path:
    """Where the platform keeps a user's application data."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "driftline"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "driftline"


def _setting(default: Any, meaning: str, unit: str = "", **limits: Any) -> Any:
    return Field(default, description=meaning, json_schema_extra={"unit": unit}, **limits)


class Settings(BaseSettings):
    """All settings, flat; those of one part share the first word of their names."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    bootstrap_servers: str = _setting("", "Kafka to use; empty: the embedded one", "host:port,…")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _setting(
        "PLAINTEXT", "how to connect: SSL encrypts, SASL logs in", "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = _setting(
        None, "how to log in", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"
    )
    kafka_sasl_username: str | None = _setting(None, "who logs in, with PLAIN and SCRAM", min_length=1)
    kafka_sasl_password: SecretStr | None = _setting(None, "his password; never shown", min_length=1)
    kafka_sasl_password_file: Path | None = _setting(None, "or a file that holds it, read at the start", "path")
    kafka_sasl_token_file: Path | None = _setting(
        None, "file with the token of OAUTHBEARER, read at every login: whoever renews it replaces the file", "path"
    )
    kafka_ssl_ca_file: Path | None = _setting(
        None, "certificates of who may sign the brokers'; none: those that the system trusts", "path, PEM"
    )
    kafka_ssl_cert_file: Path | None = _setting(None, "this client's certificate, if brokers ask for one", "path, PEM")
    kafka_ssl_key_file: Path | None = _setting(None, "its private key", "path, PEM")
    kafka_ssl_key_password: SecretStr | None = _setting(None, "of that key, if it is encrypted; never shown")
    kafka_ssl_check_hostname: bool = _setting(True, "refuse a broker whose certificate is not of its host name")
    topic_prefix: str = _setting("", "put before every topic's name", pattern=r"^[A-Za-z0-9._-]*$", max_length=200)
    partitions: int = _setting(
        4, "of events and the topics that follow it: the most workers that share them", ge=1, le=10_000
    )
    replication: int = _setting(0, "copies of each partition; 0: as many as there are brokers, at most 3", ge=0, le=10)
    app_id: str = _setting(
        "driftline", "consumer group and transactional ids of the workers", pattern=r"^[A-Za-z0-9._-]+$"
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="embedded Kafka, releases, downloads",
        json_schema_extra={"unit": "path"},
    )
    releases_dir: Path = Field(
        default_factory=lambda known: known["data_dir"] / "releases",
        description="published models; by default inside data_dir",
        json_schema_extra={"unit": "path"},
    )
    encoder_path: Path | None = _setting(None, "text encoder's folder; none: the one that is installed", "path")
    encoder_pooling: Literal["mean", "cls", "last"] | None = _setting(
        None, "of its tokens into a vector; none: as its folder says, else the mean", "mean, cls, last"
    )
    encoder_prompt: str | None = _setting(
        None, "put before every item's text, for encoders trained with instructions; none: as its folder says"
    )
    encoder_max_tokens: int | None = _setting(
        None, "longer texts are cut; none: as its folder says, else 256", "tokens", ge=1
    )
    encoder_batch: int = _setting(64, "texts encoded together", "texts", ge=1, le=10_000)
    encoder_device: str = _setting("cpu", "what it computes on", "torch device", min_length=1)

    engine_max_batch_records: int = _setting(512, "most events of one transaction", "events", ge=1, le=100_000)
    engine_session_timeout_s: float = _setting(10.0, "a silent worker loses its partitions after this", "s", gt=0)
    engine_transaction_timeout_s: float = _setting(30.0, "an unfinished transaction is aborted after this", "s", gt=0)

    events_actions: Annotated[tuple[_Action, ...], NoDecode] = _setting(
        ("view", "click", "like", "cart", "purchase", "rate", "share", "play"),
        "actions an event may name; states and releases know them by position, so add new ones at the end",
        min_length=1,
        max_length=256,
    )
    events_oldest_time_ms: int = _setting(
        631_152_000_000, "earlier events are refused (1990: catches seconds sent for milliseconds)", "ms, epoch", ge=0
    )
    schema_registry_url: str = _setting(
        "",
        "where schemas of events in Avro are; empty: events are JSON only. Needs driftline[avro]",
        "http(s)://host:port/path",
        pattern=r"^(https?://[^/@?#]+(/[^@?#]*)?)?$",
    )
    schema_registry_username: str | None = _setting(None, "who asks there, if it wants to know", min_length=1)
    schema_registry_password: SecretStr | None = _setting(None, "his password; never shown", min_length=1)
    events_max_clock_skew_s: float = _setting(600.0, "events further ahead of their arrival are refused", "s", ge=0)

    policy_slate_size: int = _setting(10, "items recommended at a time", "items", ge=1, le=100)
    policy_candidates: int = _setting(100, "items retrieved to choose from", "items", ge=1, le=10_000)
    policy_neighbours: int = _setting(
        50,
        "of them, at most so many for going with the user's last items, if the release has counts",
        "items",
        ge=0,
        le=10_000,
    )
    policy_injected: int = _setting(2, "further candidates drawn uniformly from the catalogue", "items", ge=0, le=1000)
    policy_temperature: float = _setting(0.35, "of the random choice: lower sticks closer to the scores", gt=0)
    policy_epsilon: float = _setting(0.02, "share of slates drawn uniformly from the candidates", "0 to 1", ge=0, le=1)
    policy_swaps: float = _setting(
        0.02,
        "share of slates in which two neighbours are exchanged, to learn how positions are looked at",
        "0 to .2",
        ge=0,
        le=0.2,
    )
    policy_beta: float = _setting(
        0.1,
        "how much an item's popularity is held against it; more is what the correction in training is for",
        "0 to .2",
        ge=0,
        le=0.2,
    )
    policy_seed: int = _setting(0, "of every random choice: the same seed, the same slates", ge=0)
    policy_marginals: bool = _setting(True, "publish each item's chance at its position, not only of its slate")
    policy_filter_seen: bool = _setting(True, "leave out what the user has interacted with")

    arrange_rules: Path | None = _setting(
        None, "file of business rules: boost, bury, pin, filter, cap; read again when it changes", "path, TOML"
    )
    arrange_unsure: float = _setting(
        1.5, "temperature for a user hardly known or changing, as a multiple of policy_temperature; 1: off", ge=1, le=10
    )
    arrange_loss: float = _setting(
        1.0, "the most that chance may cost a position against the best slate, expected", "logits", gt=0
    )
    arrange_new_bonus: float = _setting(1.0, "at most added to items hardly shown yet; 0: off", "logits", ge=0, le=100)
    arrange_new_share: float = _setting(
        0.05, "share of the positions that this may bring such items to", "0 to 1", gt=0, lt=1
    )
    arrange_new_slates: int = _setting(20, "an item is new until it was in so many", "slates", ge=1, le=1_000_000)
    arrange_diversity: float = _setting(
        0.2, "taken off for likeness to something better in the slate; 0: off", "logits", ge=0, le=100
    )
    arrange_calibration: float = _setting(
        0.2, "how far categories are drawn to their shares in the user's past; 0: off", "0 to 1", ge=0, le=1
    )
    arrange_fatigue: float = _setting(
        0.1, "taken off for each time an item was shown lately without a reaction; 0: off", "logits", ge=0, le=100
    )

    state_events: int = _setting(
        100, "last events kept per user; a release needs layers × window of them", "events", ge=1, le=100_000
    )
    state_open_slates: int = _setting(3, "slates per user that wait for their outcome", "slates", ge=1, le=100)
    state_outcome_window_s: float = _setting(1800.0, "how long a slate waits for it", "s", gt=0)
    state_seen_capacity: int = _setting(1024, "items remembered per user as seen", "items", ge=0, le=100_000)
    state_event_ids: int = _setting(32, "event ids remembered per user to spot repeats", "ids", ge=0, le=10_000)

    state_store: Literal["memory", "disk"] = _setting(
        "memory", "where a worker keeps user states: memory, or disk for more users than fit (docs/state.md)"
    )
    state_dir: Path = Field(
        default_factory=lambda known: known["data_dir"] / "state",
        description="user states of state_store=disk, on a local disk; by default inside data_dir",
        json_schema_extra={"unit": "path"},
    )
    state_cache_mb: int = _setting(256, "memory of state_store=disk, all partitions of a worker", "MiB", ge=16)
    state_keep_s: float = _setting(
        43_200.0,
        "states on disk out of touch with Kafka for longer, or for half of delete.retention.ms, are rebuilt",
        "s",
        gt=0,
    )

    worker_cached_users: int = _setting(
        10_000, "users whose attention caches are kept in memory, about 52 KB each", "users", ge=256
    )
    web_host: str = _setting(
        "127.0.0.1",
        "address that the web pages of worker and learner listen on; 0.0.0.0: all, for containers. They hold no ids, "
        "and ask nobody who he is",
        pattern=r"^[0-9A-Za-z.:-]+$",
    )
    worker_web_port: int = _setting(0, "of the worker's web pages; 0: none", "port", ge=0, le=65_535)

    tracing: bool = _setting(
        False, "send spans of traced events, where OTEL_EXPORTER_OTLP_ENDPOINT says; needs driftline[tracing]"
    )

    learner_publish_every_s: float = _setting(2.0, "how often new estimates reach the workers", "s", gt=0)
    learner_trains: bool = _setting(True, "go on training the weights while they are served")
    learner_round_events: int = _setting(256, "events that are learned at a time", "events", ge=1, le=100_000)
    learner_round_s: float = _setting(10.0, "or after this time, when fewer have come", "s", gt=0)
    learner_cpu_share: float = _setting(0.5, "of one core, at most, for training", "0 to 1", gt=0, le=1)
    learner_checkpoint_rounds: int = _setting(
        32, "rounds between two checkpoints: as many are repeated after a crash, at most", "rounds", ge=1, le=1000
    )
    learner_recipe: Literal["histories", "sessions"] = _setting(
        "histories",
        "what `driftline train` makes: for long histories without repeats, or for short visits with them",
        "histories, sessions",
    )
    learner_size: int = _setting(2, "of the model: so many layers, and heads of width 32", ge=2, le=8)
    learner_members: int = _setting(1, "models side by side: better, at as many times the cost", ge=1, le=8)
    learner_device: str = _setting(
        "cpu", "where weights are trained", "cpu, cuda, cuda:1, …", pattern=r"^(cpu|cuda(:\d+)?)$"
    )

    dashboard_host: str = _setting("127.0.0.1", "where the dashboard is reached; beyond loopback it asks for its token")
    dashboard_port: int = _setting(8085, "of the dashboard", "port", ge=1, le=65_535)
    dashboard_token: SecretStr | None = _setting(None, "who may see it beyond loopback; never shown", min_length=16)
    dashboard_token_file: Path | None = _setting(None, "or a file that holds it, read at the start", "path")
    dashboard_endpoints: str = _setting(
        "", "pages of workers and learners; a name with several addresses stands for all of them", "host:port,…"
    )

    @field_validator("events_actions", mode="before")
    @classmethod
    def _from_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator(*_PATHS)
    @classmethod
    def _from_home(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value is not None else None

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.policy_candidates < self.policy_slate_size:
            raise ValueError(
                f"policy_candidates={self.policy_candidates} should be at least "
                f"policy_slate_size={self.policy_slate_size}"
            )
        if self.worker_cached_users < self.engine_max_batch_records:
            raise ValueError(
                f"worker_cached_users={self.worker_cached_users} should be at least "
                f"engine_max_batch_records={self.engine_max_batch_records}"
            )
        if (problem := security.problem(self)) is not None:
            raise ValueError(problem)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # what `load` read from the file comes in as arguments


@dataclass(frozen=True)
class Explained:
    """One setting as `driftline settings` shows it."""

    name: str
    variable: str
    value: Any
    origin: Origin
    unit: str
    meaning: str


def load() -> Settings:
    """Read every setting; a variable or a key that is no setting gets a warning on standard error.

    Raises:
        CliError: a value is not allowed, or the file cannot be read; names setting, value and expectation.
    """
    file = _read_file()
    for warning in _unknown(file):
        print(f"warning: {warning}", file=sys.stderr)
    try:
        return Settings(**{name: value for name, value in file.items() if name in Settings.model_fields})
    except ValidationError as error:
        raise _explained(error, file) from error


def explain(settings: Settings) -> list[Explained]:
    """Every setting with its value, where that came from, and what it means."""
    file = _read_file()
    return [
        Explained(
            name=name,
            variable=variable(name),
            value=_shown(getattr(settings, name)),
            origin=_origin(name, file),
            unit=cast(dict[str, str], field.json_schema_extra)["unit"],
            meaning=field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _shown(value: Any) -> Any:
    return _HIDDEN if isinstance(value, SecretStr) else value


def _is_secret(name: str) -> bool:
    return name in Settings.model_fields and "SecretStr" in str(Settings.model_fields[name].annotation)


def _file_path() -> Path:
    return Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE)


def _read_file() -> dict[str, Any]:
    path = _file_path()
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        if not os.environ.get(CONFIG_VARIABLE):
            return {}
        raise CliError(f"{CONFIG_VARIABLE} names a file that does not exist: {path}") from error
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        raise CliError(f"the settings file {path} cannot be read: {error}") from error


def _origin(name: str, file: dict[str, Any]) -> Origin:
    if _from_environment(name) is not None:
        return "environment"
    return "file" if name in file else "default"


def _from_environment(name: str) -> str | None:
    return next((value for key, value in os.environ.items() if key.upper() == variable(name) and value), None)


def _unknown(file: dict[str, Any]) -> list[str]:
    variables = [variable(name) for name in Settings.model_fields] + [CONFIG_VARIABLE, DEBUG_VARIABLE]
    found = [key for key in os.environ if key.upper().startswith(PREFIX) and key.upper() not in variables]
    warnings = [f"{key} is not a setting{_nearest(key.upper(), variables)}" for key in sorted(found)]
    names = list(Settings.model_fields)
    return warnings + [
        f"{key} in {_file_path()} is not a setting{_nearest(key, names)}" for key in file if key not in names
    ]


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else "; `driftline settings` lists them all"


def _explained(error: ValidationError, file: dict[str, Any]) -> CliError:
    problems = [_problem(dict(one), file) for one in error.errors() if one["type"] != _FOLLOWS_FROM_ANOTHER]
    return CliError("; ".join(problems), "Correct it, or leave it out for the default.")


def _problem(found: dict[str, Any], file: dict[str, Any]) -> str:
    message = str(found["msg"]).removeprefix("Value error, ")
    if not found["loc"]:
        return message
    expectation = message[message.find("should ") :]  # without pydantic's "Input", "String", …
    name = str(found["loc"][0])
    if (value := _from_environment(name)) is not None:
        value = _HIDDEN if _is_secret(name) else value
        return f"{variable(name)}={value!r} (environment): {expectation}"
    return f"{name} = {_HIDDEN if _is_secret(name) else file.get(name)!r} (in {_file_path()}): {expectation}"
