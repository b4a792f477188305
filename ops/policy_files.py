"""A policy as people write it down, for a replay or an off-policy estimate: names and values.

Knows nothing of what the names mean.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from ops.errors import CliError


def read_policy_file(path: Path) -> dict[str, Any]:
    """Names and values of a TOML file, or of JSON in a .json. Raises CliError."""
    read = json.loads if path.suffix == ".json" else tomllib.loads
    try:
        found = read(path.read_text())
    except (OSError, ValueError) as error:
        raise CliError(
            f"the policy file {path} cannot be read: {error}", "Expected TOML, or JSON in a .json."
        ) from error
    if not isinstance(found, dict):
        raise CliError(f"the policy file {path} holds a {type(found).__name__}", "Expected names and values.")
    return found
