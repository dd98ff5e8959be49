"""What happens to stakes, in words; times are the ledger's."""

import shlex
from datetime import UTC, datetime
from typing import Any

from distrai.runs.telling import duration


def at_time(ledger_seconds: int, now: int | None = None) -> str:
    """A time of the ledger: in UTC, and how far away it is by the ledger's clock."""
    told = datetime.fromtimestamp(ledger_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if now is None or ledger_seconds <= now:
        return told
    return f"{told} (in {duration(ledger_seconds - now)} of ledger time)"


def step_text(event: dict[str, Any]) -> str:
    """A step on the way."""
    match event["event"]:
        case "transferred":
            return f"sent {event['amount']} {event['symbol']} from {event['from']} to {event['to']}"
        case "gas-sent":
            return f"sent {event['wei']} wei for gas to {event['to']}"
        case "left-run":
            return f"left run {event['run']}"
        case "exit-asked":
            return "asked for the stake; the seat counts no more, and certificates drop it"
        case "unbonding":
            return f"{event['unbonding']} tokens are on their way out"
        case other:
            return str(event.get("why", other))


def stake_text(told: dict[str, Any]) -> str:
    """What is staked now."""
    counts = "which counts for a seat" if told["active"] else "WHICH COUNTS FOR NO SEAT"
    return (
        f"Member {told['member'][:14]} has {told['staked']} tokens staked in run {told['run']} (needed: "
        f"{told['minimum']}), {counts}.\nIt comes back to {told['payout']} with `distrai unstake`. Next: `distrai join`"
    )


def unstake_text(told: dict[str, Any], run: str) -> str:
    """How far getting out has come, and what to do."""
    again = f"`distrai unstake {shlex.quote(run)} --home {shlex.quote(told['home'])}`"
    match told["state"]:
        case "paid-out":
            return f"Paid out {told['amount']} tokens to {told['payout']}."
        case "unbonding":
            when = at_time(told["release_at"], told["ledger_time"])
            return (
                f"{told['unbonding']} tokens are on their way out, and can be taken from {when} on. Until then faults "
                f"can be reported. Then: {again}"
            )
        case "seat-held":
            when = at_time(told["unbond_at"], told["ledger_time"])
            return (
                f"{told['staked']} tokens are asked for. They wait until a certificate drops the seat, at the latest "
                f"until {when}. Then: {again}"
            )
        case _:
            return f"Member {told['member'][:14]} has nothing staked in run {told['run']}."
