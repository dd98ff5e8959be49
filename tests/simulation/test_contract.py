"""The simulator's contract against the plain model that the real contract is tested against, action by action."""

from fractions import Fraction
from random import Random

from msgspec.structs import replace

from contracts.differential.model import Model, Rules, Signed
from distrai.protocol.body import Body, Promotion
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import ZERO_HASH, Address, Hash
from distrai.simulation.contract import Contract, Limits, Refused
from distrai.simulation.toy import DOMAIN, RUN, make_identity, signer, with_new_key
from distrai.simulation.transactions import Certify, CheckingIn, Close, Join, Leave, Rotate, Start

MEMBERS = tuple(sorted((make_identity(index) for index in range(6)), key=lambda item: item.member))
STALL = 101  # not a multiple of four, so that the grace is rounded
OWNER = Address(bytes(20))
HEAD, STATE = keccak(b"genesis head"), keccak(b"state")


class Pair:
    """The contract of the simulator and the model, side by side."""

    def __init__(self, limits: Limits) -> None:
        share = Fraction(*limits.roll_call)
        rules = Rules(
            limits.min_seats, limits.max_seats, limits.stall_seconds, share, limits.epoch_rounds, True
        )
        self.model = Model(RUN, rules, OWNER, HEAD, STATE)
        self.contract = Contract(limits, HEAD, STATE)
        self.now, self.made = 5, 0
        for identity in MEMBERS:
            self.model.add(identity.member, identity.address)
            self.contract.register(identity.member, identity.address)

    def agree(self, sent, broken: set[str]) -> bool:
        """The contract refuses for a reason of the model's, and changes nothing then."""
        before = self.contract.copy()
        try:
            self.contract.apply(sent, self.now)
            reason = ""
        except Refused as refusal:
            reason = str(refusal)
            assert self.contract == before
        assert reason in (broken or {""}), f"{sent}: {reason or 'taken'}, the model says {broken or 'taken'}"
        model, contract = self.model, self.contract
        assert (model.seats, model.head, model.round, model.state_root) == (
            contract.seats,
            contract.head,
            contract.round,
            contract.state_root,
        )
        assert (model.epoch_seats, model.epoch_left) == (contract.epoch_seats, contract.epoch_left)
        return not reason

    def join(self, number: int) -> None:
        member = MEMBERS[number].member
        self.agree(Join(member), self.model.join(member, self.model.keys[member], None, None))

    def leave(self, number: int) -> None:
        member = MEMBERS[number].member
        self.agree(Leave(member), self.model.leave(member, True))

    def rotate(self, number: int, is_taken: bool) -> None:
        member = MEMBERS[number].member
        self.made += 1
        key = MEMBERS[0].address if is_taken else with_new_key(MEMBERS[number], self.made).address
        self.agree(Rotate(member, key), self.model.rotate(member, key, key))

    def start(self) -> None:
        members = tuple(sorted(self.model.seats))
        self.agree(Start(members), self.model.start(members, OWNER, self.now))

    def certify(self, off: int, promote: set, drop: set, is_full: bool, is_old: bool, wrong: bool) -> None:
        """A certificate of this or another round, by enough seats or one too few, with any changes."""
        model = self.model
        keys = [self._key(number, is_old) for number in sorted(promote)]
        promotions = tuple(
            Promotion(MEMBERS[number].member, key) for number, key in zip(sorted(promote), keys, strict=True)
        )
        drops = tuple(MEMBERS[number].member for number in sorted(drop))
        roots = (keccak(b"updates"), keccak(b"state %d" % model.round)) if is_full else (ZERO_HASH, STATE)
        body = Body(RUN, model.round + 1 + off, model.head, *roots, keccak(b"trainers"), promotions, drops)
        if wrong:
            body = replace(
                body, previous_head=Hash(bytes(32)), promotions=promotions[::-1], drops=drops[::-1]
            )
        seats = sorted(model.seats.values())
        signers = seats[: max(1, -(-2 * len(seats) // 3)) - wrong]
        signatures = tuple(signer(key)(DOMAIN.digest(body.id)) for key in signers)
        broken = model.certify(body, Signed(tuple(signers)), self.now)
        self.agree(Certify(body, signatures), broken)

    def _key(self, number: int, is_old: bool) -> Address:
        return MEMBERS[number].address if is_old else self.model.keys[MEMBERS[number].member]

    def check_in(self, number: int) -> None:
        key = self.model.seats.get(MEMBERS[number].member, MEMBERS[number].address)
        self.agree(CheckingIn(key), self.model.check_in(key, self.now))

    def roll_call(self, present: list[int], waited: int) -> None:
        """A whole roll call, begun and ended at about the right times."""
        self.now = max(self.now, self.model.head_at + STALL)
        for number in present:
            self.check_in(number)
        call = self.model.current_call
        if call is not None:
            self.now = max(self.now, self.model.closable_at(call) + waited)
        self.close("")

    def close(self, fault: str) -> None:
        call = self.model.current_call
        present = set() if call is None else call.present
        drops = sorted(set(self.model.seats) - present)
        if fault == "missing":
            drops = drops[1:]
        elif fault == "present":
            drops = sorted([*drops[1:], *sorted(present)[:1]])
        elif fault == "twice":
            drops = [*drops[:1], *drops[:-1]]
        self.agree(Close(tuple(drops)), self.model.close(drops, self.now))

    def step(self, random: Random) -> None:
        """Something, mostly what may succeed."""
        number, rare = random.randrange(len(MEMBERS)), random.random() < 0.08
        match random.choice("jlrrcccccciioow"):
            case "j":
                self.join(number)
            case "l":
                self.leave(number)
            case "r":
                self.rotate(number, rare)
            case "c":
                promote = {number} if random.random() < 0.4 else set()
                drop = self.some_seat(random) - promote if random.random() < 0.4 else set()
                off, is_full = random.choice((-1, 1)) if rare else 0, random.random() < 0.7
                self.certify(off, promote, drop, is_full, random.random() < 0.3, random.random() < 0.08)
            case "i":
                self.now += random.choice((0, 1, STALL // 2, STALL))
                self.check_in(number)
            case "o":
                present = random.sample(range(len(MEMBERS)), random.randrange(1, len(MEMBERS)))
                self.roll_call(present, random.choice((-1, 0, 0, 1, STALL)))
            case "w":
                self.now += random.choice((1, 25, 26, STALL - 1, STALL, 2 * STALL))
                self.close(random.choice(("", "missing", "present", "twice")))

    def some_seat(self, random: Random) -> set[int]:
        members = [number for number, who in enumerate(MEMBERS) if who.member in self.model.seats]
        return {random.choice(members)} if members else set()


def test_contract_decides_as_the_model_does() -> None:
    for seed in range(150):
        random = Random(seed)
        share = random.choice(((1, 2), (1, 3), (2, 3), (1, 1), (1, 64)))
        minimum = random.choice((1, 1, 2, 3))
        pair = Pair(Limits(minimum, minimum + random.randrange(6), STALL, share, random.randint(1, 3)))
        for number in random.sample(range(len(MEMBERS)), random.randint(3, len(MEMBERS))):
            pair.join(number)
        pair.start()
        for _ in range(30):
            pair.step(random)
