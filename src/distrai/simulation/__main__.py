"""Replay one seed of a scenario, or run many.

python -m distrai.simulation SCENARIO SEED              replay one
python -m distrai.simulation SCENARIO FIRST COUNT       seeds FIRST, FIRST + 1, ... of one scenario
python -m distrai.simulation all FIRST COUNT            COUNT runs over all scenarios in turn

--jobs N: so many processes (1). --json FILE: write the figures there; runs that it has already are not done again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from distrai.simulation.campaign import NAMES, plan, run_campaign, run_one


def main(arguments: Sequence[str]) -> int:
    """Run; returns 1 if a rule was broken, 2 for arguments that make no sense."""
    parser = argparse.ArgumentParser(
        "python -m distrai.simulation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("scenario", choices=["all", *NAMES], metavar="SCENARIO", help=", ".join(NAMES))
    parser.add_argument("first", type=int, metavar="SEED")
    parser.add_argument("count", type=int, nargs="?", default=1, metavar="COUNT")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.count == 1 and options.scenario != "all" and options.json is None:
        report, _ = run_one((options.scenario, options.first))
        sys.stdout.write(f"{report}\n")
        return min(len(report.violations), 1)
    seeds = range(options.first, options.first + options.count)
    runs = (
        plan(options.first, options.count)
        if options.scenario == "all"
        else [(options.scenario, seed) for seed in seeds]
    )
    command = f"python -m distrai.simulation {options.scenario} {options.first} {options.count}"
    campaign = run_campaign(runs, options.jobs, options.json, command)
    sys.stdout.write(f"{campaign.table()}\n")
    return min(campaign.broken, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
