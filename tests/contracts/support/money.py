"""Token, pots, stakes and records around a registry, as short to use as the registry itself."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from eth_abi.abi import encode

from contracts.support.evm import CHAIN_ID, Contract, Evm, Outcome
from contracts.support.players import NOBODY, Key, Member, Running, World
from distrai.ledger.abi import Abi, load_artifact
from distrai.protocol.body import quorum
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import Update
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.rewards import Epoch, rewards_proof, rewards_root
from distrai.protocol.typed_data import Domain

NAMES = ("RunRegistry", "Token", "TrainingRecords", "StakeManager", "RewardsDistributor")
AUDIT, DISPUTE, ACTIVATION, SETTLE, DEAD = 100, 150, 300, 500, 2_000
SLASH, UNBOND = 700, 1_501
SUPPLY = 10**27
BANK, GUARDIAN, TREASURY = Key("bank").address, Key("guardian").address, Key("treasury").address
PRICE, CAP, MEMBERS, SECONDS = 2_000_000, 1_000, 4, 10
RATE = CAP * MEMBERS
MINIMUM, FAULT = 10_000, 4_000


@cache
def abi_of(name: str) -> Abi:
    """The ABI of a contract, with the errors of all: what a contract calls may refuse, too."""
    folder = resources.files("distrai.ledger").joinpath("artifacts")
    made = {each: json.loads(folder.joinpath(f"{each}.json").read_text())["abi"] for each in NAMES}
    errors = [entry for entries in made.values() for entry in entries if entry["type"] == "error"]
    return Abi([*made[name], *errors])


def deploy(evm: Evm, name: str, types: Sequence[str] = (), values: Sequence[object] = ()) -> Contract:
    """Deploy a contract with these arguments. Raises Reverted with its error."""
    return Contract(evm, abi_of(name), load_artifact(name).bytecode + encode(types, values), BANK)


def pots_setup(registry: bytes, token: bytes, **changes: Any) -> tuple[object, ...]:
    """The setup of a RewardsDistributor."""
    setup = {"registry": registry, "token": token, "guardian": GUARDIAN, "audit": AUDIT, "dispute": DISPUTE}
    return tuple((setup | {"activation": ACTIVATION, "settle": SETTLE, "dead": DEAD} | changes).values())


def stakes_setup(registry: bytes, token: bytes, rewards: bytes, **changes: Any) -> tuple[object, ...]:
    """The setup of a StakeManager."""
    setup = {"registry": registry, "token": token, "rewards": rewards, "treasury": TREASURY}
    setup |= {"guardian": GUARDIAN, "unbond": UNBOND, "slash": SLASH, "dead": DEAD}
    return tuple((setup | changes).values())


POTS_TYPES = ["(address,address,address,uint32,uint32,uint32,uint32,uint32)"]
STAKES_TYPES = ["(address,address,address,address,address,uint32,uint32,uint32)"]


@dataclass(frozen=True)
class Contracts:
    """All contracts on one chain."""

    evm: Evm
    registry: Contract
    token: Contract
    rewards: Contract
    stakes: Contract
    records: Contract


def deploy_all(evm: Evm, registry: Contract) -> Contracts:
    """Everything around a registry."""
    token = deploy(evm, "Token", ["string", "string", "address", "uint256"], ["Play", "PLAY", BANK, SUPPLY])
    setup = pots_setup(registry.address, token.address)
    rewards = deploy(evm, "RewardsDistributor", POTS_TYPES, [setup])
    setup = stakes_setup(registry.address, token.address, rewards.address)
    stakes = deploy(evm, "StakeManager", STAKES_TYPES, [setup])
    records = deploy(evm, "TrainingRecords", ["address"], [registry.address])
    return Contracts(evm, registry, token, rewards, stakes, records)


@dataclass
class Economy:
    """The contracts, and everybody around them."""

    contracts: Contracts
    world: World

    @property
    def evm(self) -> Evm:
        return self.world.evm

    @property
    def token(self) -> Contract:
        return self.contracts.token

    @property
    def rewards(self) -> Contract:
        return self.contracts.rewards

    @property
    def stakes(self) -> Contract:
        return self.contracts.stakes

    @property
    def records(self) -> Contract:
        return self.contracts.records

    @property
    def domain(self) -> Domain:
        """The distributor's."""
        return Domain(CHAIN_ID, Address(self.rewards.address))

    def balance(self, account: bytes) -> int:
        return int(self.token.read("balanceOf", account))

    def give(self, account: bytes, amount: int, spender: Contract) -> None:
        """Tokens of which ``spender`` may take all."""
        self.token.send(BANK, "transfer", account, amount)
        self.token.send(account, "approve", spender.address, amount)

    def paying(self, seats: int = 3, funded: int = 100 * RATE, **limits: Any) -> "Paying":
        """A started run with a pot from which its seats may earn."""
        running = self.world.started(seats, **limits)
        pot = Paying(self, running)
        pot.open()
        if funded:
            pot.fund(funded)
        for member in running.seats[:MEMBERS]:
            pot.allow(member)
        return pot

    def staked(self, seats: int = 3, amount: int = MINIMUM) -> "Staked":
        """A started run whose seats have staked."""
        run, members = self.world.open(), self.world.members(seats)
        self.stakes.send(self.world.owner.address, "setTerms", run, (MINIMUM, FAULT))
        for member in members:
            self.world.join(run, member)
        staked = Staked(self, Running(self.world, run, members))
        for member in members:
            staked.stake(member, amount)
        self.world.start(run, members)
        return staked


@dataclass
class Paying:
    """A run with a pot, and what the test let its members earn so far."""

    economy: Economy
    running: Running
    earned: dict[bytes, int] = field(default_factory=dict)

    @property
    def run(self) -> int:
        return self.running.run

    @property
    def owner(self) -> bytes:
        return self.running.world.owner.address

    @property
    def pot(self) -> dict[str, Any]:
        names = ("owner", "opened_at", "funded", "refunded", "paid", "live", "kills", "closed_at")
        names += ("killed_at", "worked_max", "members", "terms")
        return dict(zip(names, self.read("potOf"), strict=True))

    def send(self, function: str, *arguments: object, sender: bytes | None = None) -> Outcome:
        return self.economy.rewards.send(sender or self.owner, function, self.run, *arguments)

    def read(self, function: str, *arguments: object) -> Any:
        return self.economy.rewards.read(function, self.run, *arguments)

    def open(self, **terms: int) -> Outcome:
        values = {"price": PRICE, "cap": CAP, "members": MEMBERS, "seconds": SECONDS} | terms
        return self.send("openPot", tuple(values.values()))

    def fund(self, amount: int, sender: bytes | None = None) -> Outcome:
        self.economy.give(sender or self.owner, amount, self.economy.rewards)
        return self.send("fund", amount, sender=sender)

    def allow(self, member: Member) -> Outcome:
        return self.send("allow", member.id)

    def work(self, rounds: int, seconds: int = SECONDS, empty: bool = False) -> None:
        """So many rounds, each after so long."""
        for _ in range(rounds):
            self.running.wait(seconds)
            self.running.certify(self.running.empty() if empty else None)

    def mark(self) -> Outcome:
        return self.send("markHead", sender=NOBODY)

    def earn(self, amounts: Mapping[bytes, int]) -> dict[MemberId, int]:
        """The cumulative amounts once these are earned, too."""
        for member, amount in amounts.items():
            self.earned[member] = self.earned.get(member, 0) + amount
        return self.amounts

    @property
    def amounts(self) -> dict[MemberId, int]:
        return {MemberId(member): amount for member, amount in sorted(self.earned.items())}

    def epoch(self, **changes: Any) -> Epoch:
        """The next epoch: until the newest head, with what was earned."""
        pot, state = self.pot, self.running.state
        made = Epoch(
            run=self.run,
            epoch=pot["live"] + 1,
            last_round=state.round,
            head=Hash(state.head),
            root=rewards_root(self.economy.domain, self.run, self.amounts),
            total=sum(self.earned.values()),
            data_hash=keccak(b"table"),
            previous_root=Hash(self.read("epochOf", pot["live"])[0]),
            kills=pot["kills"],
        )
        return msgspec.structs.replace(made, **changes)

    def signatures(self, epoch: Epoch, signers: Iterable[Member] | None = None) -> bytes:
        if signers is None:
            signers = self.running.seats[: quorum(len(self.running.seats))]
        digest = self.economy.domain.digest(epoch.id)
        keys = sorted((member.key for member in signers), key=lambda key: key.address)
        return b"".join(key.sign(digest) for key in keys)

    def submit(self, epoch: Epoch, signatures: bytes) -> Outcome:
        return self.economy.rewards.send(NOBODY, "settle", msgspec.structs.astuple(epoch), signatures)

    def settle(self, amounts: Mapping[bytes, int] | None = None, **changes: Any) -> Epoch:
        """Land an epoch in which these amounts were earned, of a head that is marked first."""
        self.earn(amounts or {})
        if self.read("markOf", self.running.state.round)[0] == ZERO_HASH:
            self.mark()
        epoch = self.epoch(**changes)
        self.submit(epoch, self.signatures(epoch))
        return epoch

    def claim(
        self, member: Member, epoch: int | None = None, amounts: dict[MemberId, int] | None = None
    ) -> Outcome:
        amounts = self.amounts if amounts is None else amounts
        proof = rewards_proof(self.economy.domain, self.run, amounts, MemberId(member.id))
        number = self.pot["live"] if epoch is None else epoch
        return self.send("claim", number, member.id, amounts[MemberId(member.id)], proof, sender=NOBODY)

    def wait(self, seconds: int) -> None:
        self.running.wait(seconds)


@dataclass
class Staked:
    """A run whose members have staked."""

    economy: Economy
    running: Running

    @property
    def run(self) -> int:
        return self.running.run

    def send(self, sender: bytes, function: str, *arguments: object) -> Outcome:
        return self.economy.stakes.send(sender, function, *arguments)

    def stake(self, member: Member, amount: int, sender: bytes | None = None) -> Outcome:
        sender = sender or member.controller
        self.economy.give(sender, amount, self.economy.stakes)
        return self.send(sender, "stake", self.run, member.id, amount)

    def held(self, member: Member) -> tuple[int, int, int, int]:
        """Staked, unbonding, when it is released, when the exit was asked for."""
        return tuple(self.economy.stakes.read("stakeOf", self.run, member.id))  # type: ignore[return-value]

    def is_active(self, member: Member) -> bool:
        return bool(self.economy.stakes.read("isActive", self.run, member.id))

    def leave(self, member: Member) -> None:
        self.economy.world.send(member.controller, "leaveRun", self.run, member.id)

    def drop(self, member: Member) -> None:
        """Leave, and lose the seat by a certificate."""
        self.leave(member)
        self.running.certify(self.running.body(drops=(member.id,)))
        self.running.seats = [seat for seat in self.running.seats if seat != member]

    def unbond(self, member: Member) -> Outcome:
        return self.send(member.controller, "unbond", self.run, member.id)

    def withdraw(self, member: Member) -> Outcome:
        return self.send(NOBODY, "withdraw", self.run, member.id)

    def update(self, member: Member, **changes: Any) -> Update:
        """An Update of the round that is going on."""
        state = self.running.state
        made = Update(
            run=self.run,
            round=state.round + 1,
            previous_head=Hash(state.head),
            member=MemberId(member.id),
            version=1,
            base_round=state.round,
            base_state_root=Hash(state.state_root),
            fragment=0,
            tau=0,
            inner_steps=10,
            tokens=5_120,
            codec="int8",
            blob_hash=keccak(b"blob"),
            blob_size=1_000,
            key_hash=keccak(b"key"),
            trace_root=ZERO_HASH,
        )
        return msgspec.structs.replace(made, **changes)

    def sign(self, update: Update, key: Key) -> bytes:
        return key.sign(self.running.world.domain.digest(update.identity(b"")))

    def slash(self, first: Update, second: Update, keys: tuple[Key, Key], by: bytes = NOBODY) -> Outcome:
        signatures = [self.sign(update, key) for update, key in zip((first, second), keys, strict=True)]
        return self.submit(first, second, *signatures, by=by)

    def submit(self, first: Update, second: Update, one: bytes, other: bytes, by: bytes = NOBODY) -> Outcome:
        """Report two Updates, for the place of the first."""
        sender = CHALLENGER if by == NOBODY else by
        return self.send(sender, "slash", place_of(first), work_of(first), work_of(second), one, other)

    def wait(self, seconds: int) -> None:
        self.running.wait(seconds)


CHALLENGER = Key("challenger").address


def place_of(update: Update) -> tuple[object, ...]:
    """Where an Update stands, as the contract's struct."""
    return (
        update.run,
        update.round,
        update.previous_head,
        update.member,
        update.base_round,
        update.fragment,
    )


def place_id(update: Update) -> bytes:
    """The name of that place."""
    types = ["uint64", "uint64", "bytes32", "bytes32", "uint64", "uint32"]
    return keccak(encode(types, place_of(update)))


def work_of(update: Update) -> tuple[object, ...]:
    """The rest of an Update, as the contract's struct."""
    steps = (update.version, update.base_state_root, update.tau, update.inner_steps, update.tokens)
    return (*steps, update.codec, update.blob_hash, update.blob_size, update.key_hash, update.trace_root)
