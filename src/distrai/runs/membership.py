"""The member of a home: registered before it joins, and where what it earns goes."""

import asyncio
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.ledger.client import LedgerClient
from distrai.ledger.errors import LedgerUnreachable
from distrai.ledger.keys import NodeKey, key_lock
from distrai.ledger.locks import FileLock
from distrai.ledger.pots import PotsClient
from distrai.ledger.stakes import StakesClient
from distrai.peer.keyring import FIRST, Keyring
from distrai.protocol.amounts import format_amount
from distrai.protocol.primitives import Address, MemberId
from distrai.runs.estimate import estimate_for
from distrai.runs.folder import RunFolder
from distrai.runs.joining import CannotJoin, owner_key
from distrai.runs.money import NoRecipe, NoSuchMember, RunMoney, open_money, reach_ledger
from distrai.runs.wallet import Wallet, parse_address, show_address

Report = Callable[[dict[str, Any]], None]


class StakeNeeded(ValueError):
    """The run asks for a stake that this member has not; the message has the command."""


class CannotAllow(ValueError):
    """The run has nothing to let a member earn from."""


@dataclass(frozen=True)
class Payout:
    """Where a member's money goes; ``chosen``: somebody said so, and it is not just where it goes if nobody does."""

    address: Address | None = None
    chosen: bool = False


def payout_of(text: str, wallet: Wallet) -> Payout:
    """The address that was given, else the wallet's if there is one. Raises BadAddress or BadKeystore."""
    if text:
        return Payout(parse_address(text), chosen=True)
    return Payout(wallet.address() if wallet.exists() else None)


async def ensure_member(ledger: LedgerClient, key: NodeKey, payout: Payout) -> MemberId:
    """The member of a home's first key, registered with itself as controller where it is none yet.

    ``ledger`` signs with this key. A payout address that somebody chose is also set later, another one is not.
    """
    member = await ledger.member_of_key(key.address)
    if member is None:
        return await ledger.register(key, key.address, payout.address or key.address)
    if payout.chosen and payout.address is not None:
        state = await ledger.member(member)
        if state.payout != payout.address:
            await ledger.set_attributes(member, state.controller, payout.address)
    return member


@contextmanager
def locked_home(home: Path) -> Iterator[Keyring]:
    """The keys of a home, of which no other process uses any. Raises InUse or a KeyFileError."""
    with FileLock(home / "peer.lock", "this peer's home"), key_lock(home / FIRST):
        yield Keyring.open(home)


def set_payout(what: str, home: Path | None, text: str) -> dict[str, Any]:
    """``distrai payout``. Raises BadAddress, NoSuchMember, InUse or a LedgerError."""
    address = parse_address(text)

    async def run() -> dict[str, Any]:
        async with reach_ledger(what, home) as (target, _, url):
            if not (target.home / FIRST).exists():
                raise NoSuchMember(
                    f"{target.home} is no peer's home: give the --home that `distrai join` said"
                )
            with locked_home(target.home) as keyring:
                link, key = target.link, keyring.first
                ledger = await LedgerClient.connect(url, link.registry, link.chain_id, key)
                try:
                    member = await ensure_member(ledger, key, Payout(address, chosen=True))
                finally:
                    await ledger.close()
        return {"ok": True, "member": "0x" + member.hex(), "payout": show_address(address)}

    return asyncio.run(run())


def allow_member(folder: RunFolder, member: MemberId) -> None:
    """Let a member earn in the run that was opened in a folder, with the owner's key.

    Raises NoMoney, CannotAllow, a KeyFileError or a LedgerError.
    """

    async def run() -> None:
        async with open_money(str(folder.path)) as money:
            owner = owner_key(folder)
            at, chain = money.contracts.rewards, money.link.chain_id
            pots = await PotsClient.connect(money.url, at, chain, owner)
            try:
                if await pots.pot_of(money.run) is None:
                    raise CannotAllow(
                        f"run {money.run} has no pot: it pays nothing, or was not opened to the end"
                    )
                await pots.allow(money.run, member)
            finally:
                await pots.close()

    asyncio.run(run())


def prepare_join(what: str, home: Path | None, payout: Payout, report: Report) -> bool:
    """Before a peer is started: say what joining may bring, register its member, see that it has staked.

    Gives whether the run pays.

    Where the ledger or the recipe cannot be had this does nothing: the peer waits for them, and the ledger lets nobody
    in without a stake. Raises StakeNeeded, CannotJoin, InUse or another LedgerError.
    """

    if not what.startswith("distrai:") and RunFolder(Path(what)).is_finished():
        raise CannotJoin(f"the run in {what} is finished: there is nothing to join any more")

    async def run() -> bool:
        try:
            async with open_money(what, home) as money:
                if money.resolved.contracts is not None:
                    report({"event": "estimate", **await estimate_for(money)})
                    await _enter(money, what, payout)
                elif payout.chosen:
                    await _register(money, payout)
                return money.resolved.recipe.rewards is not None
        except (NoRecipe, LedgerUnreachable) as error:
            report({"event": "advice", "why": f"what this run pays is not known: {error}"})
            return False

    return asyncio.run(run())


async def _register(money: RunMoney, payout: Payout) -> MemberId:
    link, home = money.link, money.target.home
    money.target.claim_home()
    with locked_home(home) as keyring:
        ledger = await LedgerClient.connect(link.rpc, link.registry, link.chain_id, keyring.first)
        try:
            return await ensure_member(ledger, keyring.first, payout)
        finally:
            await ledger.close()


async def _enter(money: RunMoney, what: str, payout: Payout) -> None:
    """See that the member has staked where it must (staking makes it a member), then register it."""
    if money.resolved.recipe.stake is not None:
        await _check_stake(money, what)
    await _register(money, payout)


async def _check_stake(money: RunMoney, what: str) -> None:
    run, contracts, home = money.run, money.contracts, money.target.home
    member = None
    if (home / FIRST).exists():
        member = await money.ledger.member_of_key(Keyring.open(home).first.address)
    stakes = await StakesClient.connect(money.url, contracts.stakes, money.link.chain_id)
    try:
        minimum, staked, asked = (await stakes.terms_of(run)).minimum, 0, False
        if member is not None:
            if await stakes.is_active(run, member):
                return
            state = await stakes.stake_of(run, member)
            staked, asked = state.staked, bool(state.asked_at)
    finally:
        await stakes.close()
    needed, has = (format_amount(units, contracts.decimals) for units in (minimum, staked))
    wanting = ", which it asked for back" if asked else ""
    command = f"distrai stake {shlex.quote(what)} --home {shlex.quote(str(home))}"
    if staked < minimum:
        command += f" --amount {format_amount(minimum - staked, contracts.decimals)}"
    raise StakeNeeded(
        f"this run asks for a stake of {needed} tokens, and this peer has {has} staked{wanting}: type `{command}`, and "
        "join again"
    )
