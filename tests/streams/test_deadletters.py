"""Dead letters keep what came and say why it was turned away."""

from streams.deadletters import MAX_MESSAGE, dead_letter_headers


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
