"""Members, owners and runs, as short to write as the rules they try."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pytest
from coincurve import PrivateKey

from contracts.support.evm import CHAIN_ID, Contract, Evm, Outcome
from distrai.ledger.errors import LedgerRefused
from distrai.protocol.body import Body, Promotion, quorum
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import ZERO_HASH, Address, Hash
from distrai.protocol.signatures import address_of, sign
from distrai.protocol.typed_data import Domain, struct_hash, type_hash

NOBODY = bytes(20)
STALL = 600
GRACE = STALL // 4
TYPES = {
    "Registration": "Registration(address creator,uint256 nonce,address controller,address payout)",
    "Rotation": "Rotation(bytes32 member,address newKey,uint256 nonce)",
    "Join": "Join(uint64 run,bytes32 member)",
    "Invitation": "Invitation(uint64 run,bytes32 member)",
}


@dataclass(frozen=True)
class Limits:
    """The limits of a run, in the order of the struct."""

    min_seats: int = 1
    max_seats: int = 64
    stall_seconds: int = STALL
    roll_call: tuple[int, int] = (1, 2)
    epoch_rounds: int = 8
    open_admission: bool = False

    def encoded(self) -> tuple[object, ...]:
        seats = (self.min_seats, self.max_seats)
        return (*seats, self.stall_seconds, *self.roll_call, self.epoch_rounds, self.open_admission)


@dataclass(frozen=True)
class Key:
    """A secp256k1 key; the same seed always gives the same."""

    seed: str

    @cached_property
    def _private(self) -> PrivateKey:
        return PrivateKey(keccak(self.seed.encode()))

    @cached_property
    def address(self) -> Address:
        return address_of(self._private.public_key)

    def sign(self, digest: bytes) -> bytes:
        return sign(self._private, Hash(digest))


@dataclass(frozen=True)
class Member:
    """A registered member, which is its own controller, with the key it signs with."""

    id: bytes
    key: Key
    controller: bytes

    def __lt__(self, other: "Member") -> bool:
        return self.id < other.id


@dataclass
class World:
    """A registry and everybody around it."""

    evm: Evm
    registry: Contract
    made: int = 0
    owner: Key = field(default_factory=lambda: Key("owner"))

    @cached_property
    def domain(self) -> Domain:
        return Domain(CHAIN_ID, Address(self.registry.address))

    def send(self, sender: bytes, function: str, *arguments: object) -> Outcome:
        return self.registry.send(sender, function, *arguments)

    def read(self, function: str, *arguments: object) -> Any:
        return self.registry.read(function, *arguments)

    def signed(self, key: Key, kind: str, *values: object) -> bytes:
        """A signature by ``key`` over a struct of ``kind``, in this registry's domain."""
        types = [part.split()[0] for part in TYPES[kind].partition("(")[2].rstrip(")").split(",")]
        return key.sign(self.domain.digest(struct_hash(type_hash(TYPES[kind]), types, list(values))))

    def member(self, key: Key | None = None) -> Member:
        """Register another member, by an account of its own that is also its controller."""
        self.made += 1
        key = key or Key(f"node {self.made}")
        account = Key(f"account {self.made}").address
        signature = self.signed(key, "Registration", account, 0, account, NOBODY)
        outcome = self.send(account, "register", 0, account, key.address, NOBODY, signature)
        return Member(outcome.returned[0], key, account)

    def members(self, count: int) -> list[Member]:
        """So many more members, sorted by id."""
        return sorted(self.member() for _ in range(count))

    def open(self, limits: Limits | None = None, **changes: Any) -> int:
        """Open a run as the owner."""
        origin = (b"\1" * 32, b"\2" * 32, b"\3" * 32, b"\4" * 32, changes.pop("parent", (0, 0, ZERO_HASH)))
        limits = replace(limits or Limits(), **changes)
        return int(self.send(self.owner.address, "open", origin, limits.encoded()).returned[0])

    def join(self, run: int, member: Member, sender: bytes = NOBODY) -> Outcome:
        """Enter a member, with both signatures, by anyone."""
        signature = self.signed(member.key, "Join", run, member.id)
        return self.send(
            sender, "join", run, member.id, signature, self.signed(self.owner, "Invitation", run, member.id)
        )

    def start(self, run: int, members: Iterable[Member]) -> Outcome:
        return self.send(self.owner.address, "start", run, [member.id for member in sorted(members)])

    def started(self, seats: int, **limits: Any) -> "Running":
        """A started run with so many seats."""
        run = self.open(**limits)
        members = self.members(seats)
        for member in members:
            self.join(run, member)
        self.start(run, members)
        return Running(self, run, members)

    def stalled(self, seats: int, **limits: Any) -> "Running":
        """A started run in which a roll call may open."""
        running = self.started(seats, **limits)
        running.wait(STALL)
        return running

    def rotate(self, member: Member, key: Key) -> Member:
        """Give a member another key; the member with that key."""
        nonce = self.read("getMember", member.id)[1]
        signature = self.signed(key, "Rotation", member.id, key.address, nonce)
        self.send(member.controller, "rotateKey", member.id, key.address, signature)
        return replace(member, key=key)


@dataclass
class Running:
    """A started run, and the members that hold its seats as far as the test knows."""

    world: World
    run: int
    seats: list[Member]

    @property
    def state(self) -> "State":
        return State(*self.world.read("getRun", self.run))

    def body(self, **changes: Any) -> Body:
        """The body of the next round: a non-empty one without changes of membership."""
        state = self.state
        made = Body(
            run=self.run,
            round=state.round + 1,
            previous_head=Hash(state.head),
            updates_root=keccak(b"updates %d" % state.round),
            state_root=keccak(b"state %d" % state.round),
            trainers_root=keccak(b"trainers"),
        )
        values = {name: getattr(made, name) for name in made.__struct_fields__}
        return Body(**(values | changes))

    def empty(self, **changes: Any) -> Body:
        return self.body(updates_root=ZERO_HASH, state_root=Hash(self.state.state_root), **changes)

    def signatures(self, body: Body, signers: Iterable[Member]) -> bytes:
        """Signatures over ``body``, sorted by signer."""
        digest = self.world.domain.digest(body.id)
        keys = sorted((member.key for member in signers), key=lambda key: key.address)
        return b"".join(key.sign(digest) for key in keys)

    def submit(self, body: Body, signatures: bytes) -> Outcome:
        return self.world.send(NOBODY, "certify", encoded(body), signatures)

    def certify(self, body: Body | None = None, signers: Sequence[Member] | None = None) -> Outcome:
        """Land a certificate, by default of the first two thirds of the seats."""
        body = body or self.body()
        if signers is None:
            signers = self.seats[: quorum(len(self.seats))]
        return self.submit(body, self.signatures(body, signers))

    def check_in(self, member: Member) -> Outcome:
        return self.world.send(member.key.address, "checkIn", self.run)

    def close(self, absent: Iterable[Member]) -> Outcome:
        return self.world.send(NOBODY, "closeRollCall", self.run, [member.id for member in sorted(absent)])

    def wait(self, seconds: int) -> None:
        self.world.evm.now += seconds


@dataclass(frozen=True)
class State:
    """A run as the registry tells it."""

    head: bytes
    state_root: bytes
    beacon: bytes
    progress: tuple[int, int, int, int, int, int]
    limits: tuple[Any, ...]
    owner: bytes
    recipe_hash: bytes
    parent: tuple[int, int, bytes]

    @property
    def round(self) -> int:
        return self.progress[0]

    @property
    def seats(self) -> int:
        return self.progress[2]

    @property
    def epoch_seats(self) -> int:
        return self.progress[3]


def encoded(body: Body) -> tuple[object, ...]:
    """A body as the contract's struct."""
    promotions = [(item.member, item.key) for item in body.promotions]
    hashes = (body.previous_head, body.updates_root, body.state_root, body.trainers_root)
    return (body.run, body.round, *hashes, promotions, list(body.drops))


def promotion(member: Member, key: Key | None = None) -> Promotion:
    return Promotion(member.id, (key or member.key).address)  # type: ignore[arg-type]


@contextmanager
def refused(name: str, *arguments: object) -> Iterator[None]:
    """The contract refuses with this error, and with these arguments if any are given."""
    with pytest.raises(LedgerRefused) as caught:
        yield
    assert caught.value.name == name, caught.value
    assert not arguments or caught.value.arguments == arguments
