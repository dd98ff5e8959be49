"""What does the ledger cost a month, with 10,000 peers? Gas is measured here, by the embedded chain's rules (seconds).

The same figures as in ``contracts/.gas-snapshot``, to which the tests hold the contracts, times a price that is an
assumption: ``--gwei`` (the gas price of an L2) and ``--eth`` (dollars for one ether). Both are in the report.
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from typing import Any

from common import ROOT, destination, report_head, write_json

sys.path.insert(0, str(ROOT / "tests"))

from contracts.support.evm import Contract, Evm
from contracts.support.money import Economy, deploy_all
from contracts.support.players import World
from contracts.test_gas import committed, measured, measured_money
from distrai.ledger.abi import load_artifact

PEERS, DAYS, ROUND_S = 10_000, 30, 600
ROUNDS = DAYS * 86_400 // ROUND_S
WEEKS = DAYS / 7
GWEI, ETH_USD = 0.006, 3_000.0


@dataclass(frozen=True)
class Row:
    """One line of the table: transactions of one kind in a month, and who pays for them."""

    what: str
    paid_by: str
    """One operator, each peer for itself, or nobody: what the design does not do."""
    times: float
    gas_each: int
    gas: float
    usd: float


def measure() -> dict[str, int]:
    """Gas of everything, as ``tests/contracts/test_gas.py`` measures it."""
    evm, artifact = Evm(), load_artifact("RunRegistry")
    contracts = deploy_all(evm, Contract(evm, artifact.abi, artifact.bytecode, b"\xdd" * 20))
    point = evm.snapshot()
    gas = measured(World(evm, contracts.registry))
    evm.revert(point)
    return gas | measured_money(Economy(contracts, World(evm, contracts.registry)))


def table(gas: dict[str, int], usd_per_gas: float) -> list[Row]:
    """What a month costs, and whom."""

    def row(what: str, paid_by: str, times: float, *actions: str) -> Row:
        each = sum(gas[action] for action in actions)
        return Row(what, paid_by, round(times, 2), each, times * each, round(times * each * usd_per_gas, 5))

    return [
        row("a transaction per peer and round", "nobody", PEERS * ROUNDS, "announce"),
        row("a certificate per round, 43 of 64 seats sign", "operator", ROUNDS, "certify, 43 of 64"),
        row("a certificate per round, 3 of 4 seats sign", "operator", ROUNDS, "certify, 3 of 4"),
        row("an epoch a day, 43 of 64 seats sign", "operator", DAYS, "markHead", "settle, 43 of 64"),
        row("an epoch a day, 3 of 4 seats sign", "operator", DAYS, "markHead", "settle, 3 of 4"),
        row(
            "open a run, its pot and its record, once",
            "operator",
            1,
            "open",
            "openPot",
            "fund",
            "open a record",
        ),
        row("let 10,000 peers earn, once (until there are audits)", "operator", PEERS, "allow"),
        row("register, stake and join, once", "each peer", 1, "register", "stake", "join, started"),
        row("a claim a week", "each peer", WEEKS, "claim, again"),
    ]


def as_text(rows: list[Row]) -> str:
    """The table for people."""
    lines = [f"{'what':<54}{'paid by':<11}{'times':>12}{'gas each':>11}{'M gas':>13}{'USD':>12}"]
    lines += [
        f"{row.what:<54}{row.paid_by:<11}{row.times:>12,.1f}{row.gas_each:>11,}{row.gas / 1e6:>13,.2f}{row.usd:>12,.4f}"
        for row in rows
    ]
    return "\n".join(lines)


def report(gas: dict[str, int], rows: list[Row], gwei: float, eth_usd: float) -> dict[str, Any]:
    """Everything that the table rests on, and the table."""
    first, many = gas["certify, 3 of 4"], gas["certify, 43 of 64"]
    per_signature = (many - first) / 40
    return {
        **report_head(),
        "assumptions": {
            "peers": PEERS,
            "days": DAYS,
            "round_s": ROUND_S,
            "gas_price_gwei": gwei,
            "usd_per_eth": eth_usd,
        },
        "certificate": {
            "gas_per_signature": round(per_signature, 1),
            "gas_without_signatures": round(first - 3 * per_signature),
        },
        "largest_difference_to_snapshot": max(
            abs(gas[name] / kept - 1) for name, kept in committed().items()
        ),
        "rows": [asdict(row) for row in rows],
        "gas": gas,
    }


def main() -> int:
    """Measure, multiply, write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gwei", type=float, default=GWEI, help="the gas price")
    parser.add_argument("--eth", type=float, default=ETH_USD, help="dollars for one ether")
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results")
    options = parser.parse_args()
    gas = measure()
    rows = table(gas, options.gwei * 1e-9 * options.eth)
    sys.stdout.write(f"{as_text(rows)}\n")
    path = destination("ledger_costs", options.keep)
    write_json(path, report(gas, rows, options.gwei, options.eth))
    sys.stdout.write(f"written to {path.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
