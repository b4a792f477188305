"""The documents say what the code says, and every example is a message that would be let in."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from index.hashing import item_hash
from models.blend import total
from ops.cli import app
from ops.contract_examples import EXAMPLES
from ops.contracts_docs import documents, json_schema, messages
from policy.slate import PolicyConfig, redecide
from streams.contracts import (
    Decision,
    Event,
    Item,
    ItemVector,
    ModelMessage,
    Outcome,
    Recommendation,
    encode,
    item_text,
)
from streams.deadletters import REASONS
from streams.validation import EventRules, decode_event, decode_item

ROOT = Path(__file__).parents[2]
BY_KIND = {type(example): example for example in EXAMPLES}


@pytest.mark.parametrize("path", sorted(documents()))
def test_the_documents_are_those_that_the_contracts_make(path):
    written = (ROOT / "docs" / path).read_text(encoding="utf-8")
    assert written == documents()[path], "run `driftline contracts export docs`"


def test_no_schema_is_left_of_a_message_that_is_no_more():
    assert {f"schemas/{file.name}" for file in (ROOT / "docs" / "schemas").iterdir()} == documents().keys() - {
        "contracts.md",
        "asyncapi.json",
    }


def test_exporting_writes_the_documents_and_removes_old_schemas(tmp_path):
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "gone.json").touch()
    result = CliRunner().invoke(app, ["contracts", "export", str(tmp_path)])
    assert result.exit_code == 0 and "14 files" in result.stdout
    written = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("*.*")}
    assert written == documents()


def test_every_message_has_one_example():
    assert sorted(kind.__name__ for kind in messages()) == sorted(type(example).__name__ for example in EXAMPLES)


@pytest.mark.parametrize("kind", messages())
def test_the_example_on_the_page_decodes_strictly_to_the_same_message(kind):
    section = documents()["contracts.md"].split(f"### {kind.__name__}\n")[1]
    text = section.split("```json\n")[1].split("```")[0]
    assert msgspec.json.decode(text, type=kind, strict=True) == BY_KIND[kind]
    assert json.loads(text).keys() == json_schema(kind)["properties"].keys()


@pytest.mark.parametrize("kind", messages())
def test_the_schema_names_units_and_what_is_required(kind):
    schema = json_schema(kind)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    required = {name for name, field in fields.items() if field.required}
    assert set(schema.get("required", [])) - {"kind"} == required
    for name in schema["properties"].keys() & {"time", "closed", "created"}:
        assert schema["properties"][name]["description"].endswith("milliseconds since the epoch, UTC")


def test_example_events_and_item_are_let_in():
    rules = EventRules(actions=("rate",))
    events = [example for example in EXAMPLES if isinstance(example, Event)]
    assert len(events) == 4
    for event in events:
        assert decode_event(event.user.encode(), encode(event), event.time, rules) == event
    item = BY_KIND[Item]
    assert decode_item(item.item.encode(), encode(item)) == item


def test_example_models_are_told_apart_by_their_kind():
    models = [example for example in EXAMPLES if isinstance(example, ModelMessage)]
    assert [msgspec.json.decode(encode(model), type=ModelMessage) for model in models] == models


def test_the_example_decision_can_be_replayed_from_what_it_logs():
    logged = BY_KIND[Decision]
    base, correction, logits = (
        np.frombuffer(column, "<f4") for column in (logged.base_f32, logged.correction_f32, logged.logits_f32)
    )
    np.testing.assert_array_equal(base + correction, logits)
    terms = {name: np.frombuffer(term, "<f4") for name, term in logged.terms.items()}
    assert len(terms) == 4
    np.testing.assert_array_equal(total(terms), base)
    policy = PolicyConfig(
        k=len(logged.chosen),
        candidates=len(logged.candidates) - logged.injected,
        injected=logged.injected,
        temperature=logged.temperature,
        epsilon=logged.epsilon,
        beta=logged.beta,
        seed=logged.seed,
    )
    items = np.array([[item_hash(item) for item in logged.candidates]], np.uint64)
    again = redecide(policy, logits[None], items, logged.cause.partition, np.array([logged.cause.offset]))
    assert again.chosen[0].tolist() == logged.chosen
    np.testing.assert_allclose(again.conditional[0], logged.conditional, rtol=1e-6)
    np.testing.assert_allclose(again.propensity[0], BY_KIND[Recommendation].propensity, rtol=1e-6)
    np.testing.assert_allclose(again.inclusion[0], BY_KIND[Outcome].inclusion, rtol=1e-6)
    assert [logged.candidates[column] for column in logged.chosen] == BY_KIND[Recommendation].items


def test_the_example_vector_is_of_the_example_item():
    item, vector = BY_KIND[Item], BY_KIND[ItemVector]
    assert vector.text_hash == hashlib.blake2b(item_text(item).encode(), digest_size=8).hexdigest()
    assert (vector.item, vector.title, vector.categories, vector.year) == (
        item.item,
        item.title,
        item.categories,
        item.year,
    )


def test_every_reason_for_a_dead_letter_is_on_the_page():
    code = "".join(path.read_text() for path in (ROOT / "streams").glob("*.py"))
    reasons = set(re.findall(r"BadMessage\(\s*\"(\w+)\"", code)) | set(
        re.findall(r"DeadLetter\([^,()]*, \"(\w+)\"", code)
    )
    assert {"schema", "time_past", "handler_error"} <= reasons
    explained = set(re.findall(r"`(\w+)`", documents()["contracts.md"].split("| Reason |")[1].split("## ")[0]))
    assert reasons == set(REASONS)
    assert reasons <= explained
    assert explained - reasons <= {"kind", "erase", "id", "DRIFTLINE_EVENTS_ACTIONS"}


def test_what_to_do_about_each_reason_is_in_the_runbook():
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "dead-letters.md").read_text(), re.MULTILINE)
    assert rows == list(REASONS)
