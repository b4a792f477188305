"""The host ends as it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, sys
from pathlib import Path
from streams.host import faust_app, host, run

class Stubborn:
    async def run(self):
        print("running", flush=True)
        await asyncio.Event().wait()
    def stop(self):
        print("stopping", flush=True)
    def status(self):
        return {"ready": True}

app = faust_app("stubborn", Path(sys.argv[1]))
host(app, Stubborn)
asyncio.run(run(app))
"""


def test_a_second_signal_ends_a_job_that_does_not_stop(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for expected in ("running\n", "stopping\n"):
                assert process.stdout.readline() == expected
                process.send_signal(signal.SIGTERM)
            assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()
