"""The command line: instant help, problems in one line, tracebacks only on demand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from ops import cli
from ops.errors import CliError

Run = Callable[..., tuple[int, str, str]]

HEAVY = ("torch", "faust", "aiokafka", "transformers", "faiss", "pandas", "pydantic_settings", "jgo")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `driftline` with the arguments; exit status, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["driftline", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Make every command fail."""

    def fail(error: Exception) -> None:
        def app(**_: object) -> None:
            raise error

        monkeypatch.setattr(cli, "app", app)

    return fail


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ops import cli\n"
        "sys.argv = ['driftline', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        f"print('heavy:', sorted({set(HEAVY)!r} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Usage: driftline [OPTIONS] COMMAND" in shown
    assert shown.splitlines()[-1] == "heavy: []"


def test_every_command_says_what_it_does(run: Run) -> None:
    assert all(group.help for group in cli.app.registered_groups)
    commands = list(cli.app.registered_commands)
    for group in cli.app.registered_groups:
        assert group.typer_instance is not None
        commands += group.typer_instance.registered_commands
    assert all(command.callback is not None and command.callback.__doc__ for command in commands)
    assert run("kafka", "start", "--help")[0] == 0


def test_version(run: Run) -> None:
    status, shown, _ = run("--version")
    assert status == 0 and shown.startswith("driftline")


def test_a_wrong_command_names_the_right_one(run: Run) -> None:
    status, _, said = run("kafka", "strat")
    assert status == 2 and "start" in said


def test_a_problem_is_one_line_and_a_next_step(run: Run, failing: Callable[[Exception], None]) -> None:
    failing(CliError("no disk", "Buy one."))
    assert run("settings") == (1, "", "error: no disk\nBuy one.\n")


def test_a_bug_is_one_line_too(run: Run, failing: Callable[[Exception], None]) -> None:
    failing(ZeroDivisionError("division by zero"))
    status, _, said = run("settings")
    assert status == 1
    assert said.startswith("error: ZeroDivisionError: division by zero\n") and "DRIFTLINE_DEBUG=1" in said


@pytest.mark.parametrize("error", [CliError("no disk"), ZeroDivisionError()])
def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, failing: Callable[[Exception], None], error: Exception
) -> None:
    failing(error)
    monkeypatch.setenv("DRIFTLINE_DEBUG", "1")
    with pytest.raises(type(error)):
        cli.main()


def test_bash_completes_commands_and_known_values(tmp_path: Path) -> None:
    """What a person's bash does with the script that his start-up file evaluates."""
    command = tmp_path / "driftline"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ops.cli "$@"\n')
    command.chmod(0o755)
    words = ["driftline", "doctor", "--role", "emb"]
    script = (
        'eval "$(_DRIFTLINE_COMPLETE=source_bash driftline)"\n'
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
        '_driftline_completion driftline; echo "${COMPREPLY[@]}"'
    )
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert shown.stdout == "embedder\n", shown.stderr


def test_typer_does_not_share_click_with_faust() -> None:
    """faust needs an older click than typer's documentation asks for; typer carries its own."""
    import click

    assert click.__name__ == "click" and not issubclass(typer.BadParameter, click.ClickException)
