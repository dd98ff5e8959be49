"""Whatever happens to a pot, the contract takes the epochs that peers compute from its events alone."""

import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from contracts.support.evm import CHAIN_ID, Mined
from contracts.support.money import CAP, GUARDIAN, MEMBERS, RATE, Economy, Paying
from distrai.ledger.deployment_file import Deployment
from distrai.ledger.errors import LedgerRefused
from distrai.ledger.money_logs import MoneyLogs, RawLog
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import LedgerEvent, Position
from distrai.protocol.pot import Pot, due_mark, is_mark_due, next_epoch, recompute
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.protocol.rewards import Earnings, HeadMark, WorkedRound

EVERY, ROUNDS, STEPS = 3, 1_000, 45


@dataclass
class Watched:
    """What the distributor told, and what the certified lists accepted."""

    economy: Economy
    events: list[LedgerEvent] = field(default_factory=list)
    work: list[WorkedRound] = field(default_factory=list)
    earned: list[Earnings] = field(default_factory=lambda: [Earnings()])

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rewards = Address(self.economy.rewards.address)
        nobody = Address(b"\x09" * 20)
        logs = MoneyLogs(Deployment(CHAIN_ID, nobody, nobody, nobody, rewards, nobody, 18, 0))
        send = self.economy.evm.send

        def recorded(sender: bytes, to: bytes, data: bytes, *gas: int) -> Mined:
            number, now = self.economy.evm.number, self.economy.evm.now
            mined = send(sender, to, data, *gas)
            for index, (topics, content) in enumerate(mined.logs if to == rewards else ()):
                at = Position(number, index, keccak(number.to_bytes(8, "big")))
                told = logs.decode(RawLog(at, rewards, topics, content, Hash(bytes(32)), now), now)
                self.events += [] if told is None else [told.event]
            return mined

        monkeypatch.setattr(self.economy.evm, "send", recorded)

    @property
    def pot(self) -> Pot:
        return Pot.fold(self.events)

    def settle(self, paying: Paying, every: int = EVERY) -> bool:
        """Do what peers do now: mark, and land what is due."""
        pot, state = self.pot, paying.running.state
        now = HeadMark(state.round, len(self.work), 0)
        if is_mark_due(pot, every, ROUNDS, now):
            paying.mark()
            pot = self.pot
        live = len(pot.epochs)
        del self.earned[live + 1 :]
        domain = paying.economy.domain
        due = next_epoch(
            pot, self.earned[live], self.work, domain, paying.run, epoch_rounds=every, rounds=ROUNDS
        )
        if due is None:
            return False
        paying.submit(due.epoch, paying.signatures(due.epoch))
        self.earned.append(due.earnings)
        return True


def certify(watched: Watched, paying: Paying, rng: random.Random) -> None:
    paying.wait(rng.choice([1, 5, 10, 10, 30]))
    if rng.random() < 0.2:
        paying.running.certify(paying.running.empty())
        return
    paying.running.certify()
    seats = [MemberId(seat.id) for seat in paying.running.seats]
    tokens = {member: rng.choice([0, 7, CAP]) for member in rng.sample(seats, rng.randint(1, len(seats)))}
    watched.work.append(WorkedRound(paying.running.state.round, tokens))


def happen(paying: Paying, rng: random.Random) -> None:
    """Something that the owner, the guardian or anybody does; the contract may refuse it."""
    seat = rng.choice(paying.running.seats)
    with suppress(LedgerRefused):
        match rng.choice(["fund", "allow", "disallow", "mark", "mark", "kill", "wait"]):
            case "fund":
                paying.fund(rng.randint(1, 3 * RATE))
            case "allow":
                paying.allow(seat)
            case "disallow":
                paying.send("disallow", seat.id)
            case "mark":
                paying.mark()
            case "kill":
                paying.send("kill", rng.randint(1, 3), sender=GUARDIAN)
            case _:
                paying.wait(rng.choice([50, 400]))


@pytest.mark.parametrize("seed", range(3))
def test_the_contract_takes_what_peers_compute(
    economy: Economy, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng, watched = random.Random(seed), Watched(economy)
    watched.watch(monkeypatch)
    paying = economy.paying(seats=MEMBERS + 1, funded=6 * RATE)
    landed = 0
    for step in range(STEPS):
        certify(watched, paying, rng)
        if rng.random() < 0.4:
            happen(paying, rng)
        if step == STEPS - 8:
            paying.send("close")
        landed += watched.settle(paying, rng.choice([EVERY, EVERY, 1]))
    paying.wait(10_000)
    with suppress(LedgerRefused):
        paying.send("refund")
    assert not watched.settle(paying)
    pot, told = watched.pot, paying.pot
    known: dict[str, Any] = {"funded": pot.funded, "refunded": pot.refunded, "kills": pot.kills}
    assert known | {"live": len(pot.epochs)} == {name: told[name] for name in (*known, "live")}
    assert landed >= 5
    dues = recompute(pot, watched.work, economy.domain, paying.run)
    assert [due.epoch.root for due in dues] == [live.settled.root for live in pot.epochs]
    assert due_mark(pot, EVERY, ROUNDS) is None or pot.total == watched.earned[-1].total
