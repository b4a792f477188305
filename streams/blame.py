"""What may be said in a log of an error that a message may have caused: its type and place, not its words.

The words of an error often hold what it was about: an id, a field, a payload. Knows nothing of who logs.
"""

from __future__ import annotations

import traceback


class Plain(Exception):
    """An error whose words are this project's own and hold nothing of a message: they may be logged."""


def told(error: BaseException) -> str:
    """One line for a log."""
    if isinstance(error, Plain):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}{place}"


def way(error: BaseException) -> str:
    """The whole traceback without the words of its errors: the types of the chain, and the way to the last."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    parts = ["".join(traceback.format_tb(one.__traceback__)) + told(one) for one in reversed(chain)]
    return "\n\nfrom this came:\n\n".join(parts)
