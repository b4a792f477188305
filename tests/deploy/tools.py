"""Programs that the checks of deploy/ run: helm and promtool, from PATH or from where `make deploy-check` puts them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "driftline" / "tools"


def tool(name: str) -> str:
    """Its path. Where it is not there the test says that it skipped, unless nothing may be (DEPLOY_CHECK=1)."""
    found = shutil.which(name) or shutil.which(name, path=str(TOOLS))
    if found is None:
        problem = f"{name} is not on this machine: `make deploy-check` gets it"
        if os.environ.get("DEPLOY_CHECK"):
            pytest.fail(problem)
        pytest.skip(problem)
    return found


def run(*command: str | Path, cwd: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=280)
