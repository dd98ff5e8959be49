"""What a head fixes for everybody: seats and their keys, trainers, the data cursor, and who was in the last lists.

A head is the last certificate (or roll call) that the ledger took, or the start. All of this is computed from certified
lists and from ledger events that came before the head, never from what a peer happened to hear.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from distrai.protocol.assignment import Block, assigned_block, next_cursor
from distrai.protocol.bases import Base, Spent, spent_after, younger
from distrai.protocol.body import Body, quorum, roll_call_head, start_head
from distrai.protocol.errors import (
    WrongHead,
    WrongRound,
    WrongStateRoot,
)
from distrai.protocol.lists import CertifiedList, Trainer
from distrai.protocol.messages import Update
from distrai.protocol.primitives import Address, Hash, MemberId

RECENT_LISTS = 8
"""Non-empty certified lists that presence is counted over."""


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
