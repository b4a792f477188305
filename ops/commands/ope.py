"""`driftline ope`: what another policy would have earned on logged traffic, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from evaluation.ope.report import Estimate, Family, Settings, Weighted
    from ops.ope_csv import Columns
    from ops.progress import Lines

_FILE: dict[str, Any] = {"exists": True, "dir_okay": False, "readable": True}


def ope(
    log: Annotated[
        Path | None,
        typer.Option(
            help="A file of rounds: .csv, .jsonl (either .gz too) or .parquet with columns action, reward, propensity, "
            "and if there are any position, user, target. Without it: driftline's topics decisions and outcomes.",
            **_FILE,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="The policy to evaluate, TOML or JSON. Of a file: kind = uniform, empirical, softmax or column, see "
            "docs/off-policy.md; without it the column `target`, the policy's probability of the logged action. Of the "
            "topics: policy_temperature, policy_epsilon, policy_beta, policy_slate_size, and tables `terms` "
            "and `adjustments` of factors.",
            **_FILE,
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a file: the column of a role, like propensity=pscore; may be repeated.", metavar="ROLE=NAME"
        ),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(help="Of a file: columns that the reward model may use, by comma.", metavar="NAME,…"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Of the topics: slates from then on, by event time; or 7d."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Of the topics: slates before then.")
    ] = None,
    reward: Annotated[
        str,
        typer.Option(
            help="Of the topics: hit, 1 for any interaction with a shown item; or sum, the weights of all with it."
        ),
    ] = "hit",
    shown: Annotated[
        bool, typer.Option("--shown", help="Of the topics: only slates that an impression confirmed.")
    ] = False,
    most: Annotated[
        float | None,
        typer.Option(
            help="Largest reward that there can be, for the certain interval; known to be 1 where all rewards are 0 to "
            "1.",
        ),
    ] = None,
    beta: Annotated[
        list[float] | None,
        typer.Option(
            "--beta",
            min=0,
            help="Of the topics: which correction for popularity earns most? Give it twice or more, one policy_beta "
            "each; all else is as the log or --policy has it.",
        ),
    ] = None,
    clip: Annotated[float, typer.Option(help="Where clipped IPS cuts weights.", min=1)] = 20.0,
    level: Annotated[float, typer.Option(help="Of the intervals.", min=0.5, max=0.999)] = 0.95,
    replicates: Annotated[int, typer.Option(help="Of the bootstrap over users.", min=100)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Estimate what another policy would earn, from traffic of the one that ran; the exit status is 1 when the log
    cannot say.

    IPS, SNIPS, clipped IPS, doubly robust with and without shrinkage, for single actions and for slates, with
    intervals by user, and with what the weights look like. Where too little of the log resembles the policy nothing
    is said, and why.
    """
    from rich.console import Console

    from evaluation.ope.report import Settings, judged, logged_value
    from ops.progress import Lines

    if reward not in ("hit", "sum"):
        raise CliError(f"--reward is {reward!r}", "Expected hit or sum.")
    if log is None and policy is None and not beta:
        raise CliError("there is no --policy", "Name a file that says what to evaluate: docs/off-policy.md.")
    console = Console(stderr=True, highlight=False)
    if beta:
        _refuse({"--beta": log}, "is for the topics, not for a file of rounds")
        _refuse({"--most": most}, "is not for --beta: no certain interval is given")
        slates = since, until, reward == "hit", shown
        _of_betas(beta, policy, slates, Settings(level=level, replicates=replicates, clip=clip, seed=seed), as_json)
        return
    with Lines(console, "reading") as lines:
        if log is None:
            foreign = {"--column": column, "--context": context}
            _refuse(foreign, "is for a file of rounds: --log FILE")
            made = _of_topics(policy, since, until, reward == "hit", shown, lines)
        else:
            _refuse(
                {"--from": since, "--to": until, "--shown": shown or None},
                "is for the topics, not for a file of rounds",
            )
            made = _of_file(log, policy, _columns(column or [], context))
        rewards, cluster, left_out, families = made
        largest = most if most is not None else _most(rewards)
        settings = Settings(level=level, replicates=replicates, clip=clip, most=largest, seed=seed)
        if most is not None and (rewards.min() < 0 or rewards.max() > most):
            raise CliError(
                f"--most is {most:g}, and a reward is {rewards.min() if rewards.min() < 0 else rewards.max():g}",
                "Expected rewards from 0 to --most; without it no certain interval is given.",
            )
        lines.tell("drawing users")
        earned = logged_value(rewards, cluster, settings)
        found = [judged(family, cluster, settings) for family in families(settings)]
    if as_json:
        import json

        typer.echo(json.dumps(_plain(earned, found, left_out, settings), indent=2))
    else:
        _print(Console(highlight=False), earned, found, left_out)
    if all(family.reasons for family in found):
        raise typer.Exit(1)


def _refuse(options: dict[str, Any], why: str) -> None:
    for name, value in options.items():
        if value:
            raise CliError(f"{name} {why}", "Leave it out.")


def _most(rewards: Any) -> float:
    """1 where rewards can be probabilities; otherwise nobody has said."""
    import math

    return 1.0 if rewards.min() >= 0 and rewards.max() <= 1 else math.inf


def _columns(column: list[str], context: str | None) -> Columns:
    from ops.ope_csv import ROLES, Columns

    names: dict[str, str] = {}
    for text in column:
        role, _, name = text.partition("=")
        if role not in ROLES or not name or role in names:
            raise CliError(f"--column is {text!r}", f"Expected ROLE=NAME, each role once: {', '.join(ROLES)}.")
        names[role] = name
    return Columns(names, tuple(name.strip() for name in (context or "").split(",") if name.strip()))


def _of_file(path: Path, policy: Path | None, columns: Columns) -> tuple[Any, Any, dict[str, int], Any]:
    from evaluation.ope import bandit_log
    from ops.ope_csv import BanditPolicy, bandit_policy, log_and_target

    wanted = bandit_policy(policy) if policy is not None else BanditPolicy("column")
    log, target = log_and_target(path, columns, wanted)

    def families(settings: Settings) -> list[Weighted]:
        return _users(lambda: bandit_log.families(log, target, settings))

    return log.reward[:, None], log.cluster, {}, families


def _of_topics(
    policy: Path | None, since: str | None, until: str | None, hits: bool, shown: bool, lines: Lines
) -> tuple[Any, Any, dict[str, int], Any]:
    import asyncio

    from evaluation.ope import slate_families
    from evaluation.ope.slate_log import SlateLogBuilder, SlateTarget
    from ops.connection import connect
    from ops.kafka import reachable
    from ops.moments import millis
    from ops.ope_topics import read_slates, slate_target
    from ops.settings import load
    from streams.names import Topics

    target = slate_target(policy) if policy is not None else SlateTarget()
    begin, end = (millis(name, text) if text else None for name, text in (("--from", since), ("--to", until)))
    settings = load()
    cluster, topics = connect(settings), Topics(settings.topic_prefix)
    builder = SlateLogBuilder(target, hits=hits, shown=shown)
    with reachable(cluster):
        log = asyncio.run(
            read_slates(
                cluster, topics, builder, begin, end, lambda what, count: lines.tell(f"reading {what}: {count:,}")
            )
        )
    wrong = slate_families.unexplained(log)
    builder.left_out["its logits do not give its logged probabilities"] += int(wrong.sum())
    if wrong.all():
        raise CliError(
            "no slate's logits give its logged probabilities", "Was it drawn by another version? `driftline audit`."
        )
    log = slate_families.selected(log, ~wrong)

    def families(settings: Settings) -> list[Weighted]:
        def tell(done: int, size: int) -> None:
            lines.tell(f"probabilities of {done:,} of {size:,} slates")

        return _users(lambda: slate_families.families(log, settings, tell))

    return (
        log.rewards[:, : log.size],
        log.users,
        {reason: count for reason, count in builder.left_out.items() if count},
        families,
    )


def _of_betas(
    betas: list[float],
    policy: Path | None,
    slates: tuple[str | None, str | None, bool, bool],
    settings: Settings,
    as_json: bool,
) -> None:
    """Compare policies that differ in nothing but β."""
    from rich.console import Console

    from ops import ope_betas
    from ops.progress import Lines

    with Lines(Console(stderr=True, highlight=False), "reading") as lines:
        found = ope_betas.compared(betas, policy, *slates, settings, lines.tell)
    if as_json:
        import json

        typer.echo(json.dumps(found.plain(), indent=2))
    else:
        found.show(Console(highlight=False))
    if found.refused:
        raise typer.Exit(1)


def _users(make: Any) -> list[Weighted]:
    try:
        return list(make())
    except ValueError as error:
        raise CliError(str(error), "Expected rounds of two users at least; see docs/off-policy.md.") from error


def _plain(earned: Estimate, found: list[Family], left_out: dict[str, int], settings: Settings) -> dict[str, Any]:
    import math
    from dataclasses import asdict

    def tidy(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: tidy(one) for name, one in value.items()}
        if isinstance(value, (list, tuple)) and not hasattr(value, "_asdict"):
            return [tidy(one) for one in value]
        if hasattr(value, "_asdict"):
            return tidy(value._asdict())
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        return value

    whole: dict[str, Any] = tidy(
        {
            "settings": asdict(settings),
            "left_out": left_out,
            "logged": asdict(earned),
            "families": [asdict(family) | {"certain": family.certain} for family in found],
        }
    )
    return whole


def _print(console: Console, earned: Estimate, found: list[Family], left_out: dict[str, int]) -> None:
    first = found[0].overlap
    console.print(
        f"the log: {first.rounds:,} rounds of {first.clusters:,} users; it earned {_number(earned.value)} "
        f"[{_number(earned.low)}, {_number(earned.high)}] a round",
        markup=False,
    )
    for reason, count in left_out.items():
        console.print(f"{count:,} slates left out: {reason}", style="yellow", markup=False)
    for family in found:
        overlap = family.overlap
        console.print(f"\n{family.name}: right where a reward depends on {family.assumes}", style="bold", markup=False)
        console.print(
            f"weights: effective sample {overlap.effective:,.0f} of {overlap.clusters:,} users, "
            f"mean {overlap.mean:.3f} [{overlap.mean_low:.3f}, {overlap.mean_high:.3f}], "
            f"largest {overlap.largest:.1f}, {overlap.clipped:.1%} above the clip",
            style="dim",
            markup=False,
        )
        for reason in family.reasons:
            console.print(f"nothing is said: {reason}", style="red", markup=False)
        if not family.reasons:
            console.print(_table(family))
        if family.certain is not None:
            console.print(
                f"certain, whatever the distribution: [{_number(family.certain.low)}, {_number(family.certain.high)}]",
                style="dim",
                markup=False,
            )


def _table(family: Family) -> Table:
    from rich.table import Table

    table = Table("estimator", "value", "interval", "against the log", "", box=None, header_style="bold")
    for one in family.estimates:
        interval = "–" if one.low is None else rf"\[{_number(one.low)}, {_number(one.high)}]"
        against = "–"
        if one.difference is not None:
            against = (
                rf"{_number(one.difference, '+')} \[{_number(one.difference_low, '+')}, "
                f"{_number(one.difference_high, '+')}]"
            )
        notes: list[str] = [] if one.low is None else [one.verdict]
        notes += ["biased"] if one.biased else []
        table.add_row(one.name, _number(one.value), interval, against, ", ".join(notes))
    return table


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.4g}"
