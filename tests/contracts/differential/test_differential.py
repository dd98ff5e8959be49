"""Random sequences of actions: after each one the registry and the model agree, and so do its events alone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

from coincurve import PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from contracts.differential.model import NOT_RECOVERED, Model, Rules, Signed
from contracts.support.evm import CHAIN_ID, Contract, Evm, Point
from distrai.ledger.abi import load_artifact
from distrai.ledger.errors import LedgerRefused
from distrai.ledger.statements import invitation, join_statement, registration, rotation
from distrai.protocol.body import Body, Genesis, Promotion
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId, SignatureBytes
from distrai.protocol.signatures import address_of, sign
from distrai.protocol.typed_data import Domain

MEMBERS = 7
ANYBODY = Address(b"\x0a" * 20)
STALL = 101  # not a multiple of four, so that the grace is rounded
ZERO_ADDRESS = Address(bytes(20))
FAULTS = ("few", "twice", "unsorted", "foreign", "other body", "high s", "short", "v")
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@cache
def private_key(name: str) -> PrivateKey:
    return PrivateKey(keccak(name.encode()))


@cache
def address(name: str) -> Address:
    return address_of(private_key(name).public_key)


def signed(name: str, digest: Hash) -> SignatureBytes:
    return sign(private_key(name), digest)


@dataclass(frozen=True)
class Scene:
    """A registry with members, before any run."""

    evm: Evm
    registry: Contract
    domain: Domain
    members: dict[MemberId, str]
    point: Point


@cache
def scene() -> Scene:
    evm, artifact = Evm(), load_artifact("RunRegistry")
    registry = Contract(evm, artifact.abi, artifact.bytecode, ANYBODY)
    domain = Domain(CHAIN_ID, Address(registry.address))
    members = {}
    for number in range(MEMBERS):
        name, controller = f"node {number}", address(f"controller {number}")
        digest = registration(domain, controller, number, controller, ZERO_ADDRESS)
        arguments = (number, controller, address(name), ZERO_ADDRESS, signed(name, digest))
        outcome = registry.send(controller, "register", *arguments)
        members[MemberId(outcome.returned[0])] = name
    return Scene(evm, registry, domain, dict(sorted(members.items())), evm.snapshot())


@dataclass
class Replay:
    """Seats as someone knows them who reads events and nothing else."""

    is_started: bool = False
    seats: dict[bytes, bytes] = field(default_factory=dict)
    head: bytes = b""

    def see(self, name: str, said: Any) -> None:
        if name == "Joined" and said["seat"]:
            self.seats[said["member"]] = said["key"]
        elif name == "Left" and not self.is_started:
            self.seats.pop(said["member"], None)
        elif name == "Started":
            self.is_started, self.head = True, said["head"]
            self.seats = dict(zip(said["seats"], said["keys"], strict=True))
        elif name in ("Certified", "RollCalled"):
            assert said["previousHead"] == self.head
            self.head = said["head"]
            for member in said["drops"]:
                del self.seats[member]
            self.seats |= dict(said.get("promotions", ()))


numbers = st.integers(0, MEMBERS - 1)
seldom = st.integers(0, 7).map(lambda value: value == 0)
waits = st.sampled_from([0, 1, 25, 26, STALL - 1, STALL, STALL + 26, 2 * STALL, 4 * STALL])


class Registry(RuleBasedStateMachine):
    """Drives the registry and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        made = scene()
        self.evm, self.registry, self.domain = made.evm, made.registry, made.domain
        self.evm.revert(made.point)
        self.names = dict(made.members)
        self.ids = list(self.names)
        self.all_names = list(made.members.values())
        self.replay = Replay()
        self.beacon = ZERO_HASH
        self.made = 0
        self.is_changed = True

    @initialize(
        minimum=st.integers(1, 3),
        spare=st.integers(0, MEMBERS),
        share=st.sampled_from([(1, 2), (1, 3), (2, 3), (1, 1), (1, 64)]),
        epoch=st.integers(1, 3),
        is_open=st.booleans(),
        joining=st.integers(0, MEMBERS).map(lambda fewer: MEMBERS - fewer),
        is_started=st.integers(0, 2).map(bool),
    )
    def begin(
        self,
        minimum: int,
        spare: int,
        share: tuple[int, int],
        epoch: int,
        is_open: bool,
        joining: int,
        is_started: bool,
    ) -> None:
        roots = [keccak(name) for name in (b"recipe", b"state", b"data", b"tokenizer")]
        limits = (minimum, minimum + spare, STALL, *share, epoch, is_open)
        sender = address("owner")
        outcome = self.registry.send(sender, "open", (*roots, (0, 0, ZERO_HASH)), limits)
        (run,) = outcome.returned
        genesis = Genesis(CHAIN_ID, self.domain.registry, run, *roots)
        rules = Rules(minimum, minimum + spare, STALL, Fraction(*share), epoch, is_open)
        self.model = Model(run, rules, sender, genesis.head, roots[1])
        for member, name in self.names.items():
            self.model.add(member, address(name))
        for number in range(joining):
            self.join(number, False, False, False)
        self.rotate(joining % MEMBERS, False, False)
        if is_started:
            self.start("")

    def act(self, rules: Callable[[], set[str]], sender: Address, function: str, *arguments: object) -> bool:
        """Send, and see that the outcome is what the model says; gives whether it was accepted."""
        number, head = self.evm.number, self.model.head
        broken = rules()
        outcome, reason = None, ""
        try:
            outcome = self.registry.send(sender, function, *arguments)
        except LedgerRefused as refusal:
            reason = refusal.name
        assert reason in (broken or {""}), (
            f"{function} gives {reason or 'no error'}, expected {broken or 'none'}"
        )
        if outcome is None:
            return False
        for log in outcome.logs:
            self.replay.see(log.name, log.arguments)
        if self.model.head != head:
            self.beacon = keccak(self.beacon + self.model.head + self.evm.block_hash(number - 1))
        self.is_changed = True
        return True

    @property
    def now(self) -> int:
        return self.evm.now

    # Actions

    @rule(number=numbers, by_itself=st.booleans(), forged=seldom, uninvited=seldom)
    def join(self, number: int, by_itself: bool, forged: bool, uninvited: bool) -> None:
        member = self.ids[number]
        name, run = self.names[member], self.model.run
        sender = address(name) if by_itself else ANYBODY
        signer = "forger" if forged else name
        inviter = "forger" if uninvited else "owner"
        arguments = (
            b"" if by_itself else signed(signer, join_statement(self.domain, run, member)),
            signed(inviter, invitation(self.domain, run, member)),
        )
        self.act(
            lambda: self.model.join(member, sender, address(signer), address(inviter)),
            sender,
            "join",
            run,
            member,
            *arguments,
        )

    @rule(number=numbers, who=st.sampled_from(["key", "controller", "stranger"]))
    def leave(self, number: int, who: str) -> None:
        member = self.ids[number]
        senders = {
            "key": self.model.keys[member],
            "controller": address(f"controller {self._origin(member)}"),
            "stranger": self.model.keys[self.ids[(number + 1) % MEMBERS]],
        }
        self.act(
            lambda: self.model.leave(member, who != "stranger"),
            senders[who],
            "leaveRun",
            self.model.run,
            member,
        )

    @rule(number=numbers, taken=seldom, forged=seldom)
    def rotate(self, number: int, taken: bool, forged: bool) -> None:
        member = self.ids[number]
        self.made += 1
        name = self.names[self.ids[0]] if taken else f"new node {self.made}"
        nonce = self.registry.read("getMember", member)[1]
        digest = rotation(self.domain, member, address(name), nonce)
        signer = "forger" if forged else name
        sender = address(f"controller {self._origin(member)}")
        signature = signed(signer, digest)
        if self.act(
            lambda: self.model.rotate(member, address(name), address(signer)),
            sender,
            "rotateKey",
            member,
            address(name),
            signature,
        ):
            self.names[member] = name
            self.all_names.append(name)

    @precondition(lambda self: not self.model.started or self.made % 8 == 0)
    @rule(fault=st.sampled_from(["", "", "", "missing", "reversed", "twice", "foreign", "sender"]))
    def start(self, fault: str) -> None:
        members = sorted(self.model.seats)
        if fault == "missing":
            members = members[1:]
        elif fault == "reversed":
            members = members[::-1]
        elif fault == "twice":
            members = [*members[:1], *members[:-1]]
        elif fault == "foreign" and members:
            others = [member for member in self.ids if member not in self.model.seats]
            members = sorted([*members[1:], *others[:1]])
        sender = ANYBODY if fault == "sender" else self.model.owner
        self.act(
            lambda: self.model.start(members, sender, self.now), sender, "start", self.model.run, members
        )

    @precondition(lambda self: self.model.started)
    @rule(
        data=st.data(),
        is_empty=st.booleans(),
        mistake=st.sampled_from([*[""] * 20, "round", "head", "state", "twice"]),
        fault=st.sampled_from([*[""] * 20, *FAULTS]),
        promote=st.just(set()) | st.sets(numbers, max_size=2),
        drop=st.just(set()) | st.sets(numbers, max_size=2),
        is_old_key=st.booleans(),
    )
    def certify(
        self,
        data: Any,
        is_empty: bool,
        mistake: str,
        fault: str,
        promote: set[int],
        drop: set[int],
        is_old_key: bool,
    ) -> None:
        model = self.model
        promotions = [
            Promotion(self.ids[number], self._some_key(self.ids[number], is_old_key))
            for number in sorted(promote)
        ]
        body = Body(
            model.run,
            model.round + (2 if mistake == "round" else 1),
            Hash(keccak(b"other")) if mistake == "head" else model.head,
            ZERO_HASH if is_empty else keccak(b"updates"),
            model.state_root if is_empty and mistake != "state" else keccak(b"state %d" % model.round),
            keccak(b"trainers"),
            tuple(promotions),
            tuple(self.ids[number] for number in sorted(drop)),
        )
        if mistake == "twice":
            body = replace(body, promotions=body.promotions * 2, drops=body.drops * 2)
        attested, raw = self._signatures(data, body, fault)
        head = (body.previous_head, body.updates_root, body.state_root, body.trainers_root)
        pairs = [(item.member, item.key) for item in body.promotions]
        self.act(
            lambda: model.certify(body, attested, self.now),
            ANYBODY,
            "certify",
            (body.run, body.round, *head, pairs, list(body.drops)),
            raw,
        )

    def _signatures(self, data: Any, body: Body, fault: str) -> tuple[Signed, bytes]:
        """Signatures by some of the seats, with a fault."""
        keys = sorted(self.model.seats.values())
        least = -(-2 * len(keys) // 3)
        count = least - 1 if fault == "few" else data.draw(st.integers(least, len(keys)), label="signatures")
        start = data.draw(st.integers(0, len(keys) - count), label="first")
        chosen = keys[start : start + count]
        if fault == "twice" and chosen:
            chosen = [chosen[0], *chosen[: max(1, len(chosen) - 1)]]
        elif fault == "unsorted":
            chosen = chosen[::-1]
        elif fault == "foreign" and chosen:
            chosen = sorted([*chosen[1:], address("forger")])
        digest = self.domain.digest(keccak(b"another") if fault == "other body" else body.id)
        raw = [bytes(signed(self._name_of(key), digest)) for key in chosen]
        faults: set[str] = set()
        if fault == "other body" and raw:
            faults = NOT_RECOVERED
        elif fault == "high s" and raw:
            raw[-1], faults = _twin(raw[-1]), {"ECDSAInvalidSignatureS"}
        elif fault == "short" and raw:
            raw[-1], faults = raw[-1][:-1], {"BadSignaturesLength"}
        elif fault == "v" and raw:
            raw[-1], faults = raw[-1][:-1] + b"\x02", {"ECDSAInvalidSignature"}
        if fault == "short" and raw:
            return Signed(tuple(chosen[:-1]), frozenset(faults)), b"".join(raw)
        return Signed(tuple(chosen), frozenset(faults)), b"".join(raw)

    @precondition(lambda self: self.model.started)
    @rule(number=numbers)
    def check_in(self, number: int) -> None:
        member = self.ids[number]
        key = self.model.seats.get(member, self.model.keys[member])
        self.act(lambda: self.model.check_in(key, self.now), key, "checkIn", self.model.run)

    @precondition(lambda self: self.model.started)
    @rule(
        data=st.data(),
        promote=numbers,
        drop=numbers,
        is_changing=st.booleans(),
        is_rotating=st.booleans(),
        is_old_key=st.booleans(),
        is_empty=seldom,
        fault=st.sampled_from([*[""] * 12, *FAULTS]),
    )
    def certify_next(
        self,
        data: Any,
        promote: int,
        drop: int,
        is_changing: bool,
        is_rotating: bool,
        is_old_key: bool,
        is_empty: bool,
        fault: str,
    ) -> None:
        """A certificate that often changes seats or their keys, with at most one fault."""
        promoted, dropped = ({promote}, {drop} - {promote}) if is_changing else (set(), set())
        dropped = {number for number in dropped if self.ids[number] in self.model.seats}
        if is_changing and is_rotating:
            self.rotate(promote, False, False)
        self.certify(data, is_empty, "", fault, promoted, dropped, is_old_key)

    @precondition(lambda self: self.model.started)
    @rule(numbers=st.lists(numbers, unique=True, min_size=1), late=waits)
    def stall(self, numbers: list[int], late: int) -> None:
        """A roll call to which some come, of which the last may come too late."""
        self.wait(self.model.rules.stall_seconds)
        for number in numbers[:-1]:
            self.check_in(number)
        self.wait(late)
        self.check_in(numbers[-1])

    @precondition(lambda self: self.model.current_call is not None)
    @rule(is_early=seldom, late=waits, fault=st.sampled_from(["", "", "", "present", "twice"]))
    def close_in_time(self, is_early: bool, late: int, fault: str) -> None:
        call = self.model.current_call
        assert call is not None
        self.evm.now = max(self.now, self.model.closable_at(call) - is_early)
        self.wait(late)
        self.close(fault)

    @precondition(lambda self: self.model.current_call is not None)
    @rule(fault=st.sampled_from(["", "", "", "missing", "reversed", "present", "twice"]))
    def close(self, fault: str) -> None:
        call = self.model.current_call
        assert call is not None
        drops = sorted(set(self.model.seats) - call.present)
        if fault == "missing":
            drops = drops[1:]
        elif fault == "reversed":
            drops = drops[::-1]
        elif fault == "present":
            drops = sorted([*drops[1:], *sorted(call.present)[:1]])
        elif fault == "twice":
            drops = [*drops[:1], *drops[:-1]]
        self.act(lambda: self.model.close(drops, self.now), ANYBODY, "closeRollCall", self.model.run, drops)

    @rule(seconds=waits)
    def wait(self, seconds: int) -> None:
        self.evm.now += seconds

    # What always holds

    @invariant()
    def the_registry_is_the_model(self) -> None:
        if not self.is_changed:
            return
        self.is_changed = False
        self._check_run()
        self._check_seats()
        self._check_roll_call()
        assert self.replay.seats == self.model.seats
        assert self.replay.head == (self.model.head if self.model.started else b"")

    def _check_run(self) -> None:
        model = self.model
        head, state_root, beacon, progress, *_ = self.registry.read("getRun", model.run)
        assert (head, state_root, beacon) == (model.head, model.state_root, self.beacon)
        state = 2 if model.started else 1
        seats = (len(model.seats), model.epoch_seats)
        assert progress == (model.round, model.head_at, *seats, model.epoch_left, state)

    def _check_seats(self) -> None:
        model = self.model
        for member in self.ids:
            key, part, _ = self.registry.read("membership", model.run, member)
            assert key == model.seats.get(member, ZERO_ADDRESS)
            assert part == (1 if member in model.joined else 2 if member in model.left else 0)
        holders = {key: member for member, key in model.seats.items()}
        for key in model.past:
            assert self.registry.read("seatOf", model.run, key) == holders.get(key, ZERO_HASH)

    def _check_roll_call(self) -> None:
        call = self.model.current_call
        told, needed, closable_at = self.registry.read("rollCall", self.model.run)
        assert needed == self.model.needed
        if call is not None:
            assert told[1:] == (call.round, call.closes_at, call.failures, len(call.present))
            assert closable_at == self.model.closable_at(call)

    # Below

    def _origin(self, member: MemberId) -> str:
        """The number that a member was registered with."""
        return scene().members[member].removeprefix("node ")

    def _some_key(self, member: MemberId, is_old: bool) -> Address:
        if is_old:
            return next(key for key, holder in self.model.past.items() if holder == member)
        return self.model.keys[member]

    def _name_of(self, key: Address) -> str:
        return next((name for name in self.all_names if address(name) == key), "forger")


def _twin(signature: bytes) -> bytes:
    """The other form of the same signature, with a high s."""
    s, v = int.from_bytes(signature[32:64], "big"), signature[64]
    return signature[:32] + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])


TestRegistry = Registry.TestCase
TestRegistry.settings = settings(
    max_examples=max(20, settings.default.max_examples // 5), stateful_step_count=40
)
