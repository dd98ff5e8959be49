"""How many seeds of how many kinds of simulated networks break no rule? (3,180 seeds: 17 minutes of one core)

Seeds that are done are in build/bench/simulation/campaign.json, and are not run again until it is removed: do that
after every change of the engine.
"""

import argparse
import sys
from typing import Any

from common import BENCH, destination, report_head, write_json
from distrai.simulation.campaign import Campaign, plan, run_campaign

CAMPAIGN = BENCH / "simulation" / "campaign.json"


def summary(campaign: Campaign) -> dict[str, Any]:
    """Totals and, by scenario, how many seeds, what happened in them, and every violation with its seed."""
    rows = campaign.rows
    names = next(iter(rows.values())).totals
    return {
        "total": {
            "scenarios": len(rows),
            "seeds": sum(len(row.seeds) for row in rows.values()),
            "violations": campaign.broken,
            "cpu_s": round(sum(row.cpu_s for row in rows.values()), 1),
            **{name: sum(row.totals[name] for row in rows.values()) for name in names},
        },
        "scenarios": {
            name: {
                "seeds": len(row.seeds),
                "cpu_s": round(row.cpu_s, 2),
                **row.totals,
                "violations": row.violations,
            }
            for name, row in sorted(rows.items())
        },
    }


def main() -> int:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=3180, help="how many, over all scenarios in turn")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results")
    options = parser.parse_args()
    CAMPAIGN.parent.mkdir(parents=True, exist_ok=True)
    runs = plan(options.first, options.seeds)
    command = f"python -m distrai.simulation all {options.first} {options.seeds}"
    campaign = run_campaign(runs, options.jobs, CAMPAIGN, command)
    sys.stdout.write(f"{campaign.table()}\n")
    path = destination("simulation", options.keep)
    write_json(path, {**report_head(), "replay": command, **summary(campaign)})
    sys.stdout.write(f"written to {path.name}\n")
    return min(campaign.broken, 1)


if __name__ == "__main__":
    sys.exit(main())
