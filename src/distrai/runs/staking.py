"""What a member of this machine stakes in a run: put in, asked back, paid out. Every step can be asked for again.

The member is controlled by the first key of its home (``peer/participation.py``), so that stakes; what it lacks comes
from the wallet, and what it gets back goes to the member's payout address.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.ledger.client import LedgerClient
from distrai.ledger.errors import LedgerRefused
from distrai.ledger.keys import NodeKey
from distrai.ledger.stakes import StakesClient, StakeState
from distrai.ledger.token import TokenClient
from distrai.peer.keyring import FIRST
from distrai.protocol.amounts import format_amount, parse_amount
from distrai.protocol.primitives import Address, MemberId
from distrai.runs.caution import Confirm, asked_stake, check_stakes, question
from distrai.runs.membership import Payout, ensure_member, locked_home
from distrai.runs.money import NoSuchMember, RunMoney, open_money
from distrai.runs.topping_up import Report, fill_gas, fill_tokens
from distrai.runs.wallet import Wallet, show_address

_LOOK_S = 1.0


class BadStake(ValueError):
    """So much cannot be staked; the message says what can."""


class OtherController(ValueError):
    """The member is controlled by a key that is not here."""


@dataclass
class Staker:
    """A member's home, locked, with its key connected to the contracts of a run."""

    money: RunMoney
    home: Path
    key: NodeKey
    ledger: LedgerClient
    stakes: StakesClient
    token: TokenClient
    wallet: Wallet
    report: Report

    async def member(self, payout: Payout, *, register: bool) -> MemberId:
        """The home's member, registered where it is not yet. Raises NoSuchMember or OtherController."""
        if not register and await self.ledger.member_of_key(self.key.address) is None:
            raise NoSuchMember(f"{self.home} is no member's home on this ledger: nothing was staked with it")
        member = await ensure_member(self.ledger, self.key, payout)
        controller = (await self.ledger.member(member)).controller
        if controller != self.key.address:
            raise OtherController(
                f"member {member.hex()[:12]} is controlled by {show_address(controller)}, and not by the key of "
                f"{self.home}: use that one"
            )
        return member

    async def stake(self, amount: str | None, payout: Payout, confirm: Confirm) -> dict[str, Any]:
        """Stake so many tokens more, or what is missing for a seat if ``confirm`` says so.

        Raises Unsafe, BadStake, Unconfirmed or TooFewTokens, before anything is sent.
        """
        run, decimals = self.money.run, self.money.contracts.decimals
        asked = await asked_stake(self.money, self.stakes)
        before = await self._before()
        missing = max(0, asked.minimum - before.staked)
        more = missing if amount is None else parse_amount(amount, decimals)
        if more < missing:
            raise BadStake(
                f"a seat of this run needs {format_amount(asked.minimum, decimals)} tokens staked, and "
                f"{format_amount(before.staked, decimals)} are: give at least --amount "
                f"{format_amount(missing, decimals)}"
            )
        if more and amount is None:
            confirm(
                question(self.money, asked, more, await self.token.symbol()), format_amount(more, decimals)
            )
        await self._gas()
        member = await self.member(payout, register=True)
        await fill_tokens(self.money, self.token, self.key.address, more, self.wallet, self.report)
        if more or before.asked_at:
            await self.stakes.stake_up_to(run, member, before.staked + more)
        after = await self.stakes.stake_of(run, member)
        told = await self._told(member, after)
        return told | {
            "added": format_amount(more, decimals),
            "minimum": format_amount(asked.minimum, decimals),
            "unbond_seconds": asked.unbond_seconds,
            "payout": show_address(await self.payout(member)),
        }

    async def _before(self) -> StakeState:
        """What is staked until now; nothing before there is a member."""
        member = await self.ledger.member_of_key(self.key.address)
        return (
            StakeState(0, 0, 0, 0) if member is None else await self.stakes.stake_of(self.money.run, member)
        )

    async def unstake(self, wait_s: float) -> dict[str, Any]:
        """Leave the run, ask the stake back, wait at most so long, take it out; told step by step. Can be repeated."""
        run = self.money.run
        member = await self.member(Payout(), register=False)
        await self._gas()
        if (await self.ledger.membership(run, member)).joined:
            await self.ledger.leave(run, member)
            self.report({"event": "left-run", "run": run, "member": "0x" + member.hex()})
        state = await self.stakes.stake_of(run, member)
        end = time.monotonic() + wait_s
        while state.staked:
            unbond_at = await self._unbond(member)
            state = await self.stakes.stake_of(run, member)
            if unbond_at is None:
                break
            if time.monotonic() >= end:
                return await self._told(member, state) | {"state": "seat-held", "unbond_at": unbond_at}
            await asyncio.sleep(_LOOK_S)
        if not state.unbonding:
            return await self._told(member, state) | {"state": "nothing"}
        self.report({"event": "unbonding", "release_at": state.release_at, **await self._told(member, state)})
        return await self._withdraw(member, state, end)

    async def _unbond(self, member: MemberId) -> int | None:
        """Ask for the stake; when that begins at the latest (ledger time), or None once it has begun."""
        run = self.money.run
        try:
            state = await self.stakes.unbond(run, member)
            if state.unbonding:
                return None
            self.report({"event": "exit-asked", "run": run, "member": "0x" + member.hex()})
            await self.stakes.unbond(run, member)  # says until when it waits for the seat
        except LedgerRefused as refusal:
            if refusal.name != "SeatNotGivenUp":
                raise
            return int(str(refusal.arguments[0]))
        return None

    async def _withdraw(self, member: MemberId, state: StakeState, end: float) -> dict[str, Any]:
        run, decimals = self.money.run, self.money.contracts.decimals
        while True:
            try:
                amount = await self.stakes.withdraw(run, member)
            except LedgerRefused as refusal:
                if refusal.name == "NothingUnbonding":  # somebody else sent it: it went to the payout address
                    amount = state.unbonding
                elif refusal.name != "NotReleased":
                    raise
                elif time.monotonic() >= end:
                    return await self._told(member, state) | {
                        "state": "unbonding",
                        "release_at": state.release_at,
                    }
                else:
                    await asyncio.sleep(_LOOK_S)
                    continue
            after = await self._told(member, await self.stakes.stake_of(run, member))
            return after | {
                "state": "paid-out",
                "amount": format_amount(amount, decimals),
                "payout": show_address(await self.payout(member)),
            }

    async def payout(self, member: MemberId) -> Address:
        """Where a member's money goes."""
        state = await self.ledger.member(member)
        return state.payout if any(state.payout) else state.controller

    async def _gas(self) -> None:
        await fill_gas(self.money.link, self.key, self.wallet, self.report)

    async def _told(self, member: MemberId, state: StakeState) -> dict[str, Any]:
        run, decimals = self.money.run, self.money.contracts.decimals
        return {
            "ok": True,
            "run": run,
            "member": "0x" + member.hex(),
            "home": str(self.home),
            "staked": format_amount(state.staked, decimals),
            "unbonding": format_amount(state.unbonding, decimals),
            "active": await self.stakes.is_active(run, member),
            "ledger_time": self.money.now(await self.stakes.ledger_time()),
        }


@asynccontextmanager
async def staker(money: RunMoney, wallet: Wallet, report: Report) -> AsyncIterator[Staker]:
    """The home that ``money.target`` names, at work. Raises NoMoney, CannotJoin, InUse or a LedgerError."""
    contracts, link, home = money.contracts, money.link, money.target.home
    if not (home / FIRST).exists():
        money.target.claim_home()
    with locked_home(home) as keyring:
        key = keyring.first
        ledger = await LedgerClient.connect(link.rpc, link.registry, link.chain_id, key)
        stakes = await StakesClient.connect(link.rpc, contracts.stakes, link.chain_id, key)
        token = await TokenClient.connect(link.rpc, contracts.token, link.chain_id, key)
        try:
            yield Staker(money, home, key, ledger, stakes, token, wallet, report)
        finally:
            for client in (ledger, stakes, token):
                await client.close()


def stake_in(
    what: str,
    home: Path | None,
    amount: str | None,
    payout: Payout,
    wallet: Wallet,
    report: Report,
    confirm: Confirm,
    rpc: str = "",
) -> dict[str, Any]:
    """``distrai stake``; ``rpc`` is asked instead of the link's node. Raises as ``staker`` and ``Staker.stake``."""

    async def run() -> dict[str, Any]:
        async with open_money(what, home, rpc) as money:
            check_stakes(money)
            async with staker(money, wallet, report) as at:
                return await at.stake(amount, payout, confirm)

    return asyncio.run(run())


def unstake_from(
    what: str, home: Path | None, wait_s: float, wallet: Wallet, report: Report
) -> dict[str, Any]:
    """``distrai unstake``. Raises as ``staker`` and ``Staker.unstake``."""

    async def run() -> dict[str, Any]:
        async with open_money(what, home) as money:
            check_stakes(money)
            if not (money.target.home / FIRST).exists():
                raise NoSuchMember(f"{money.target.home} is no peer's home: give the --home that staked")
            async with staker(money, wallet, report) as at:
                return await at.unstake(wait_s)

    return asyncio.run(run())
