"""What the opener of a run does about money before the first round: record, stakes, pot, and who may earn.

Everything asks the ledger first what is there already, so that it can be begun again wherever it was interrupted:
nothing is opened, funded or sent twice.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distrai.ledger.token import TokenClient
from distrai.protocol.amounts import format_amount
from distrai.protocol.primitives import Address, MemberId
from distrai.runs.recording import Recording
from distrai.runs.tills import Tills

Report = Callable[[dict[str, Any]], None]


class NotEnough(ValueError):
    """The opener has less than the run needs; the message says how much, and where to send it."""


@dataclass
class Paying:
    """The opener's side of a run's money, while the run goes on."""

    tills: Tills
    recording: Recording
    report: Report
    turn: asyncio.Lock
    """One transaction of the opener at a time, whichever contract it is for."""

    async def is_over(self, rounds: int) -> bool:
        """Whether all rounds are done and settled, and the pot is closed."""
        tills = self.tills
        pot = await tills.pots.pot_of(tills.run)
        if pot is None or not pot.closed_at or not pot.live:
            return False
        return (await tills.pots.epoch_of(tills.run, pot.live)).last_round >= rounds

    async def begin(self) -> None:
        """Ask for stakes, open and fund the pot, open the training record. Raises NotEnough or a LedgerError."""
        async with self.turn:
            await self.tills.coins.settle()
            await self._check_balance()
            await self._ask_stakes()
            await self._open_pot()
            await self.recording.open()

    async def admit(self, member: MemberId, address: Address) -> None:
        """Let a member earn, and give it what its seat must stake; ``address`` is its key's, which controls it."""
        tills, recipe = self.tills, self.tills.resolved.recipe
        async with self.turn:
            if recipe.stake is not None:
                await self._give_stake(member, address)
            if not (await tills.pots.account_of(tills.run, member)).allowed:
                await tills.pots.allow(tills.run, member)
                self.report({"event": "allowed", "member": member.hex()})

    async def started(self) -> None:
        """Write down that the run has started."""
        async with self.turn:
            await self.recording.started()

    async def close(self) -> None:
        """Write down that it is trained, and close the pot: what nobody earned comes back some time after that."""
        tills = self.tills
        async with self.turn:
            await self.recording.trained()
            pot = await tills.pots.pot_of(tills.run)
            if pot is not None and not pot.closed_at:
                await tills.pots.close_pot(tills.run)
                self.report({"event": "pot-closed"})

    async def _ask_stakes(self) -> None:
        """Before anybody joins: the registry does not take it later."""
        tills, stake = self.tills, self.tills.resolved.recipe.stake
        if stake is None:
            return
        minimum, fault_max = stake.units(tills.contracts.decimals)
        await tills.stakes.set_terms(tills.run, minimum, fault_max)
        await tills.registry.require_stake(tills.run, tills.contracts.stakes)

    async def _open_pot(self) -> None:
        tills, rewards, decimals = self.tills, self.tills.rewards, self.tills.contracts.decimals
        pot = await tills.pots.pot_of(tills.run)
        if pot is not None and pot.closed_at:
            return
        if await tills.pots.open_pot(tills.run, rewards.terms(decimals)):
            self.report({"event": "pot-opened", "price": rewards.price, "cap": rewards.cap})
        if added := await tills.pots.fund_up_to(tills.run, self._escrow()):
            self.report({"event": "funded", "amount": format_amount(added, decimals)})

    async def _give_stake(self, member: MemberId, address: Address) -> None:
        """Send a member the tokens that its stake lacks and that it does not have."""
        tills, stake = self.tills, self.tills.resolved.recipe.stake
        assert stake is not None
        minimum, _ = stake.units(tills.contracts.decimals)
        staked = (await tills.stakes.stake_of(tills.run, member)).staked
        missing = minimum - staked - await tills.token.balance(address)
        if staked < minimum and missing > 0:
            await tills.token.transfer(address, missing)
            self.report({"event": "stake-sent", "member": member.hex()})

    def _escrow(self) -> int:
        """Base units that are paid in."""
        rounds = self.tills.resolved.recipe.rounds.count
        return self.tills.rewards.escrow(self.tills.contracts.decimals, rounds)

    async def _check_balance(self) -> None:
        """Raise NotEnough unless the opener has the tokens that the pot lacks."""
        tills = self.tills
        pot = await tills.pots.pot_of(tills.run)
        if pot is not None and pot.closed_at:
            return
        missing = self._escrow() - (0 if pot is None else pot.funded)
        await check_tokens(tills.token, tills.owner.address, missing, tills.contracts.decimals)


async def check_tokens(token: TokenClient, owner: Address, needed: int, decimals: int) -> None:
    """Raise NotEnough unless who opens a run has so many base units of the token."""
    have = await token.balance(owner)
    if needed > have:
        raise NotEnough(
            f"this run takes up to {format_amount(needed, decimals)} tokens, and its opener has "
            f"{format_amount(have, decimals)}: send 0x{owner.hex()} the rest (token 0x{token.address.hex()}), or lower "
            "rewards.cap, rewards.max_members, rewards.funded_rounds or rounds.count"
        )
