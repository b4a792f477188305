"""What a command makes sure of before it asks or joins anything; or one line says what is wrong."""

from __future__ import annotations

import gc
import socket
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError
from click.testing import Result
from typer.testing import CliRunner

from ops.cli import app
from ops.deadletters.mailbox import Mailbox
from ops.errors import CliError
from ops.kafka.refusals import reachable
from ops.retention import retentions
from ops.sending import send_all
from streams.broadcast import Broadcast
from streams.cluster import Cluster
from streams.contracts import ReleasePointer
from streams.names import Topics
from streams.releases import publish_release
from streams.restore import TopicMissing, partitions_of, read_to_end
from streams.stores import check_folder


def invoke(*arguments: str, **settings: str) -> Result:
    variables = {f"DRIFTLINE_{name.upper()}": value for name, value in settings.items()}
    return CliRunner().invoke(app, list(arguments), env={"DRIFTLINE_BOOTSTRAP_SERVERS": "127.0.0.1:9"} | variables)


@pytest.fixture
def port() -> Iterator[str]:
    """A port that somebody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield str(taken.getsockname()[1])


@pytest.mark.parametrize("command", ["worker", "learn"])
def test_a_port_in_use_is_one_line(command: str, port: str) -> None:
    result = invoke(command, "--web-port", port)
    assert isinstance(result.exception, CliError)
    assert result.exception.problem == f"web pages cannot be served on port {port}: address already in use"
    assert "--web-port" in result.exception.next_step


def test_a_port_in_use_may_be_a_setting(port: str) -> None:
    result = invoke("worker", worker_web_port=port)
    assert isinstance(result.exception, CliError)
    assert "DRIFTLINE_WORKER_WEB_PORT" in result.exception.next_step


def test_a_port_that_cannot_be_is_a_wrong_usage() -> None:
    result = invoke("worker", "--web-port", "99999")
    assert result.exit_code == 2 and "less than or equal to 65535" in result.stderr


@pytest.mark.parametrize("where", ["a file", "below a file", "/proc/nope"])
def test_a_worker_that_cannot_keep_states_does_not_join(tmp_path: Path, where: str) -> None:
    """Nor does it ask the cluster for anything: nobody answers there."""
    (tmp_path / "file").write_text("")
    folder = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "state"}.get(where, Path(where))
    result = invoke("worker", state_store="disk", state_dir=str(folder))
    assert isinstance(result.exception, CliError)
    assert result.exception.problem.startswith(f"DRIFTLINE_STATE_DIR='{folder}': user states cannot be kept in ")
    assert "DRIFTLINE_STATE_DIR" in result.exception.next_step


def test_a_folder_is_asked_for_only_where_states_are_on_disk() -> None:
    result = invoke("worker", state_store="memory", state_dir="/proc/nope")
    assert isinstance(result.exception, CliError) and "no Kafka answers" in result.exception.problem


def test_a_folder_for_stores_is_made_and_left_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_store_of_somebody_else_is_found_before_a_partition_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state-0").mkdir()
    monkeypatch.setattr("streams.stores.os.access", lambda path, mode: path.name != "state-0")  # root may do anything
    with pytest.raises(PermissionError, match="state-0"):
        check_folder(tmp_path)


def test_schemas_that_cannot_be_written_are_one_line() -> None:
    result = invoke("contracts", "export", "/proc/x")
    assert isinstance(result.exception, CliError)
    assert result.exception.problem == "/proc/x cannot be written: No such file or directory"


@pytest.mark.parametrize("command", ["erase", "erase --verify"])
def test_an_id_that_is_no_text_is_one_line(command: str) -> None:
    """As the shell gives `$'\\xff'`."""
    result = invoke(*command.split(), "\udcff")
    assert isinstance(result.exception, CliError)
    assert result.exception.problem == r"user '\udcff' is not UTF-8, as every id is"


NOWHERE = Cluster("127.0.0.1:9")


@pytest.mark.parametrize(
    "use",
    [
        lambda: read_to_end(NOWHERE, "t", lambda record: None, partition=0),
        lambda: partitions_of(NOWHERE, "t"),
        lambda: publish_release(NOWHERE, "t", ReleasePointer("r", "", 0)),
        lambda: send_all(NOWHERE, "t", []),
        lambda: Mailbox(NOWHERE, "t").__aenter__(),
        lambda: retentions(NOWHERE, ["t"]),
        lambda: Broadcast(NOWHERE, Topics(), lambda pointer: None).run(),  # type: ignore[arg-type, return-value]
    ],
    ids=["read_to_end", "partitions_of", "publish_release", "send_all", "mailbox", "retentions", "broadcast"],
)
async def test_who_cannot_connect_leaves_nothing_behind(use: Callable[[], Awaitable[object]]) -> None:
    """The client library would say `Unclosed AIOKafkaConsumer`."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(KafkaConnectionError):
            await use()
        gc.collect()
    assert [str(one.message) for one in warned] == []


def test_a_topic_that_is_not_there_is_one_line() -> None:
    with pytest.raises(CliError) as caught, reachable(Cluster("k:1")):
        raise TopicMissing("topic models does not exist: create it with `driftline topics create`")
    assert caught.value.problem == "topic models does not exist"
    assert caught.value.next_step == "Create it with `driftline topics create`."
