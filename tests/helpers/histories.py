"""A run as its ledger tells it: events, the lists behind them, and the standing that one who saw it all arrives at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from distrai.protocol.body import Body, Genesis
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import (
    Announced,
    Certified,
    CheckedIn,
    Joined,
    KeyChanged,
    LedgerEvent,
    Left,
    Position,
    RollCalled,
    RunOpened,
    Started,
)
from distrai.protocol.lists import CertifiedList, Trainer
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.standing import RunRules, Standing, advance, call_roll, start
from helpers.messages import DOMAIN, Author, named
from helpers.rounds import RULES, RUN, authors, listing, next_body

GENESIS = Genesis(DOMAIN.chain_id, DOMAIN.registry, RUN, *(named(name) for name in ("recipe", "s", "d", "t")))
OWNER = Address(b"w" * 20)


def key_of(author: Author, turn: int) -> Address:
    """The key that an author has after so many rotations."""
    return author.address if turn == 0 else Address(keccak(author.address + bytes([turn]))[12:])


@dataclass
class History:
    """What happens on the ledger, step by step."""

    standing: Standing | None = None
    roster: dict[MemberId, Address] = field(default_factory=dict)
    events: list[LedgerEvent] = field(default_factory=list)
    lists: dict[int, CertifiedList] = field(default_factory=dict)
    staleness: int = 0

    @property
    def rules(self) -> RunRules:
        return replace(RULES, staleness=self.staleness)

    def __post_init__(self) -> None:
        self._add(RunOpened(self._at(), GENESIS, OWNER))

    def _at(self) -> Position:
        number = len(self.events)
        return Position(number // 2, number % 2, keccak(b"block %d" % (number // 2)))

    def _add(self, event: LedgerEvent) -> None:
        self.events.append(event)

    def join(self, author: Author, turn: int = 0) -> None:
        """Who joins stands at the end, also if it was there before."""
        self.roster.pop(author.member, None)
        self.roster[author.member] = key_of(author, turn)
        self._add(Joined(self._at(), author.member, self.roster[author.member], self.standing is None))

    def leave(self, author: Author) -> None:
        self.roster.pop(author.member, None)
        self._add(Left(self._at(), author.member))

    def rotate(self, author: Author, turn: int) -> None:
        """A key may change while its member does not take part: that changes nothing here."""
        if author.member in self.roster:
            self.roster[author.member] = key_of(author, turn)
        self._add(KeyChanged(self._at(), author.member, key_of(author, turn)))

    def tell(self, author: Author, what: str) -> None:
        """Something that no standing depends on."""
        at, member = self._at(), author.member
        self._add(Announced(at, member, "http://x") if what == "announced" else CheckedIn(at, 1, member, 1))

    def start(self) -> None:
        seats = tuple(sorted(Trainer(member, key) for member, key in self.roster.items()))
        self.standing = start(RUN, GENESIS.head, GENESIS.state_root, seats, self.roster)
        self._add(Started(self._at(), self.standing.head, seats))

    def certify(self, listed: Iterable[Author], **changes: Any) -> Body:
        """The next certificate, over exactly this list; nobody listed: an empty round."""
        before = self.standing
        assert before is not None
        certified = listing(before, listed)
        state_root = named(f"state {before.round + 1}") if certified.entries else before.state_root
        roots = {"updates_root": certified.updates_root, "state_root": state_root}
        body = next_body(before, self.rules, **roots, **changes)
        self.lists[body.round] = certified
        self.standing = advance(before, body, certified, self.roster, self.staleness)
        self._add(Certified(self._at(), body, body.head))
        return body

    def call_roll(self, absent: Sequence[MemberId]) -> None:
        before = self.standing
        assert before is not None
        self.standing = after = call_roll(before, self.rules, tuple(sorted(absent)), self.roster)
        event = RollCalled(
            self._at(), after.round, after.head, before.head, before.state_root, tuple(sorted(absent))
        )
        self._add(event)

    def moved(self, blocks: int) -> "History":
        """The same with all events so many blocks later."""
        later = [
            replace(event, at=replace(event.at, block_number=event.at.block_number + blocks))
            for event in self.events
        ]
        return replace(self, events=later)


@st.composite
def histories(draw: st.DrawFn, steps: int = 25, staleness_max: int = 0) -> History:
    """Four seats, four more that come and go; rounds, empty ones, roll calls, new keys."""
    history, people = History(staleness=draw(st.integers(0, staleness_max))), authors(8)
    for author in draw(st.permutations(people[:4])):
        history.join(author)
    if draw(st.booleans()):
        history.leave(people[0])
        history.join(people[0])
    history.start()
    kinds = st.sampled_from(("certify",) * 6 + ("empty", "roll call", "join", "leave", "rotate", "told"))
    for kind in draw(st.lists(kinds, max_size=steps)):
        who = draw(st.sampled_from(people))
        assert history.standing is not None
        match kind:
            case "certify":
                history.certify(draw(st.sets(st.sampled_from(people), min_size=1)))
            case "empty":
                history.certify([])
            case "roll call":
                seats = history.standing.seat_members
                history.call_roll(draw(st.sets(st.sampled_from(seats), max_size=len(seats) - 1)))
            case "join":
                history.join(who, draw(st.integers(0, 1)))
            case "leave":
                history.leave(who)
            case "rotate":
                history.rotate(who, draw(st.integers(0, 2)))
            case "told":
                history.tell(who, draw(st.sampled_from(("announced", "checked in"))))
    return history
