"""What came of verifying a ledger, as data and as text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distrai.protocol.amounts import format_amount
from distrai.runs.ledger_checks.pots import PotCheck


@dataclass
class Report:
    """What was checked, and what does not add up. ``paid`` and ``owed`` are base units."""

    decimals: int = 0
    block: int = 0
    runs: int = 0
    certificates: int = 0
    roots: int = 0
    recomputed: int = 0
    by_table: int = 0
    records: int = 0
    paid: int = 0
    owed: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything adds up."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """As plain data; amounts in whole tokens."""
        return {
            "ok": self.ok,
            "certificates": self.certificates,
            "roots": self.roots,
            "records": self.records,
            "paid": format_amount(self.paid, self.decimals),
            "owed": format_amount(self.owed, self.decimals),
            "runs": self.runs,
            "block": self.block,
            "roots_recomputed": self.recomputed,
            "roots_by_table": self.by_table,
            "roots_unchecked": self.roots - self.recomputed - self.by_table,
            "problems": list(self.problems),
        }


def unchecked(pot: PotCheck) -> list[str]:
    """The roots that nothing in the folder explains."""
    named = (
        known.settled
        for known, earnings in zip(pot.pot.epochs, pot.earnings, strict=True)
        if earnings is None
    )
    return [
        f"run {settled.run}: the root of epoch {settled.epoch} cannot be checked: neither its table nor the lists of "
        "its rounds are in the folder"
        for settled in named
    ]


def ledger_verify_text(told: Mapping[str, Any]) -> str:
    """The same for people."""
    roots = (
        f"{told['roots']} ({told['roots_recomputed']} recomputed from lists, {told['roots_by_table']} checked against "
        f"their tables, {told['roots_unchecked']} not checked)"
    )
    lines = [
        f"  certificates   {told['certificates']}"
        + (", each signed by two thirds of its seats" if told["ok"] else ""),
        f"  roots          {roots}",
        f"  records        {told['records']}",
        f"  paid, owed     {told['paid']}, {told['owed']}",
    ]
    if told["ok"]:
        return "\n".join([f"the ledger adds up, as of block {told['block']}", *lines])
    return "\n".join(
        [f"the ledger does not add up, as of block {told['block']}", *told["problems"], "", *lines]
    )
