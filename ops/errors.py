"""The one error that reaches the person at the terminal: what is wrong, and what to do next.

Knows nothing about the command line that prints it, nor about the parts that raise it.
"""

from __future__ import annotations


class CliError(Exception):
    """A problem in one line, with the next step in another; never shown with a traceback."""

    def __init__(self, problem: str, next_step: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.problem}\n{self.next_step}" if self.next_step else self.problem
