"""Whatever owner, guardian, seats and claimers do in whatever order: the ledger pays what was earned, and no more.

The contracts run on py-evm; honest seats settle by the pure rules from the contracts' events alone, captured ones sign
what they like. Two runs, of which one is the other's child, share one distributor.
"""

import os
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contracts.support.money import (
    ACTIVATION,
    CAP,
    GUARDIAN,
    MEMBERS,
    PRICE,
    RATE,
    SECONDS,
    SETTLE,
)
from contracts.support.players import NOBODY, Key, Running
from distrai.ledger.errors import LedgerRefused
from distrai.protocol.body import Body, quorum
from distrai.protocol.keccak import keccak
from distrai.protocol.pot import Pot, next_epoch
from distrai.protocol.primitives import ZERO_HASH, MemberId
from distrai.protocol.rewards import (
    MILLION,
    Epoch,
    RewardTerms,
    WorkedRound,
    paid_rounds,
    rewards_proof,
    rewards_root,
)
from helpers.two_pots import FUNDED, SEATS, Run, scene

EPOCH_ROUNDS = 2
PAUSE = st.sampled_from([0, SECONDS - 1, SECONDS, 3 * SECONDS])
TERMS = RewardTerms(PRICE, CAP, MEMBERS, SECONDS)
MOST_TOKENS = CAP * MILLION // PRICE
"""Tokens of a round that earn the cap."""
TOKENS = st.lists(
    st.lists(st.sampled_from([0, 1, 333, MOST_TOKENS, 2 * MOST_TOKENS]), min_size=SEATS, max_size=SEATS),
    min_size=1,
    max_size=4,
)
RUNS = st.integers(0, 1)
WHO = st.integers(0, SEATS - 1)


class Money(RuleBasedStateMachine):
    """Anything in any order; after each step the books are right."""

    @initialize()
    def begin(self) -> None:
        self.economy, self.members, runs, point = scene()
        self.economy.evm.revert(point)
        self.start = self.economy.evm.now
        self.runs = [Run(run.paying, list(run.events)) for run in runs]
        self.given = 2 * FUNDED
        self.rotations = 0

    def _try(self, run: Run, function: str, *arguments: Any, sender: bytes | None = None) -> str:
        """The error's name, or nothing."""
        try:
            run.say(function, *arguments, sender=sender)
        except LedgerRefused as refusal:
            return str(refusal.name)
        return ""

    # What happens in a run

    def work(self, which: int, tokens: list[list[int]], pause: int) -> None:
        """Some rounds: empty ones where nobody did anything."""
        run = self.runs[which]
        running = run.paying.running
        for amounts in tokens:
            self.economy.evm.now += pause
            done = {MemberId(member.id): n for member, n in zip(self.members, amounts, strict=True) if n}
            number = running.state.round + 1
            self._certify(running, running.body() if done else running.empty())
            if done:
                run.work.append(WorkedRound(number, done))

    def _certify(self, running: Running, body: Body) -> None:
        running.submit(body, running.signatures(body, running.seats[: quorum(SEATS)]))

    @rule(seconds=st.sampled_from([1, ACTIVATION, SETTLE + ACTIVATION]))
    def wait(self, seconds: int) -> None:
        self.economy.evm.now += seconds

    def mark(self, which: int) -> None:
        assert self._try(self.runs[which], "markHead", sender=NOBODY) in ("", "AlreadyMarked")

    # Who settles

    def _land(self, run: Run, epoch: Epoch) -> str:
        signatures = run.paying.signatures(epoch)
        try:
            now = self.economy.evm.now
            run.tell(run.paying.submit(epoch, signatures), now)
        except LedgerRefused as refusal:
            return str(refusal.name)
        run.signed.append((epoch, signatures))
        return ""

    @rule(which=RUNS, tokens=TOKENS, pause=PAUSE)
    def settle_honestly(self, which: int, tokens: list[list[int]], pause: int) -> None:
        """What follows from the events is what the contract takes."""
        run = self.runs[which]
        self.work(which, tokens, pause)
        self.mark(which)
        if run.captured:
            return
        before = run.earned[-1]
        due = next_epoch(
            run.pot,
            before,
            run.work,
            self.economy.domain,
            run.id,
            epoch_rounds=EPOCH_ROUNDS,
            rounds=10_000,
        )
        if due is None:
            return
        assert self._land(run, due.epoch) == ""
        run.earned.append(due.earnings)
        run.leaves.append(due.earnings.amounts)

    @rule(
        which=RUNS,
        tokens=TOKENS,
        pause=PAUSE,
        extra=st.sampled_from([-RATE, -1, 0, 1, 2**100]),
        more=st.sampled_from([0, RATE]),
        thief=WHO,
    )
    def settle_falsely(
        self, which: int, tokens: list[list[int]], pause: int, extra: int, more: int, thief: int
    ) -> None:
        """Two thirds sign what they like: the contract takes exactly what the rate of the new rounds allows."""
        self.work(which, tokens, pause)
        self.mark(which)
        run = self.runs[which]
        pot = run.pot
        later = [marked for number, marked in pot.marks.items() if number > self._since(pot).mark.round]
        if not later:
            return
        marked = later[-1]
        rounds = paid_rounds(TERMS, self._since(pot).mark, marked.mark, pot.closing)
        most = min(pot.total + rounds * RATE, pot.escrow)
        total = max(most + extra, 0)
        member = MemberId(self.members[thief].id)
        leaves = {member: total} if more == 0 else {**run.leaves[-1], member: total + more}
        epoch = Epoch(
            run=run.id,
            epoch=len(pot.epochs) + 1,
            last_round=marked.mark.round,
            head=marked.head,
            root=rewards_root(self.economy.domain, run.id, leaves),
            total=total,
            data_hash=keccak(b"no table"),
            previous_root=pot.epochs[-1].settled.root if pot.epochs else ZERO_HASH,
            kills=pot.kills,
        )
        said = self._land(run, epoch)
        assert (said == "") == (pot.total <= total <= most), (said, total, most)
        if not said:
            run.captured = run.captured or len(run.leaves)
            run.earned.append(run.earned[-1])
            run.leaves.append(leaves)

    def _since(self, pot: Pot) -> Any:
        return pot.since(len(pot.epochs))

    @rule(which=RUNS, other=RUNS, back=st.integers(1, 8))
    def replay_signatures(self, which: int, other: int, back: int) -> None:
        """What was signed for one epoch lands no second time: after a kill, in another run, or renamed."""
        signed = self.runs[which].signed[-back:]
        if not signed:
            return
        epoch, signatures = signed[0]
        live = {item.settled.root for item in self.runs[which].pot.epochs}
        renamed = msgspec.structs.replace(epoch, run=self.runs[other].id)
        for again in (epoch, renamed, msgspec.structs.replace(epoch, kills=self.runs[which].pot.kills)):
            if again == epoch and epoch.root not in live and epoch.kills == self.runs[which].pot.kills:
                continue
            try:
                self.runs[other].paying.submit(again, signatures)
            except LedgerRefused:
                continue
            raise AssertionError("signatures counted twice")

    @rule(which=RUNS, back=st.sampled_from([0, 0, 0, 1, 2]))
    def kill(self, which: int, back: int) -> None:
        run = self.runs[which]
        epoch = len(run.leaves) - 1 - back
        if epoch < 1:
            return
        if self._try(run, "kill", epoch, sender=GUARDIAN):
            return
        del run.earned[epoch:], run.leaves[epoch:]
        if run.captured >= epoch:
            run.captured = 0

    # Who is paid

    @rule(
        which=RUNS,
        pause=st.sampled_from([0, ACTIVATION - 1, ACTIVATION, ACTIVATION]),
        back=st.integers(0, 2),
        add=st.sampled_from([0, 0, 0, 1]),
        strays=st.sampled_from([False, False, True]),
    )
    def claim(self, which: int, pause: int, back: int, add: int, strays: bool) -> None:
        """A leaf of a live, active epoch pays the difference; nothing else pays, and no other run pays for it."""
        self.economy.evm.now += pause
        run = self.runs[which]
        epoch = max(len(run.leaves) - 1 - back, 0)
        if not run.leaves[epoch]:
            return
        for member in sorted(run.leaves[epoch]):
            self._claim(run, self.runs[which ^ strays], epoch, member, add)

    def _claim(self, run: Run, target: Run, epoch: int, member: MemberId, add: int) -> None:
        amount = run.leaves[epoch][member]
        proof = rewards_proof(self.economy.domain, run.id, run.leaves[epoch], member)
        to, claimed = self._payout(member), run.pot.claimed.get(member, 0)
        before = self.economy.balance(to)
        said = self._try(target, "claim", epoch, member, amount + add, proof, sender=NOBODY)
        got = self.economy.balance(to) - before
        is_active = self.economy.evm.now >= run.pot.epochs[epoch - 1].settled.active_from
        is_right = run is target and not add and is_active
        if said:
            assert got == 0 and (not is_right or run.captured or amount <= claimed)
        else:
            assert is_right and got == amount - claimed > 0

    def _payout(self, member: bytes) -> bytes:
        return bytes(self.economy.world.read("payee", member))

    # What else goes on

    @rule(which=RUNS, who=WHO, kind=st.sampled_from(["another", "list", "fund", "close", "refund"]))
    def meddle(self, which: int, who: int, kind: str) -> None:
        """The owner changes its list, pays in, closes and takes back; a member becomes hard to recognise."""
        run, member = self.runs[which], self.members[who]
        if kind == "another":
            self._become_another(who)
        elif kind == "list":
            if self._try(run, "disallow", member.id) == "NotAllowed":
                self._try(run, "allow", member.id)
        elif kind == "fund":
            self.economy.give(self.economy.world.owner.address, RATE + 1, self.economy.rewards)
            self.given += 0 if self._try(run, "fund", RATE + 1) else RATE + 1
        elif kind == "refund" or self.economy.evm.now > self.start + 2 * ACTIVATION:
            self._try(run, kind)

    def _become_another(self, who: int) -> None:
        """A new node key and another payout address: neither pays anything twice. The seat keeps its key."""
        self.rotations += 1
        world, member = self.economy.world, self.members[who]
        assert world.rotate(member, Key(f"rotation {self.rotations} of {who}")).id == member.id
        to = Key(f"payout {who} {self.rotations}").address
        world.send(member.controller, "setAttributes", member.id, member.controller, to)

    # The books

    @invariant()
    def the_till_holds_what_is_owed(self) -> None:
        pots = [run.pot for run in self.runs]
        owed = sum(pot.escrow - sum(pot.claimed.values()) for pot in pots)
        assert self.economy.balance(self.economy.rewards.address) == owed
        assert sum(pot.funded for pot in pots) == self.given

    @invariant()
    def events_alone_tell_everything(self) -> None:
        for run in self.runs:
            pot, said = run.pot, run.paying.pot
            closing = (0, 0) if pot.closing is None else (pot.closing.time, pot.closing.worked_max)
            assert (pot.funded, pot.refunded, len(pot.epochs), pot.kills) == (
                said["funded"],
                said["refunded"],
                said["live"],
                said["kills"],
            )
            assert (said["closed_at"], said["worked_max"]) == closing
            assert said["paid"] == sum(pot.claimed.values())

    @invariant()
    def nobody_takes_more_than_the_rate(self) -> None:
        """Also where two thirds of the seats lie: rounds, and seconds since the pot was opened, bound it."""
        for run in self.runs:
            seconds = self.economy.evm.now - self.start
            rounds = min(len(run.work), seconds // SECONDS)
            pot = run.pot
            paid = sum(pot.claimed.values())
            assert paid <= min(rounds * RATE, pot.escrow)
            assert pot.total <= min(rounds * RATE, pot.escrow)

    @invariant()
    def honest_work_is_not_lost(self) -> None:
        """What honest seats settled stays claimable whatever the owner does, until somebody claims it or kills it."""
        for run in self.runs:
            if run.captured:
                continue
            pot = run.pot
            owed = {member: amount - pot.claimed.get(member, 0) for member, amount in run.leaves[-1].items()}
            assert sum(amount for amount in owed.values() if amount > 0) <= pot.escrow - sum(
                pot.claimed.values()
            )


SEEDS = int(os.environ.get("DISTRAI_SEEDS", "100"))
Money.TestCase.settings = settings(max_examples=SEEDS // 16, stateful_step_count=30, deadline=None)
TestMoney = Money.TestCase
