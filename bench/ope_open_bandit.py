"""Off-policy estimates on the small Open Bandit files, in both directions, beside what the other policy really earned.

    python -m bench.ope_open_bandit [--data FOLDER]

Six logs of 10,000 impressions: three campaigns, shown by a uniformly random policy and by Bernoulli Thompson sampling
(bts). random → bts: the target is bts, whose probabilities are taken to be its frequencies by position in its own log;
it learned during the week, so that this is its average. bts → random: the target is uniform over the campaign's items.
Prints the table of docs/off-policy.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from evaluation.ope import bandit_log
from evaluation.ope.report import Family, Settings, judged, logged_value
from ops.datasets import OPEN_BANDIT_CAMPAIGNS, open_bandit
from ops.ope_csv import Columns, bandit_policy, log_and_target
from ops.settings import default_data_dir

COLUMNS = Columns(
    {"action": "item_id", "reward": "click", "propensity": "propensity_score"},
    [f"user_feature_{number}" for number in range(4)],
)
SETTINGS = Settings(compare=False)
HEADER = ("campaign", "direction", "really", "effective", "largest", "mean", "estimator", "value", "interval")


def evaluated(path: Path, policy: str) -> tuple[float, Family]:
    """What the log earned, and what is said of the policy of a file's text."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(policy)
        file.flush()
        log, target = log_and_target(path, COLUMNS, bandit_policy(Path(file.name)))
    (family,) = bandit_log.families(log, target, SETTINGS)
    earned = logged_value(log.reward[:, None], log.cluster, SETTINGS).value
    return float(earned or 0.0), judged(family, log.cluster, SETTINGS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data_dir() / "datasets")
    files = open_bandit(parser.parse_args().data)
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER))
    for campaign in OPEN_BANDIT_CAMPAIGNS:
        random, bts = files["random", campaign], files["bts", campaign]
        for direction, log, other, policy in (
            ("random → bts", random, bts, f'kind = "empirical"\nlog = "{bts}"'),
            ("bts → random", bts, random, 'kind = "uniform"'),
        ):
            _, family = evaluated(log, policy)
            truth, _ = evaluated(other, 'kind = "uniform"')
            seen, first = family.overlap, True
            for one in family.estimates:
                about = [campaign, direction, f"{1e3 * truth:.1f}", f"{seen.effective:,.0f}", f"{seen.largest:,.0f}"]
                about.append(f"{seen.mean:.2f}")
                value = "refused" if one.value is None else f"{1e3 * one.value:.2f}"
                ends = "–" if one.low is None or one.high is None else f"{1e3 * one.low:.1f} to {1e3 * one.high:.1f}"
                print("| " + " | ".join([*(about if first else [""] * 6), one.name, value, ends]) + " |", flush=True)
                first = False


if __name__ == "__main__":
    main()
