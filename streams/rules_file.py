"""The rules file, read again when it has changed; a broken one keeps the last good rules in force.

Looks at the file's time and size before every batch, which costs microseconds, and at its content when they are others.
Knows nothing of Kafka or of what rules do.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import structlog

from policy.rules import RuleError, Rules

log = structlog.get_logger(__name__)


class RulesFile:
    """The rules of a file, as it is now. `path` None: no rules.

    Attributes:
        digest: of the content of the rules in force, 16 hex digits; None without a file, or before a good one.
        problem: why the file as it stands is not followed; None when it is.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.digest: str | None = None
        self.problem: str | None = None
        self._rules = Rules()
        self._seen: tuple[int, int, int] | None = None

    def rules(self) -> Rules:
        """The rules in force: the file's, or, while it cannot be read or followed, the last good ones."""
        if self.path is None:
            return self._rules
        try:
            found = self.path.stat()
            mark = (found.st_mtime_ns, found.st_size, found.st_ino)
            if mark != self._seen:
                self._seen = mark
                self._take(self.path.read_bytes())
        except (OSError, RuleError) as error:
            if isinstance(error, OSError):
                self._seen = None
            self._complain(str(error))
        return self._rules

    def _take(self, content: bytes) -> None:
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        rules = parsed(content)
        if self.problem is not None or digest != self.digest:
            log.info("rules in force", path=str(self.path), rules=digest)
        self._rules, self.digest, self.problem = rules, digest, None

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            kept = f"the rules {self.digest} stay in force" if self.digest else "no rules are in force"
            log.error(f"the rules file cannot be followed: {problem}; {kept}", path=str(self.path))
        self.problem = problem


def parsed(content: bytes) -> Rules:
    """The rules that a file's content states. Raises RuleError, for TOML that cannot be read too."""
    try:
        return Rules.of(tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RuleError(f"not TOML: {error}") from error
