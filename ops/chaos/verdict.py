"""From the checker's findings to the figures of a report. Knows nothing of how anything was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.chaos.checker import Findings

if TYPE_CHECKING:
    from ops.chaos.reference import Comparison


def figures(found: Findings, compared: Comparison, poisons: int) -> dict[str, Any]:
    """The figures by their names in the report, and every finding in words.

    `compared`: with the replay; `poisons`: how many bad events were sent. A state counts once, however many ways it is
    wrong in.
    """
    wrong, account = found.wrong(), found.account
    wrong["wrong_states"] = list(
        {(one.partition, one.user): one for one in [*compared.wrong_states, *found.wrong_states]}.values()
    )
    wrong["wrong_slates"] = compared.slates
    return {
        "events": account.events,
        "slates": account.slates,
        "coalesced": account.coalesced,
        "erased": account.erased,
        "outcomes": found.outcome_count,
        "states": compared.states,
        **{name: len(listed) for name, listed in wrong.items()},
        "near_ties": compared.near_ties,
        "dead_letters_expected": poisons,
        "dead_letters": account.dead_letters,
        "findings": {name: [str(one) for one in listed] for name, listed in wrong.items() if listed},
    }
