"""Does a record hold one of these user ids? By its key, by the field `user`, or somewhere in what cannot be read.

An id counts as a whole: `anna` is not in `joanna`. Knows the contracts' fields; knows nothing of Kafka.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

Way = Literal["key", "user", "maybe"]
"""How a record holds an id: as its key, in its field `user`, or as a word of something that is no message of ours."""

_WORD = rb"[0-9A-Za-z_\x80-\xff-]"
_words = re.compile(_WORD + rb"+").findall


class _Message(Struct):
    user: str | None = None
    kind: str | None = None


_decoder = msgspec.json.Decoder(_Message)


class Mentions:
    """Finds `users` in keys, values and headers."""

    def __init__(self, users: Iterable[str]) -> None:
        self.users = list(dict.fromkeys(users))
        self._keys = {user.encode(): user for user in self.users}
        forms = {form: user for user in self.users for form in (json.dumps(user)[1:-1].encode(), user.encode())}
        self._forms = {form: user for form, user in forms.items() if re.fullmatch(_WORD + rb"+", form)}
        self._phrases = [
            (re.compile(rb"(?<!%b)%b(?!%b)" % (_WORD, re.escape(form), _WORD)), user)
            for form, user in forms.items()
            if form not in self._forms
        ]

    def keyed(self, key: bytes | None) -> str | None:
        """The user whose id is this key."""
        return None if key is None else self._keys.get(key)

    def named(self, value: bytes | None, *, expected: bool) -> dict[str, Way]:
        """The users that a JSON message names in `user`.

        Where it is no message, or names nobody although one is `expected` to be named, those whose id is in it as a
        word.
        """
        if value is None:
            return {}
        try:
            named = _decoder.decode(value).user
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.somewhere([value])
        if named is None:
            return self.somewhere([value]) if expected else {}
        return {named: "user"} if named.encode(errors="surrogatepass") in self._keys else {}

    def somewhere(self, texts: Sequence[bytes]) -> dict[str, Way]:
        """The users whose id is a word of one of `texts`."""
        found: dict[str, Way] = {}
        for text in texts:
            found |= {self._forms[word]: "maybe" for word in self._forms.keys() & set(_words(text))}
            found |= {user: "maybe" for phrase, user in self._phrases if phrase.search(text)}
        return found


def kind_of(value: bytes | None) -> str | None:
    """The kind of an event; None where it cannot be read."""
    try:
        return _decoder.decode(value or b"").kind
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
