"""What taking part in a run may bring, from what its ledger and the lists on this machine show of its last rounds."""

import asyncio
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from distrai.ledger.pots import PotsClient, PotState
from distrai.ledger.rpc import Patience, Rpc, read_quantity
from distrai.peer.circle import round_of
from distrai.peer.feed import LedgerFeed
from distrai.peer.public import PublicFolder
from distrai.protocol.amounts import format_amount
from distrai.protocol.estimate import Estimate, SeenRound, estimate
from distrai.protocol.history import enrol
from distrai.protocol.ledger_events import Certified, LedgerEvent, RollCalled
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.recipe import ResolvedRecipe
from distrai.protocol.rewards import RewardTerms, accepted_tokens
from distrai.runs.money import RunMoney, open_money
from distrai.runs.telling import TRUST

ROUNDS = 32
"""How many of the last rounds are looked at, if nobody says."""
FORMULA = (
    "expected per round = acceptance rate x min(accepted tokens x price / 1,000,000, cap); per hour = that x non-empty "
    "rounds per hour, at most one in min_round_seconds"
)


def estimate_of(what: str, home: Path | None, rounds: int = ROUNDS) -> dict[str, Any]:
    """``distrai estimate``. Raises NoMoney and what ``open_money`` raises."""

    if rounds < 2:
        raise ValueError(f"--rounds {rounds} is too few: how fast rounds are takes two of them")

    async def run() -> dict[str, Any]:
        async with open_money(what, home) as money:
            return await estimate_for(money, rounds)

    return asyncio.run(run())


async def estimate_for(money: RunMoney, rounds: int = ROUNDS) -> dict[str, Any]:
    """What may be expected, as plain data; ``pays`` is false for a run that only asks for stakes."""
    told: dict[str, Any] = {"ok": True, "run": money.run, "name": money.resolved.recipe.name, "trust": TRUST}
    recipe, contracts = money.resolved.recipe, money.contracts
    if recipe.stake is not None:
        told["stake"] = recipe.stake.minimum
    if recipe.rewards is None:
        return told | {"pays": False}
    pots = await PotsClient.connect(money.url, contracts.rewards, money.link.chain_id)
    try:
        pot = await pots.pot_of(money.run)
        funded_until = 0 if pot is None else await pots.funded_until(money.run)
        mine = await _allowed(money, pots)
    finally:
        await pots.close()
    events = await LedgerFeed(money.ledger, money.run).next()
    terms = recipe.rewards.terms(contracts.decimals) if pot is None else pot.terms
    seen, roster = _seen(events, await _times(money, events, rounds), money.homes_and_archive(), rounds)
    made = estimate(terms, seen, len(roster), round_tokens(money.resolved))
    worked = sum(isinstance(event, Certified) and not event.body.is_empty for event in events)
    return told | {
        "pays": True,
        **_told(made, terms, contracts.decimals),
        "paying": pot is not None and not pot.closed_at and funded_until > worked,
        "worked": worked,
        "funded_until": funded_until,
        "allowed": mine,
        "unknown": _unknown(made, pot, worked, funded_until, mine),
    }


def round_tokens(resolved: ResolvedRecipe) -> int:
    """The tokens of a member that does all inner steps of a round."""
    training, steps = resolved.recipe.training, resolved.recipe.algorithm.inner_steps
    assert steps is not None, "a resolved recipe says everything"
    return training.batch * training.accumulation * resolved.recipe.data.context * steps


async def _allowed(money: RunMoney, pots: PotsClient) -> bool | None:
    """Whether the members of this machine may earn; None if there is none yet."""
    members = await money.members()
    own = [member for member, home in members.items() if home == money.target.home]
    if not own:
        return None
    return (await pots.account_of(money.run, own[0])).allowed


def _seen(
    events: Sequence[LedgerEvent], times: dict[int, int], homes: Sequence[Path], rounds: int
) -> tuple[list[SeenRound], dict[MemberId, Address]]:
    """The last rounds as far as they are known, and who takes part now."""
    roster: dict[MemberId, Address] = {}
    seen: list[SeenRound] = []
    trainers = 0
    folders = [PublicFolder(home / "public") for home in homes]
    for event in events:
        enrol(roster, event)
        if not isinstance(event, Certified | RollCalled):
            trainers = trainers if seen else len(roster)
            continue
        number, time = round_of(event), times.get(event.at.block_number)
        if time is not None:
            empty = isinstance(event, RollCalled) or event.body.is_empty
            listed = {} if empty else _tokens(event, folders)
            seen.append(SeenRound(number, trainers, time, listed, empty))
        trainers = len(roster)  # what happened until a head counts from it on
    return seen[-rounds:], roster


def _tokens(event: LedgerEvent, folders: Sequence[PublicFolder]) -> dict[MemberId, int] | None:
    """The accepted tokens of a round by a list that its certificate names; None if no home has it."""
    assert isinstance(event, Certified)
    for folder in folders:
        if folder.list_path(event.body.round).exists():
            listed = folder.read_list(event.body.round)
            if listed.updates_root == event.body.updates_root:
                return accepted_tokens(listed)
    return None


async def _times(money: RunMoney, events: Sequence[LedgerEvent], rounds: int) -> dict[int, int]:
    """The times of the blocks in which the last rounds ended."""
    blocks = [event.at.block_number for event in events if isinstance(event, Certified | RollCalled)]
    rpc = Rpc([money.url], Patience())
    try:
        wanted = sorted(set(blocks[-rounds:]))
        found = await asyncio.gather(*(rpc.call("eth_getBlockByNumber", hex(at), False) for at in wanted))
    finally:
        await rpc.close()
    return {
        at: read_quantity(block["timestamp"])
        for at, block in zip(wanted, found, strict=True)
        if isinstance(block, dict)
    }


def _told(made: Estimate, terms: RewardTerms, decimals: int) -> dict[str, Any]:
    def tokens(units: Fraction | None) -> str | None:
        return None if units is None else format_amount(int(units), decimals)

    return {
        "price": format_amount(terms.price, decimals),
        "cap": format_amount(terms.cap, decimals),
        "min_round_seconds": terms.min_round_seconds,
        "peers": made.peers,
        "rounds_seen": made.rounds,
        "rounds_listed": made.listed,
        "tokens_per_round": int(made.tokens),
        "price_per_round": tokens(made.pay),
        "acceptance_rate": None if made.assumed else round(float(made.acceptance), 4),
        "rounds_per_hour": None if made.worked_per_hour is None else round(float(made.worked_per_hour), 2),
        "expected_per_round": tokens(made.per_round),
        "expected_per_hour": tokens(made.per_hour),
        "expected_per_day": tokens(made.per_day),
        "formula": FORMULA,
    }


def _unknown(
    made: Estimate, pot: PotState | None, worked: int, funded_until: int, allowed: bool | None
) -> list[str]:
    """What this does not know, and what stands in the way."""
    said = [
        'no audits yet: amounts are "pending, unverified" until their root is active, and the run is trusted'
    ]
    if pot is None:
        said.append("the run's owner has not opened its pot: nothing can be earned before")
    elif pot.closed_at:
        said.append("the pot is closed: rounds from now on are paid nothing")
    elif funded_until <= worked:
        said.append(
            "the pot is not funded for more rounds: from now on they are paid nothing unless more comes in"
        )
    if allowed is None:
        said.append("whether the run's owner lets you earn: it does with `distrai invite RUN MEMBER --pay`")
    elif not allowed:
        said.append(
            "THE RUN'S OWNER DOES NOT LET THIS MEMBER EARN: let it type `distrai invite RUN MEMBER --pay` first"
        )
    if made.assumed:
        said.append(
            "no list of a round is on this machine: acceptance is taken as 1, and all inner steps as done"
        )
    if made.worked_per_hour is None:
        said.append("how fast rounds are: fewer than two are over")
    said.append("how many tokens your machine gets done in a round, and how long the run goes on")
    return said
