"""The ``RewardsDistributor`` as peers and users use it. Amounts are base units, times ledger time in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

from distrai.ledger.errors import LedgerRefused
from distrai.ledger.token import Taking
from distrai.protocol.primitives import Address, Hash, MemberId, SignatureBytes
from distrai.protocol.rewards import Epoch, HeadMark, RewardTerms


@dataclass(frozen=True)
class PotState:
    """A run's pot.

    ``live`` epochs are pending or active, and the last of them counts; ``kills`` is how often the guardian killed one.
    ``closed_at`` is zero while the pot is open.
    """

    owner: Address
    opened_at: int
    funded: int
    refunded: int
    paid: int
    live: int
    kills: int
    closed_at: int
    killed_at: int
    worked_max: int
    members: int
    terms: RewardTerms


@dataclass(frozen=True)
class EpochState:
    """What the ledger keeps of an epoch; it counts only if the pot's ``live`` is not below it."""

    root: Hash
    total: int
    active_from: int
    last_round: int


@dataclass(frozen=True)
class AccountState:
    """A member's account in a run; who was ever allowed can claim what it earned."""

    ever_allowed: bool
    allowed: bool
    claimed: int


@dataclass(frozen=True)
class Payment:
    """What a claim did: ``paid`` now, ``claimed`` in all. ``transaction`` None: it had been paid before."""

    paid: int
    claimed: int
    transaction: Hash | None


class PotsClient(Taking):
    """A rewards distributor on a chain."""

    artifact = "RewardsDistributor"

    # The owner's side

    async def open_pot(self, run: int, terms: RewardTerms) -> bool:
        """Open the pot of a run, as its owner. False: it was opened with these terms already."""
        values = (terms.price, terms.cap, terms.max_members, terms.min_round_seconds)
        if await self._send_unless("PotExists", "openPot", run, values) is not None:
            return True
        if (pot := await self.pot_of(run)) is None or pot.terms != terms:
            raise LedgerRefused("PotExists", (run,))
        return False

    async def fund(self, run: int, amount: int) -> int:
        """Add to a pot; gives all that ever came in. ``fund_up_to`` can be repeated, this cannot."""
        receipt = await self._take(amount, "fund", run, amount)
        return int(self._said(receipt, "Funded", "funded"))

    async def fund_up_to(self, run: int, funded: int) -> int:
        """Add what is missing until so much ever came in; gives how much that was. Safe to repeat after any crash.

        Waits for transactions of the client's key that are on their way: one of them may be this one. Raises NotMined
        if they do not land in time.
        """
        await self._sender.settle(self.sender_address)
        pot = await self.pot_of(run)
        missing = funded - (0 if pot is None else pot.funded)
        if missing > 0:
            await self.fund(run, missing)
        return max(0, missing)

    async def allow(self, run: int, member: MemberId) -> bool:
        """Let a member earn from the round after the present one on, as the owner. False: it may already."""
        return await self._send_unless("AlreadyAllowed", "allow", run, member) is not None

    async def disallow(self, run: int, member: MemberId) -> bool:
        """Let a member earn no longer, after the present round. False: it does not."""
        return await self._send_unless("NotAllowed", "disallow", run, member) is not None

    async def close_pot(self, run: int) -> bool:
        """Close a pot: the round that goes on is the last that is paid. False: it was closed before.

        As the owner, or as anyone once the run is dead.
        """
        return await self._send_unless("PotIsClosed", "close", run) is not None

    async def refund(self, run: int) -> int:
        """Give the owner back what nobody earned, and say how much; zero if nothing is left. Anyone may send it."""
        receipt = await self._send_unless("NothingToRefund", "refund", run)
        return 0 if receipt is None else int(self._said(receipt, "Refunded", "amount"))

    # The seats' side

    async def mark_head(self, run: int) -> int | None:
        """Remember the run's head, so that an epoch may end with it; gives its round. None: it was marked already."""
        receipt = await self._send_unless("AlreadyMarked", "markHead", run)
        return None if receipt is None else int(self._said(receipt, "HeadMarked", "round"))

    async def settle(self, epoch: Epoch, signatures: Sequence[SignatureBytes]) -> bool:
        """Land an epoch; ``signatures`` are sorted by signer. False: this very epoch had landed before."""
        values = tuple(getattr(epoch, name) for name in epoch.__struct_fields__)
        if await self._send_unless("WrongEpoch", "settle", values, b"".join(signatures)) is not None:
            return True
        pot, settled = await self.pot_of(epoch.run), await self.epoch_of(epoch.run, epoch.epoch)
        live = 0 if pot is None else pot.live
        same = (settled.root, settled.total, settled.last_round) == (
            epoch.root,
            epoch.total,
            epoch.last_round,
        )
        if epoch.epoch > live or not same:
            raise LedgerRefused("WrongEpoch", (epoch.epoch, live + 1))
        return False

    async def kill(self, run: int, epoch: int) -> bool:
        """Kill an epoch that is not active yet, and all after it, as the guardian. False: it is not live."""
        return await self._send_unless("NotLive", "kill", run, epoch) is not None

    # The members' side

    async def claim(
        self, run: int, epoch: int, member: MemberId, amount: int, proof: Sequence[Hash]
    ) -> Payment:
        """Pay a member what it earned until an epoch, to its payout address; anyone may send it, any number of times.

        ``amount`` is its cumulative amount in that epoch. What was paid before is told as a Payment of zero.
        """
        receipt = await self._send_unless("NothingToClaim", "claim", run, epoch, member, amount, list(proof))
        if receipt is None:
            return Payment(0, (await self.account_of(run, member)).claimed, None)
        paid, claimed = (int(self._said(receipt, "RewardClaimed", name)) for name in ("amount", "claimed"))
        return Payment(paid, claimed, receipt.transaction)

    # Views

    async def pot_of(self, run: int, block: int | None = None) -> PotState | None:
        """A run's pot; None if it has none."""
        (state,) = await self._view("potOf", run, block=block)
        values = [*state[:-1], RewardTerms(*state[-1])]
        return PotState(*values) if any(state[0]) else None

    async def epoch_of(self, run: int, epoch: int, block: int | None = None) -> EpochState:
        """An epoch; all zero if there never was one."""
        return EpochState(*(await self._view("epochOf", run, epoch, block=block))[0])

    async def mark_of(
        self, run: int, round_number: int, block: int | None = None
    ) -> tuple[Hash, HeadMark] | None:
        """The marked head of a round, with what an epoch needs of it; None if it is not marked."""
        ((head, worked, time),) = await self._view("markOf", run, round_number, block=block)
        return (Hash(head), HeadMark(round_number, worked, time)) if any(head) else None

    async def account_of(self, run: int, member: MemberId, block: int | None = None) -> AccountState:
        """A member's account in a run."""
        ((standing, claimed),) = await self._view("accountOf", run, member, block=block)
        return AccountState(standing != 0, standing == 1, claimed)

    async def funded_until(self, run: int, block: int | None = None) -> int:
        """How many non-empty rounds, counted from the first, are paid if each costs the whole rate."""
        return int((await self._view("fundedUntil", run, block=block))[0])

    async def refundable_at(self, run: int, block: int | None = None) -> int:
        """From when on the owner may have back what nobody earned; zero while the pot is open."""
        return int((await self._view("refundableAt", run, block=block))[0])

    async def activation_seconds(self) -> int:
        """From a root's landing to its first claim."""
        return int((await self._view("activationSeconds"))[0])

    async def reward_seconds(self) -> int:
        """The longest that a reward takes once its pot is closed: settling and activation."""
        return int((await self._view("rewardSeconds"))[0])
