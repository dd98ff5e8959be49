"""The ``StakeManager`` as peers, users and challengers use it. Amounts are base units, times ledger time in seconds."""

from dataclasses import astuple, dataclass

from distrai.ledger.errors import LedgerRefused
from distrai.ledger.token import Taking
from distrai.protocol.faults import place_of
from distrai.protocol.messages import Update
from distrai.protocol.primitives import Address, Hash, MemberId, SignatureBytes


@dataclass(frozen=True)
class StakeTerms:
    """What a seat of a run must stake, and what one fault costs at most; both zero where nothing was said."""

    minimum: int
    fault_max: int


@dataclass(frozen=True)
class StakeState:
    """A member's stake in a run; ``unbonding`` can be taken out from ``release_at`` on.

    ``asked_at``: when a member that still has a seat asked to get out; zero if it did not.
    """

    staked: int
    unbonding: int
    release_at: int
    asked_at: int


@dataclass(frozen=True)
class CaseState:
    """A fault that was punished: who reported it, and what is still to be paid to them."""

    challenger: Address
    reward: int


@dataclass(frozen=True)
class ClockState:
    """How far a run had come at some time."""

    round: int
    block_number: int
    time: int


class StakesClient(Taking):
    """A stake manager on a chain."""

    artifact = "StakeManager"

    async def set_terms(self, run: int, minimum: int, fault_max: int) -> bool:
        """Say what a seat must stake, as the run's owner, before it starts. False: these were its terms already."""
        if await self._send_unless("TermsFixed", "setTerms", run, (minimum, fault_max)) is not None:
            return True
        if await self.terms_of(run) != StakeTerms(minimum, fault_max):
            raise LedgerRefused("TermsFixed", (run,))
        return False

    async def stake(self, run: int, member: MemberId, amount: int) -> int:
        """Add to a member's stake, as its controller; gives what it has staked then. Zero takes an asked exit back.

        ``stake_up_to`` can be repeated, this cannot.
        """
        receipt = await self._take(amount, "stake", run, member, amount)
        return int(self._said(receipt, "Staked", "staked"))

    async def stake_up_to(self, run: int, member: MemberId, staked: int) -> int:
        """Add what is missing until a member has so much staked, and take an asked exit back; gives what was added.

        Safe to repeat after any crash: it waits for transactions of the client's key that are on their way. Raises
        NotMined if they do not land in time.
        """
        await self._sender.settle(self.sender_address)
        state = await self.stake_of(run, member)
        missing = max(0, staked - state.staked)
        if missing or state.asked_at:
            await self.stake(run, member, missing)
        return missing

    async def unbond(self, run: int, member: MemberId) -> StakeState:
        """Begin to take a member's whole stake out, as its controller; gives the stake then.

        While the seat is not taken from it, this only asks: ``unbonding`` is zero and ``asked_at`` is not.
        """
        if await self._send_unless("NothingStaked", "unbond", run, member) is None:
            state = await self.stake_of(run, member)
            if not state.unbonding:
                raise LedgerRefused("NothingStaked", (run, member))
            return state
        return await self.stake_of(run, member)

    async def withdraw(self, run: int, member: MemberId) -> int:
        """Pay out what has waited long enough, to the member's payout address; gives how much.

        Anyone may send it. Raises LedgerRefused (NothingUnbonding, NotReleased).
        """
        return int(self._said(await self._send("withdraw", run, member), "Withdrawn", "amount"))

    async def slash(
        self,
        first: Update,
        second: Update,
        first_signature: SignatureBytes,
        second_signature: SignatureBytes,
    ) -> bool:
        """Report that a member signed two different Updates for one place. False: somebody did before.

        A tenth of what the member loses is kept for the client's key. Both Updates must have one place.
        """
        place = place_of(first)
        assert place == place_of(second), "two Updates for one place"
        work = _work(first), _work(second)
        signatures = bytes(first_signature), bytes(second_signature)
        sent = await self._send_unless("AlreadyPunished", "slash", astuple(place), *work, *signatures)
        return sent is not None

    async def mark(self, run: int) -> None:
        """Look at the run's clock: the more often anyone does, the more exactly the window for reports ends."""
        await self._send("mark", run)

    async def collect_reward(self, place: Hash) -> bool:
        """Pay the challenger of a fault; anyone may send it. False: nothing is left to pay."""
        return await self._send_unless("NothingToCollect", "collectReward", place) is not None

    async def collect_seized(self) -> bool:
        """Pay the treasury; anyone may send it. False: nothing is there."""
        return await self._send_unless("NothingToCollect", "collectSeized") is not None

    async def terms_of(self, run: int, block: int | None = None) -> StakeTerms:
        """What a seat of the run must stake."""
        return StakeTerms(*(await self._view("termsOf", run, block=block))[0])

    async def stake_of(self, run: int, member: MemberId, block: int | None = None) -> StakeState:
        """A member's stake in a run."""
        return StakeState(*(await self._view("stakeOf", run, member, block=block))[0])

    async def is_active(self, run: int, member: MemberId, block: int | None = None) -> bool:
        """Whether a member has staked enough for a seat and does not want out."""
        return bool((await self._view("isActive", run, member, block=block))[0])

    async def case_of(self, place: Hash, block: int | None = None) -> CaseState | None:
        """A fault that was punished, by its place; None if it was not."""
        ((challenger, reward),) = await self._view("caseOf", place, block=block)
        return CaseState(challenger, reward) if any(challenger) else None

    async def clock_of(self, run: int, block: int | None = None) -> tuple[ClockState, ClockState]:
        """Two looks at the run's clock: what ended by the older one is too old for a report."""
        older, newer = await self._view("clockOf", run, block=block)
        return ClockState(*older), ClockState(*newer)

    async def seized(self, block: int | None = None) -> int:
        """What the treasury can collect."""
        return int((await self._view("seized", block=block))[0])


def _work(update: Update) -> tuple[object, ...]:
    """What an Update says beside its place, as the contract's struct."""
    steps = (update.version, update.base_state_root, update.tau, update.inner_steps, update.tokens)
    return (*steps, update.codec, update.blob_hash, update.blob_size, update.key_hash, update.trace_root)
