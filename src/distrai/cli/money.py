"""Stakes and rewards from the command line: ``stake unstake payout claim earnings estimate``."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from distrai.cli.output import tell
from distrai.cli.wallet import AnyWallet

Json = Annotated[bool, Parameter(negative=())]
WAIT_S = 60.0


def _report(*, as_json: bool) -> Callable[[dict[str, Any]], None]:
    """Where steps on the way are told: as JSON lines, or in words."""
    from distrai.runs.display import JsonLines
    from distrai.runs.money_text import step_text

    return JsonLines(sys.stdout).report if as_json else lambda event: print(step_text(event), flush=True)


def stake(
    run: str,
    /,
    *,
    amount: str | None = None,
    home: Path | None = None,
    payout: str = "",
    yes: Json = False,
    rpc: str = "",
    options: AnyWallet | None = None,
    json: Json = False,
) -> int:
    """Stake tokens for a seat of a run, before `distrai join` or with this peer stopped.

    The peer's own key stakes; what it lacks comes from the wallet. The whole stake comes back with `distrai unstake`,
    less what two different updates for one place cost.

    Parameters
    ----------
    run
        The folder of a run on this machine, or its link.
    amount
        How many tokens more, like 12.5; what is missing for a seat if not given.
    home
        The peer's home; the one that `distrai join` takes for this run, if not given.
    payout
        The address to which stake and rewards go; the wallet's if not given, else the peer's own.
    yes
        Do not ask before staking what the run asks for.
    rpc
        A node of the chain that you trust, instead of the one that the link names.
    json
        Print JSON: what was done on the way, and one object at the end.
    """
    from distrai.runs.caution import confirm_on_terminal, confirmed
    from distrai.runs.membership import payout_of
    from distrai.runs.money_text import stake_text
    from distrai.runs.staking import stake_in

    wallet = (options or AnyWallet()).chosen()
    confirm = confirmed if yes else confirm_on_terminal
    goes_to = payout_of(payout, wallet)
    told = stake_in(run, home, amount, goes_to, wallet, _report(as_json=json), confirm, rpc)
    tell(told, stake_text(told), as_json=json)
    return 0


def unstake(
    run: str,
    /,
    *,
    home: Path | None = None,
    wait: float = WAIT_S,
    options: AnyWallet | None = None,
    json: Json = False,
) -> int:
    """Get a stake back: leave the run, ask for it, wait, take it out. Given again, it goes on where it was.

    Parameters
    ----------
    run
        The folder of a run on this machine, or its link.
    home
        The peer's home; the one that `distrai join` takes for this run, if not given. The peer must not run.
    wait
        Seconds to wait for what takes time; after them it says until when that lasts.
    json
        Print JSON: what was done on the way, and one object at the end.
    """
    from distrai.runs.money_text import unstake_text
    from distrai.runs.staking import unstake_from

    told = unstake_from(run, home, wait, (options or AnyWallet()).chosen(), _report(as_json=json))
    tell(told, unstake_text(told, run), as_json=json)
    return 0


def payout(run: str, address: str, /, *, home: Path | None = None, json: Json = False) -> int:
    """Let a member's rewards and stake go to another address. Its peer must not run.

    Parameters
    ----------
    run
        The folder of a run on this machine, or its link.
    address
        Where they go from now on, also what was earned and not claimed.
    home
        The peer's home; the one that `distrai join` takes for this run, if not given.
    json
        Print one JSON object.
    """
    from distrai.runs.membership import set_payout

    told = set_payout(run, home, address)
    text = f"What member {told['member'][:14]} earns goes to {told['payout']} from now on."
    tell(told, text, as_json=json)
    return 0


def claim(
    run: str,
    /,
    *,
    member: str = "",
    home: Path | None = None,
    options: AnyWallet | None = None,
    json: Json = False,
) -> int:
    """Have paid out what members have earned, to their payout addresses. Nothing is ever paid twice.

    Where gas costs something the wallet pays it. Exits with 1 if something payable could not be paid.

    Parameters
    ----------
    run
        The folder of a run on this machine, or its link.
    member
        A member's id; all whose homes are on this machine, if not given.
    home
        A peer's home, if it is not where `distrai join` puts it.
    json
        Print one JSON object.
    """
    from distrai.runs.earning import claim_in
    from distrai.runs.earnings_text import claims_text

    told = claim_in(run, home, member, (options or AnyWallet()).chosen())
    tell(told, claims_text(told), as_json=json)
    return 0 if told["ok"] else 1


def earnings(
    run: str,
    /,
    *,
    member: str = "",
    home: Path | None = None,
    estimate: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
) -> int:
    """What members have earned in a run: pending, audited, payable, paid, each with what shows it.

    Parameters
    ----------
    run
        The folder of a run on this machine, or its link.
    member
        A member's id; all that earned something, if not given.
    home
        A peer's home, if it is not where `distrai join` puts it.
    estimate
        Say what taking part may bring instead, as `distrai estimate` does.
    json
        Print one JSON object.
    """
    if estimate:
        return estimate_(run, home=home, json=json)
    from distrai.runs.earning import earnings_of
    from distrai.runs.earnings_text import earnings_text

    told = earnings_of(run, home, member)
    tell(told, earnings_text(told), as_json=json)
    return 0


def estimate_(run: str, /, *, home: Path | None = None, rounds: int = 32, json: Json = False) -> int:
    """What taking part in a run may bring: price, peers, acceptance rate, earnings per round, hour and day.

    Parameters
    ----------
    run
        The folder of a run on this machine, or its link.
    home
        A peer's home, if it is not where `distrai join` puts it.
    rounds
        How many of the last rounds to look at.
    json
        Print one JSON object.
    """
    from distrai.runs.earnings_text import estimate_text
    from distrai.runs.estimate import estimate_of

    told = estimate_of(run, home, rounds)
    tell(told, estimate_text(told), as_json=json)
    return 0
