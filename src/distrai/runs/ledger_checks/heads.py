"""A run's chain of heads: rebuilt from events, each certificate with its signatures, and where the contract stands."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from distrai.ledger.errors import BadAnswer
from distrai.ledger.reader import LedgerReader
from distrai.protocol.body import Genesis, has_quorum, roll_call_head, start_head
from distrai.protocol.errors import BadSignature
from distrai.protocol.ledger_events import (
    Certified,
    Joined,
    LedgerEvent,
    Left,
    Position,
    RollCalled,
    RunOpened,
    Started,
)
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from distrai.runs.ledger_checks.findings import Findings, shown

NOBODY = Address(bytes(20))


@dataclass(frozen=True)
class Point:
    """A head: after how many rounds, of which so many were not empty, with which state."""

    round: int
    worked: int
    head: Hash
    state_root: Hash
    at: Position


@dataclass
class Course:
    """What the registry's events say of one run, in order."""

    run: int
    findings: Findings
    genesis: Genesis | None = None
    owner: Address = NOBODY
    points: list[Point] = field(default_factory=list)
    """The heads: the genesis', that of the start, and one for each round."""
    seats: dict[MemberId, Address] = field(default_factory=dict)
    joined: dict[MemberId, bool] = field(default_factory=dict)
    certificates: list[tuple[Certified, dict[MemberId, Address]]] = field(default_factory=list)
    """Each with the seats, and their keys, that had to sign it."""
    is_started: bool = False

    @classmethod
    def of(cls, run: int, events: Iterable[LedgerEvent]) -> "Course":
        """Walk through a run's events."""
        course = cls(run, Findings(f"run {run}"))
        for event in events:
            course._take(event)
        course.findings.need(bool(course.points), "no event opens it: events are missing")
        return course

    @property
    def now(self) -> Point | None:
        """Where the run stands."""
        return self.points[-1] if self.points else None

    def before(self, at: Position) -> Point | None:
        """Where the run stood when something else happened."""
        return next((point for point in reversed(self.points) if point.at < at), None)

    def has_head(self, round_number: int, head: Hash) -> Point | None:
        """The point with this head, if the run was ever there."""
        return next((each for each in self.points if (each.round, each.head) == (round_number, head)), None)

    def _take(self, event: LedgerEvent) -> None:
        match event:
            case RunOpened(genesis=genesis):
                self.genesis, self.owner = genesis, event.owner
                self.points.append(Point(0, 0, genesis.head, genesis.state_root, event.at))
            case Joined(member=member):
                self.joined[member] = True
                if event.seat and not self.is_started:
                    self.seats[member] = event.key
            case Left(member=member):
                self.joined[member] = False
                if not self.is_started:
                    self.seats.pop(member, None)
            case Started():
                self._start(event)
            case Certified():
                self._certify(event)
            case RollCalled():
                self._call_roll(event)
            case _:
                pass

    def _start(self, event: Started) -> None:
        if self.genesis is None:
            return
        self.seats, self.is_started = {seat.member: seat.key for seat in event.seats}, True
        head = start_head(self.genesis.head, [(seat.member, seat.key) for seat in event.seats])
        self.findings.need(
            head == event.head,
            f"the head of its start is {shown(event.head)}, and its seats make {shown(head)}",
        )
        self.points.append(Point(0, 0, event.head, self.genesis.state_root, event.at))
        for member in self.seats:
            self._has_joined(member)

    def _has_joined(self, member: MemberId) -> None:
        self.findings.need(
            member in self.joined, f"member {member.hex()[:12]} got a seat, and no event says that it joined"
        )

    def _certify(self, event: Certified) -> None:
        body = event.body
        self._follow(body.round, body.previous_head)
        self.findings.need(
            body.head == event.head,
            f"round {body.round}: the body does not make the head {shown(event.head)}",
        )
        self.certificates.append((event, dict(self.seats)))
        for promotion in body.promotions:
            self.seats[promotion.member] = promotion.key
            self._has_joined(promotion.member)
        for member in body.drops:
            self.seats.pop(member, None)
        worked = self.points[-1].worked + (not body.is_empty) if self.points else 0
        self.points.append(Point(body.round, worked, event.head, body.state_root, event.at))

    def _call_roll(self, event: RollCalled) -> None:
        self._follow(event.round, event.previous_head)
        head = roll_call_head(event.previous_head, event.round, event.state_root, event.drops)
        self.findings.need(head == event.head, f"round {event.round}: its roll call does not make its head")
        for member in event.drops:
            self.seats.pop(member, None)
        worked = self.points[-1].worked if self.points else 0
        self.points.append(Point(event.round, worked, event.head, event.state_root, event.at))

    def _follow(self, number: int, previous: Hash) -> None:
        now = self.now
        if now is None:
            return
        self.findings.need(
            (number, previous) == (now.round + 1, now.head),
            f"round {number} follows {shown(previous)}, and the head of round {now.round} is {shown(now.head)}: an "
            "event is missing or was changed",
        )


async def check_course(course: Course, reader: LedgerReader, domain: Domain, block: int) -> None:
    """See that seats signed every certificate, and that the contract stands where the events lead."""
    for event, seats in course.certificates:
        await _check_signatures(course.findings, reader, domain, event, seats)
    now, state = course.now, await reader.run_state(course.run, block=block)
    if now is None or course.genesis is None:
        return
    same = course.findings.same
    same("its owner", course.owner, state.owner)
    same("its recipe", course.genesis.recipe_hash, state.recipe_hash)
    same("whether it was started", course.is_started, state.started)
    same("rounds", now.round, state.round)
    same("its head", now.head, state.head)
    same("its state root", now.state_root, state.state_root)
    same("the number of its seats", len(course.seats), state.seats)
    for member, joined in sorted(course.joined.items()):
        part = await reader.membership(course.run, member, block=block)
        told = (joined, course.seats.get(member))
        same(f"member {member.hex()[:12]}", told, (part.joined, part.seat_key))


async def _check_signatures(
    findings: Findings,
    reader: LedgerReader,
    domain: Domain,
    event: Certified,
    seats: dict[MemberId, Address],
) -> None:
    body = event.body
    try:
        signatures: Sequence[bytes] = await reader.attestations(body, event.at)
        signers = [recover(domain.digest(body.id), item) for item in signatures]
    except (BadAnswer, BadSignature) as error:
        findings.need(False, f"the certificate of round {body.round}: {error}")
        return
    strangers = set(signers) - set(seats.values())
    findings.need(
        not strangers and len(set(signers)) == len(signers) and has_quorum(len(signers), len(seats)),
        f"the certificate of round {body.round} is not signed by two thirds of its {len(seats)} seats "
        f"({len(set(signers) - strangers)} signed)",
    )


def is_marked(course: Course, round_number: int, head: Hash, worked: int) -> bool:
    """Whether the run was where a mark says."""
    point = course.has_head(round_number, head)
    return point is not None and point.worked == worked and head != ZERO_HASH
