"""Dead letters keep what came and say why it was turned away."""

from streams.deadletters import MAX_BYTES, MAX_MESSAGE, dead_letter_headers, fit


def letter(headers=(), message="weight is -1; expected > 0"):
    return dead_letter_headers(headers, "schema", message, "events", 3, 41, 1_700_000_000_000)


def test_original_headers_come_first_and_are_kept_byte_for_byte():
    original = [("ce_type", b"\xff\x00"), ("ce_type", b"twice")]
    assert letter(original)[:2] == original


def test_error_headers_name_reason_message_and_place():
    assert dict(letter()) == {
        "driftline-reason": b"schema",
        "driftline-message": b"weight is -1; expected > 0",
        "driftline-source-topic": b"events",
        "driftline-source-partition": b"3",
        "driftline-source-offset": b"41",
        "driftline-source-time": b"1700000000000",
    }


def test_a_letter_that_failed_again_has_one_set_of_error_headers():
    again = letter(letter([("trace", b"1")], message="first"), message="second")
    assert [name for name, _ in again].count("driftline-message") == 1
    assert dict(again)["driftline-message"] == b"second"
    assert dict(again)["trace"] == b"1"


def test_a_long_message_is_cut_and_odd_text_is_still_a_header():
    assert len(dict(letter(message="x" * 5000))["driftline-message"].decode()) == MAX_MESSAGE
    assert dict(letter(message="bad \ud800"))["driftline-message"] == b"bad ?"


def test_what_fits_is_unchanged():
    headers = letter([("trace", b"1"), ("null", None)])
    assert fit(b"key", None, headers) == (b"key", None, headers)
    room = MAX_BYTES - len(b"key") - sum(len(name) + len(text or b"") for name, text in headers)
    assert fit(b"key", bytes(room), headers) == (b"key", bytes(room), headers)


def test_a_value_too_large_is_cut_and_says_so():
    headers = letter([("trace", b"1")])
    key, value, with_note = fit(b"key", bytes(2 * MAX_BYTES), headers)
    before = 2 * MAX_BYTES + 3 + sum(len(name) + len(text) for name, text in headers)
    assert with_note == [*headers, ("driftline-truncated", str(before).encode())]
    assert key == b"key"
    assert len(key) + len(value) + sum(len(name) + len(text) for name, text in with_note) == MAX_BYTES


def test_a_key_and_headers_too_large_are_cut_as_well():
    key, value, headers = fit(bytes(MAX_BYTES), b"{}", letter([("trace", bytes(MAX_BYTES))]))
    assert len(key) == MAX_BYTES // 2 and value == b"{}"
    assert [name for name, _ in headers] == [*dict(letter()), "driftline-truncated"]
