"""Ports of the loopback interface: find a free one, and ask whether one is free or answers.

Knows nothing about who uses them.
"""

from __future__ import annotations

import random
import socket

from ops.errors import CliError

HOST = "127.0.0.1"

# Below the range the system uses for outgoing connections (from 32768 on Linux, 49152 elsewhere): otherwise a
# client that retries a stopped broker's port can be given that very port, and connects to itself.
_RANGE = range(20000, 32000)


def free() -> int:
    """A port nobody uses now."""
    for port in random.sample(_RANGE, 200):
        if is_free(port):
            return port
    raise CliError(f"no free port between {_RANGE.start} and {_RANGE.stop}", "Choose one with --port.")


def checked(port: int) -> int:
    """The port itself; CliError when another program uses it."""
    if not is_free(port):
        raise CliError(
            f"port {port} is taken by another program",
            "Stop that program, or choose another port: `driftline kafka start --port N`.",
        )
    return port


def is_free(port: int) -> bool:
    """Whether a server could listen on it."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: old connections don't count
        try:
            attempt.bind((HOST, port))
        except OSError:
            return False
    return True


def is_open(port: int) -> bool:
    """Whether somebody accepts connections on it."""
    with socket.socket() as attempt:
        attempt.settimeout(1)
        return attempt.connect_ex((HOST, port)) == 0
