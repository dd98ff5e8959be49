"""What the peers of a run earned, for people."""

from decimal import Decimal
from typing import Any

PLAY = (
    "play money: this run's ledger is a chain of its own with one operator, and its tokens are worth nothing"
)
_INDENT = " " * 18


def payday_lines(summary: dict[str, Any], folder: str) -> list[str]:
    """Who earned what and got what; nothing for a run without money. ``folder`` as one types it."""
    money = summary.get("money")
    if not money or "token" not in money:
        return []
    lines = ["", f"  {_headline(money)}", ""]
    lines += [f"    {line}" for line in _table(summary, money)]
    lines += ["", *(f"    {line}" for line in _details(summary, money))]
    if summary["finished"] and money["waits"]:
        lines += [f"    Not done yet: {why}." for why in money["waits"]]
        lines.append(f"    What goes on with that: distrai run {folder}")
    return lines


def _headline(money: dict[str, Any]) -> str:
    cap = f"at most {money['cap']} for a peer and round"
    return (
        f"What the peers were paid ({money['price']} {money['token']} for a million accepted tokens, {cap}):"
    )


def _table(summary: dict[str, Any], money: dict[str, Any]) -> list[str]:
    names = sorted({*summary["tokens_of"], *summary["earned"]})
    rows = [("peer", "accepted tokens", f"earned ({money['token']})", "claimed")]
    for name in names:
        tokens = f"{summary['tokens_of'].get(name, 0):,}"
        rows.append((name, tokens, summary["earned"].get(name, "0"), summary["claimed"].get(name, "0")))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _is_less(summary: dict[str, Any], money: dict[str, Any]) -> bool:
    """Whether somebody earned less than its tokens times the price."""
    whole = {name: Decimal(tokens) * Decimal(money["price"]) for name, tokens in summary["tokens_of"].items()}
    return any(Decimal(summary["earned"].get(name, "0")) * 10**6 < due for name, due in whole.items())


def _details(summary: dict[str, Any], money: dict[str, Any]) -> list[str]:
    epochs = "1 epoch" if money["epochs"] == 1 else f"{money['epochs']} epochs"
    back = f", {money['refunded']} went back to it" if money["refunded"] != "0" else ""
    lines = [f"The opener paid in {money['funded']}{back}; what was earned was settled in {epochs}."]
    if _is_less(summary, money):
        lines.append(
            "Less than price times tokens: what a round pays is capped, and rounds that take less than "
            f"{money['min_round_seconds']} s are not all paid."
        )
    if money["stake"] is not None:
        lines.append(f"Beside that each seat has {money['stake']} {money['token']} at stake.")
    if money["pending"] != "0":
        lines.append(f"{money['pending']} not paid yet ({money['unpaid']}).")
    lines.append(f"It is {PLAY}." if money["embedded"] else "Paid on the chain that the run is on.")
    lines.append(f"Label: {money['label']}. Accepted work is paid, and no audit has looked at it.")
    return lines
