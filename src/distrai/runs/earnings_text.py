"""Earnings, claims and estimates for people: every amount with its state and with what shows it."""

from typing import Any

from distrai.runs.money_text import at_time
from distrai.runs.telling import printable

_WIDTH = 10
_SHORT = 14


def earnings_text(told: dict[str, Any]) -> str:
    """What every member has in a run."""
    lines = [f"Run {told['run']}, {printable(told['name'])} ({told['trust']}; amounts in whole tokens)"]
    if not told["members"]:
        lines.append("  Nobody has earned anything yet.")
    for member in told["members"]:
        lines += ["", *_member(member, told["ledger_time"])]
    lines += [
        "",
        f"  all together: {told['paid']} paid, {told['owed']} owed; distributor {told['distributor']}",
    ]
    lines += [f"  Note: {sentence}" for sentence in told["missing"]]
    return "\n".join(lines)


def _member(member: dict[str, Any], now: int) -> list[str]:
    evidence = member["evidence"]
    where = " (here)" if member["here"] else ""
    allowed = "" if member["allowed"] else "; its run's owner does not let it earn"
    return [
        f"  member {member['member']}{where} has earned {member['earned']}{allowed}",
        _state("pending", member["pending"], _pending(member, now)),
        _state("audited", member["audited"], "there are no audits yet"),
        _state("payable", member["payable"], _root(evidence["payable"], "with `distrai claim`")),
        _state("paid", member["paid"], _payments(evidence["paid"])),
    ]


def _state(name: str, amount: str, why: str) -> str:
    return f"    {name:<{_WIDTH}}{amount:>{_WIDTH}}{'   ' + why if why else ''}"


def _pending(member: dict[str, Any], now: int) -> str:
    root, rounds = member["evidence"]["pending"], member["evidence"]["rounds"]
    newer = [work for work in rounds if work["round"] > member["settled_until"]]
    parts = [member["label"]] if member["pending"] != "0" else []
    if root is not None:
        when = at_time(root["active_from"], now)
        parts.append(f"epoch {root['epoch']}, root {root['root'][:_SHORT]}, payable from {when}")
    if newer and member["pending"] != "0":
        first, last = newer[0]["round"], newer[-1]["round"]
        rounds = f"round {last}" if first == last else f"rounds {first} to {last}"
        parts.append(f"{rounds}, last update {newer[-1]['update'][:_SHORT]}")
    return "; ".join(parts)


def _root(root: dict[str, Any] | None, how: str) -> str:
    if root is None:
        return ""
    return f"{how}: rounds until {root['last_round']}, epoch {root['epoch']}, root {root['root'][:_SHORT]}"


def _payments(payments: list[dict[str, Any]]) -> str:
    if not payments:
        return ""
    last = payments[-1]
    more = f" and {len(payments) - 1} before" if len(payments) > 1 else ""
    return f"{last['amount']} of epoch {last['epoch']} by transaction {last['transaction']}{more}"


def claims_text(told: dict[str, Any]) -> str:
    """What came of claiming."""
    return "\n".join(_claim(claim) for claim in told["claims"])


def _claim(claim: dict[str, Any]) -> str:
    who = f"member {claim['member'][:_SHORT]}"
    paid = f"{claim['claimed']} in all"
    proof = f" (transaction {claim['transaction']})" if claim["transaction"] else ""
    got = f"paid {claim['amount']} to {claim['payout']}, " if claim["amount"] != "0" else ""
    match claim["state"]:
        case "paid":
            return f"{who}: {got}{paid}{proof}"
        case "confirming":
            return f"{who}: {got}{paid}{proof}, not final yet: {claim['why']}"
        case "waiting" if claim["payable_from"] is not None:
            when = at_time(claim["payable_from"], claim["ledger_time"])
            return f"{who}: {got}{paid}; epoch {claim['epoch']} is payable from {when}: {claim['why']}"
        case "nothing":
            return f"{who}: nothing to pay now, {paid}: {claim['why']}"
        case _:
            return f"{who}: {got}{paid}; {claim['why']}"


def estimate_text(told: dict[str, Any]) -> str:
    """What taking part may bring, and what nobody knows."""
    head = f"Run {told['run']}, {printable(told['name'])} ({told['trust']})"
    stake = [f"  stake             {told['stake']} for a seat, which come back"] if "stake" in told else []
    if not told["pays"]:
        return "\n".join([head, "  pays              nothing", *stake])
    seen = f"over {told['rounds_listed']} of the last {told['rounds_seen']} rounds"
    rate = told["acceptance_rate"]
    per_hour = "not known" if told["rounds_per_hour"] is None else f"{told['rounds_per_hour']:g}"
    rows = [
        ("price", f"{told['price']} for a million accepted tokens, at most {told['cap']} a round and member"),
        ("verified round", f"{told['price_per_round']} ({told['tokens_per_round']:,} tokens)"),
        ("peers", f"{told['peers']} (the price is fixed: it does not depend on them)"),
        ("acceptance rate", "not known" if rate is None else f"{100 * rate:.1f} %, {seen}"),
        ("rounds per hour", per_hour),
        ("funded", f"until non-empty round {told['funded_until']}; {told['worked']} are over"),
        (
            "expected",
            f"{told['expected_per_round']} per round" if told["paying"] else "nothing from now on: see below",
        ),
    ]
    if told["paying"] and told["expected_per_hour"] is not None:
        rows += [("", f"{told['expected_per_hour']} per hour"), ("", f"{told['expected_per_day']} per day")]
    lines = [f"  {name:<18}{text}" for name, text in rows]
    unknown = [f"    - {sentence}" for sentence in told["unknown"]]
    return "\n".join(
        [head, *lines, *stake, f"  formula: {told['formula']}", "  Not known, or to be known:", *unknown]
    )
