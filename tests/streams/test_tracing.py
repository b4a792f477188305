"""A trace goes through a worker: from the event's headers to the slate's, whatever else is in them."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from streams.contracts import Interaction, Recommendation
from streams.job import Effects
from streams.pipeline import Pipeline
from streams.tracing import Context, context, span_id
from tests import small
from tests.small import START, FakeRecord, record

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"\xff\xfe",
        b"00-abc",
        PARENT + b"-more",
        b"ff" + PARENT[2:],
        PARENT.upper(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        b"01" + PARENT[2:] + b"-" + b"x" * 10_000,
        PARENT + b"\n",
    ],
)
def test_what_is_no_context_is_no_context(parent: bytes) -> None:
    assert context([("traceparent", parent)]) is None


def test_a_later_versions_context_is_read_as_far_as_it_is_known() -> None:
    assert context([("traceparent", b"01" + PARENT[2:] + b"-more")]) == Context(TRACE, SPAN, 1)


def test_a_state_goes_along_unless_it_is_too_long_or_odd() -> None:
    for state, kept in ((b"a=1", b"a=1"), (b"x" * 513, b""), (b"\xff", b"")):
        found = context([("tracestate", state), ("traceparent", PARENT)])
        assert found is not None and found.state == kept


def pipeline(traced: bool) -> Pipeline:
    made = Pipeline(dataclasses.replace(small.config(), traced=traced), small.world, clock=lambda: START + 10**6)
    made.assigned(0, {})
    return made


def event(offset: int, user: str, *headers: tuple[str, bytes]) -> FakeRecord:
    made = record(offset, Interaction(user, f"i{offset}", START + offset))
    made.headers = headers
    return made


def headers_by_user(effects: Effects, topic: str) -> dict[str, dict[str, bytes]]:
    return {key.decode(): dict(headers) for key, _, headers in effects.outputs[topic] if key}


@pytest.mark.parametrize("topic", ["recommendations", "decisions"])
def test_without_a_tracer_the_context_is_passed_on_as_it_came(topic: str) -> None:
    effects = pipeline(False).apply(
        0,
        [
            event(1, "anna", ("traceparent", PARENT), ("tracestate", b"a=1"), ("secret", b"x")),
            event(2, "bert"),
            event(3, "carl", ("traceparent", b"00-abc")),
        ],
        {},
    )
    assert headers_by_user(effects, topic) == {
        "anna": {"traceparent": PARENT, "tracestate": b"a=1"},
        "bert": {},
        "carl": {},
    }
    assert effects.traced == []


def test_with_a_tracer_the_slate_is_a_child_of_this_workers_span() -> None:
    first, last = PARENT, PARENT.replace(SPAN.encode(), b"00f067aa0ba902b7")
    effects = pipeline(True).apply(
        0, [event(1, "anna", ("traceparent", first)), event(4, "anna", ("traceparent", last))], {}
    )
    (traced,) = effects.traced
    assert (traced.partition, traced.offset, traced.covers) == (0, 4, 2)
    assert traced.parent == context([("traceparent", last)])
    assert traced.links == (context([("traceparent", first)]),)
    assert traced.span == span_id(traced.parent, 0, 4) != span_id(traced.parent, 0, 5)
    (slate,) = effects.outputs["recommendations"]
    assert msgspec.json.decode(slate[1] or b"", type=Recommendation).covers == [1, 4]
    assert dict(slate[2])["traceparent"] == f"00-{TRACE}-{traced.span}-01".encode()


def test_the_last_events_trace_is_the_slates_also_when_it_has_none() -> None:
    effects = pipeline(True).apply(0, [event(1, "anna", ("traceparent", PARENT)), event(2, "anna")], {})
    assert headers_by_user(effects, "recommendations") == {"anna": {}}
    assert effects.traced == []


def test_a_trace_that_is_not_sampled_is_passed_on_and_makes_no_span() -> None:
    parent = PARENT[:-1] + b"0"
    effects = pipeline(True).apply(0, [event(1, "anna", ("traceparent", parent))], {})
    assert headers_by_user(effects, "recommendations") == {"anna": {"traceparent": parent}}
    assert effects.traced == []
