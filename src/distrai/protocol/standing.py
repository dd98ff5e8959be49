"""What a head fixes for everybody: seats and their keys, trainers, the data cursor, and who was in the last lists.

A head is the last certificate (or roll call) that the ledger took, or the start. All of this is computed from certified
lists and from ledger events that came before the head, never from what a peer happened to hear.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from distrai.protocol.assignment import Block, assigned_block, next_cursor
from distrai.protocol.bases import Base, Spent, spent_after, younger
from distrai.protocol.body import CHANGES_MAX, Body, Promotion, quorum, roll_call_head, start_head
from distrai.protocol.errors import (
    WrongHead,
    WrongMembershipChange,
    WrongRound,
    WrongStateRoot,
    WrongTrainersRoot,
)
from distrai.protocol.lists import CertifiedList, Trainer, root_of_trainers
from distrai.protocol.messages import Update
from distrai.protocol.primitives import Address, Hash, MemberId

RECENT_LISTS = 8
"""Non-empty certified lists that presence is counted over."""
MISSED_LISTS_MAX = 4
"""A seat that missed so many of the recent lists is dropped."""
PRESENT_LISTS_MIN = 4
"""A trainer that is in so many of the recent lists, the last among them, may become a seat."""
FRESH_LISTS = 4
"""Non-empty rounds for which a seat is fresh: fresh ones stay below a third, so that they can stall nobody."""


@dataclass(frozen=True, order=True)
class Seat:
    """A trainer that also attests.

    Presence counts from the round after ``since``: in it the seat was given, or a roll call closed that the seat had
    checked in to. ``seated`` is the round whose certificate gave the seat. A new key changes neither.
    """

    member: MemberId
    key: Address
    since: int
    seated: int = 0


@dataclass(frozen=True)
class ListedRound:
    """Who was in the list of a non-empty round."""

    round: int
    members: frozenset[MemberId]


@dataclass(frozen=True)
class RunRules:
    """What the recipe fixes about membership and data."""

    min_seats: int
    block_samples: int
    max_seats: int = 64
    staleness: int = 0
    """S: an update may be listed in the round after its base, and in so many rounds after that."""
    lag: int = 0
    """How many heads before the one that a round follows its data is drawn by: 0, or 1 where rounds overlap."""


@dataclass(frozen=True)
class Standing:
    """A head and what it fixes. ``round`` is the number of rounds that are over.

    ``trainers`` train in the round that follows, from ``cursor`` on: both are in the head's own hash. ``roster`` is who
    took part when the ledger took this head, with their keys of then, in the order of joining; ``next_trainers`` are
    the same, sorted, with the keys that they train with: the next body commits to them, for the round after. (Were they
    to train at once, a reorg that moves a join across the head would give one head two meanings.)

    ``before`` is the head before this one (at the start: the genesis'). ``bases`` are those heads before this one,
    oldest first, from which updates may still be listed, and ``spent`` says which of those were.
    """

    run: int
    round: int
    head: Hash
    state_root: Hash
    seats: tuple[Seat, ...]
    trainers: tuple[Trainer, ...]
    cursor: int
    next_trainers: tuple[Trainer, ...]
    before: Hash
    recent: tuple[ListedRound, ...] = ()
    roster: tuple[Trainer, ...] = ()
    bases: tuple[Base, ...] = ()
    spent: Spent = frozenset()

    @property
    def quorum(self) -> int:
        """How many seats certify."""
        return quorum(len(self.seats))

    @property
    def seat_members(self) -> tuple[MemberId, ...]:
        """The seats' members, sorted."""
        return tuple(seat.member for seat in self.seats)

    @property
    def trainer_members(self) -> tuple[MemberId, ...]:
        """The trainers' members, sorted."""
        return tuple(trainer.member for trainer in self.trainers)

    def seat_key(self, member: MemberId) -> Address | None:
        """The key that attests for ``member``, or None without a seat."""
        return next((seat.key for seat in self.seats if seat.member == member), None)

    def trainer_key(self, member: MemberId) -> Address | None:
        """The key that signs the updates of ``member`` from this head, or None if it is no trainer."""
        return self.base.trainer_key(member)

    @cached_property
    def base(self) -> Base:
        """This head as one that updates start from."""
        return Base(self.round, self.head, self.state_root, self.trainers)

    def base_at(self, round_number: int) -> Base | None:
        """The head after this round, if updates from it may be listed in the round that follows this standing."""
        return next((base for base in (*self.bases, self.base) if base.round == round_number), None)

    def base_of_head(self, head: Hash) -> Base | None:
        """The same by the head's name."""
        return next((base for base in (*self.bases, self.base) if base.head == head), None)

    def signing_keys(self, updates: Iterable[Update]) -> dict[MemberId, Address]:
        """Who must have signed which of ``updates`` (one of each member): those whose base gives its author a key.

        One from no base that there is counts as one from here: ``check_update`` says what is wrong with it.
        """
        found = ((update.member, self.base_at(update.round - 1) or self.base) for update in updates)
        keys = ((member, base.trainer_key(member)) for member, base in found)
        return {member: key for member, key in keys if key is not None}

    @cached_property
    def authors(self) -> frozenset[MemberId]:
        """Everybody of whom an update may be listed in the round that follows."""
        return frozenset(one.member for base in (*self.bases, self.base) for one in base.trainers)


def _in_roster(roster: Mapping[MemberId, Address]) -> tuple[Trainer, ...]:
    return tuple(Trainer(member, key) for member, key in roster.items())


def _trainers(seats: Iterable[Seat], roster: Mapping[MemberId, Address]) -> tuple[Trainer, ...]:
    """Who joined and did not leave; a seat signs with its seat's key until it is promoted with a new one."""
    keys = dict(roster) | {seat.member: seat.key for seat in seats if seat.member in roster}
    return tuple(sorted(Trainer(member, key) for member, key in keys.items()))


def start(
    run: int,
    genesis_head: Hash,
    state_root: Hash,
    seats: Iterable[Trainer],
    roster: Mapping[MemberId, Address],
) -> Standing:
    """The standing at the first head; ``roster`` is in the order of joining."""
    first = tuple(Seat(seat.member, seat.key, 0) for seat in sorted(seats))
    head = start_head(genesis_head, [(seat.member, seat.key) for seat in first])
    trainers = tuple(Trainer(seat.member, seat.key) for seat in first)
    return Standing(
        run=run,
        round=0,
        head=head,
        state_root=state_root,
        seats=first,
        trainers=trainers,
        cursor=0,
        next_trainers=_trainers(first, roster),
        before=genesis_head,
        roster=_in_roster(roster),
    )


def _presence(standing: Standing, rules: RunRules) -> list[ListedRound]:
    """The newest lists that presence is counted over, each with who was in it or in one of the S before it.

    Who trains for S + 1 rounds is in one of S + 1 lists that follow each other, and has missed none.
    """
    recent, staleness = standing.recent, rules.staleness
    return [
        ListedRound(
            recent[at].round,
            frozenset[MemberId]().union(*(one.members for one in recent[max(0, at - staleness) : at + 1])),
        )
        for at in range(max(0, len(recent) - RECENT_LISTS), len(recent))
    ]


def drops(standing: Standing, rules: RunRules) -> tuple[MemberId, ...]:
    """Which seats the next certificate must drop: those that left, and those that missed too many recent lists.

    At most 32, lowest ids first, never below ``min_seats``. An update may come S rounds late: before that nobody that
    has just begun has missed anything.
    """
    present = {trainer.member for trainer in standing.next_trainers}
    lists = _presence(standing, rules)

    def is_due(seat: Seat) -> bool:
        counted = [listed for listed in lists if listed.round > seat.since + rules.staleness]
        missed = sum(seat.member not in listed.members for listed in counted)
        return seat.member not in present or missed >= MISSED_LISTS_MAX

    due = [seat.member for seat in standing.seats if is_due(seat)]
    allowed = max(0, len(standing.seats) - rules.min_seats)
    return tuple(due[: min(CHANGES_MAX, allowed)])


def promotions(standing: Standing, rules: RunRules) -> tuple[Promotion, ...]:
    """Who gets a seat by the next certificate, and which seats get the key that their member has now; by member.

    First trainers without a seat that were in the last list and in enough of the recent ones, the oldest joiner first,
    as long as fresh seats stay below a third of all (one is always allowed) and no seat too many is given. At most 32.
    """
    dropped = set(drops(standing, rules))
    staying = [seat for seat in standing.seats if seat.member not in dropped]
    chosen = [
        Promotion(trainer.member, trainer.key)
        for trainer in _candidates(standing, rules)[: _room(standing, rules, staying)]
    ]
    now = {trainer.member: trainer.key for trainer in standing.roster}
    changed = [
        Promotion(seat.member, now[seat.member])
        for seat in staying
        if now.get(seat.member, seat.key) != seat.key
    ]
    return tuple(sorted((chosen + changed)[:CHANGES_MAX]))


def _candidates(standing: Standing, rules: RunRules) -> list[Trainer]:
    """Trainers that have earned a seat, in the order of joining.

    It is enough to be in the roster: who rejoins stands at its end, and work of before counts as long as it is recent.
    """
    seated = set(standing.seat_members)
    lists = [listed.members for listed in _presence(standing, rules)]
    if not lists:
        return []
    return [
        trainer
        for trainer in standing.roster
        if trainer.member not in seated
        and trainer.member in lists[-1]
        and sum(trainer.member in members for members in lists) >= PRESENT_LISTS_MIN
    ]


def _room(standing: Standing, rules: RunRules, staying: list[Seat]) -> int:
    """How many seats may be given now."""
    oldest = standing.recent[-FRESH_LISTS:][0].round if standing.recent else 0
    fresh = sum(seat.seated > 0 and seat.seated >= oldest for seat in staying)
    room = 0
    while 3 * (fresh + room + 1) < len(staying) + room + 1:
        room += 1
    if fresh == 0:
        room = max(room, 1)
    return max(0, min(room, rules.max_seats - len(staying)))


def following_cursor(standing: Standing, rules: RunRules) -> int:
    """Where the data cursor stands after the round that follows ``standing``."""
    return next_cursor(standing.cursor, len(standing.trainers), rules.block_samples)


def block_of(standing: Standing, rules: RunRules, member: MemberId) -> Block:
    """What a trainer of the round that follows ``standing`` reads."""
    drawn_by = standing.before if rules.lag else standing.head
    members = standing.trainer_members
    return assigned_block(member, members, drawn_by, standing.cursor, rules.block_samples)


def block_ahead(standing: Standing, rules: RunRules, member: MemberId) -> Block | None:
    """What ``member`` will read in the round after that one, if nobody else trains in it than ``standing`` expects.

    None if it will be no trainer, or as long as nobody can know: where data is drawn by the newest head.
    """
    members = tuple(trainer.member for trainer in standing.next_trainers)
    if member not in members or rules.lag == 0:
        return None
    cursor = following_cursor(standing, rules)
    return assigned_block(member, members, standing.head, cursor, rules.block_samples)


def check_place(standing: Standing, body: Body) -> None:
    """Raise unless ``body`` can follow ``standing`` at all: what the ledger, too, asks of it."""
    if body.run != standing.run or body.round != standing.round + 1:
        raise WrongRound(f"round {body.round} does not follow round {standing.round}")
    if body.previous_head != standing.head:
        raise WrongHead(f"round {body.round} does not follow head {standing.head.hex()[:12]}")
    if body.is_empty and body.state_root != standing.state_root:
        raise WrongStateRoot(f"round {body.round} is empty and yet changes the state")


def check_succession(standing: Standing, rules: RunRules, body: Body) -> None:
    """Raise unless everything in ``body`` but its updates and their state follows from ``standing``, as seen here."""
    check_place(standing, body)
    if body.trainers_root != root_of_trainers(following_cursor(standing, rules), standing.next_trainers):
        raise WrongTrainersRoot(
            f"round {body.round} fixes other trainers, or another cursor, than the head before"
        )
    if body.promotions != promotions(standing, rules) or body.drops != drops(standing, rules):
        raise WrongMembershipChange(f"promotions or drops of round {body.round} are not due")


def check_published(standing: Standing, rules: RunRules, body: Body, certified: CertifiedList) -> None:
    """Raise unless ``body`` with its list can follow ``standing``, as far as published bytes tell.

    They do not tell in which order members joined, nor which new key a seat has: the ledger's events do.
    """
    check_place(standing, body)
    if certified.cursor != following_cursor(standing, rules):
        raise WrongTrainersRoot(f"the data cursor does not stand there after round {body.round}")
    view = replace(standing, next_trainers=certified.trainers, roster=certified.trainers)
    due = drops(view, rules)
    seated, earned = {*view.seat_members} - {*due}, _candidates(view, rules)
    new = [Trainer(item.member, item.key) for item in body.promotions if item.member not in seated]
    room = _room(standing, rules, [seat for seat in standing.seats if seat.member in seated])
    if body.drops != due or len(new) > room or not set(new) <= set(earned):
        raise WrongMembershipChange(f"promotions or drops of round {body.round} are not due")


def advance(
    standing: Standing,
    body: Body,
    certified: CertifiedList,
    roster: Mapping[MemberId, Address],
    staleness: int = 0,
) -> Standing:
    """The standing after ``body`` landed, with the list that it commits to.

    What landed counts, whatever follows from ``standing`` here: after a reorg two honest peers may have signed from
    different views of who takes part. ``roster`` is who does as of this moment, in the order of joining; ``staleness``
    is the recipe's.
    """
    recent = standing.recent
    if not body.is_empty:
        members = frozenset(update.member for update in certified.updates)
        recent = (*recent, ListedRound(body.round, members))[-(RECENT_LISTS + staleness) :]
    seats = _seats_after(standing.seats, body)
    return replace(
        standing,
        round=body.round,
        head=body.head,
        state_root=body.state_root,
        seats=seats,
        trainers=certified.trainers,
        cursor=certified.cursor,
        next_trainers=_trainers(seats, roster),
        before=standing.head,
        recent=recent,
        roster=_in_roster(roster),
        bases=younger((*standing.bases, standing.base), body.round, staleness),
        spent=spent_after(standing.spent, certified.updates, body.round, staleness),
    )


def _seats_after(seats: tuple[Seat, ...], body: Body) -> tuple[Seat, ...]:
    """The seats once the changes of a body are made."""
    after = {seat.member: seat for seat in seats if seat.member not in body.drops}
    for member, key in ((item.member, item.key) for item in body.promotions):
        known = after.get(member)
        after[member] = (
            replace(known, key=key) if known is not None else Seat(member, key, body.round, body.round)
        )
    return tuple(sorted(after.values()))


def call_roll(
    standing: Standing, rules: RunRules, absent: tuple[MemberId, ...], roster: Mapping[MemberId, Address]
) -> Standing:
    """The standing after a roll call closed: an empty round, without the seats that are ``absent`` (sorted).

    Nobody signs anything: trainers are those that were committed before, less the absent, and the cursor moves on.
    Presence counts anew for everybody: else who is just dropped, since it is dead, had earned its seat again already.
    """
    number = standing.round + 1
    seats = tuple(replace(seat, since=number) for seat in standing.seats if seat.member not in absent)
    return replace(
        standing,
        round=number,
        head=roll_call_head(standing.head, number, standing.state_root, absent),
        seats=seats,
        trainers=tuple(trainer for trainer in standing.trainers if trainer.member not in absent),
        cursor=following_cursor(standing, rules),
        next_trainers=_trainers(seats, roster),
        before=standing.head,
        recent=(),
        roster=_in_roster(roster),
        bases=younger((*standing.bases, standing.base), number, rules.staleness),
        spent=spent_after(standing.spent, (), number, rules.staleness),
    )
