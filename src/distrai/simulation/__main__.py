"""Replay one seed of a scenario, or run many: ``python -m distrai.simulation SCENARIO SEED [COUNT]``."""

import sys
import time

from distrai.simulation.scenarios import SCENARIOS
from distrai.simulation.simulate import simulate


def main(arguments: list[str]) -> int:
    """Run; returns 1 if a rule was broken."""
    if not 2 <= len(arguments) <= 3 or arguments[0] not in {*SCENARIOS, "all"}:
        sys.stderr.write(f"{__doc__}\nScenarios: {' '.join(SCENARIOS)}, or all\n")
        return 2
    first, count = int(arguments[1]), int(arguments[2]) if len(arguments) == 3 else 1
    names = list(SCENARIOS) if arguments[0] == "all" else [arguments[0]]
    broken = 0
    for name in names:
        began, events = time.perf_counter(), 0
        for seed in range(first, first + count):
            report = simulate(SCENARIOS[name], seed)
            events += report.events
            broken += bool(report.violations)
            if report.violations or count == 1:
                sys.stdout.write(f"{report}\n")
        seconds = time.perf_counter() - began
        sys.stdout.write(f"{name}: {count} seeds, {events} events, {events / seconds:.0f} a second\n")
    sys.stdout.write(f"{broken} seeds broke a rule\n")
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
