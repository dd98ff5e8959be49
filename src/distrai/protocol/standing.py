"""What a head fixes for everybody: seats and their keys, trainers, the data cursor, and who was in the last lists.

A head is the last certificate that the ledger took (or the start). All of this is computed from certified lists and
from ledger events that came before the head, never from what a peer happened to hear.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from distrai.protocol.assignment import next_cursor
from distrai.protocol.body import CHANGES_MAX, Body, quorum, start_head
from distrai.protocol.errors import (
    WrongHead,
    WrongMembershipChange,
    WrongRound,
    WrongStateRoot,
    WrongTrainersRoot,
)
from distrai.protocol.lists import Trainer, root_of_trainers
from distrai.protocol.primitives import Address, Hash, MemberId

RECENT_LISTS = 8
"""Non-empty certified lists that presence is counted over."""
MISSED_LISTS_MAX = 4
"""A seat that missed so many of the recent lists is dropped."""


@dataclass(frozen=True, order=True)
class Seat:
    """A trainer that also attests; presence counts from the round after ``since``."""

    member: MemberId
    key: Address
    since: int


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


@dataclass(frozen=True)
class Standing:
    """A head and what it fixes. ``round`` is the number of rounds that are over.

    ``trainers`` train in the round that follows, from ``cursor`` on: both are in the head's own hash. ``next_trainers``
    are who took part when the ledger took this head: the next body commits to them, for the round after. (Were they to
    train at once, a reorg that moves a join across the head would give one head two meanings.)
    """

    run: int
    round: int
    head: Hash
    state_root: Hash
    seats: tuple[Seat, ...]
    trainers: tuple[Trainer, ...]
    cursor: int
    next_trainers: tuple[Trainer, ...]
    recent: tuple[ListedRound, ...] = ()

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
        """The key that signs the updates of ``member``, or None if it is no trainer."""
        return next((trainer.key for trainer in self.trainers if trainer.member == member), None)


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
    """The standing at the first head."""
    first = tuple(Seat(seat.member, seat.key, 0) for seat in sorted(seats))
    head = start_head(genesis_head, [(seat.member, seat.key) for seat in first])
    trainers = tuple(Trainer(seat.member, seat.key) for seat in first)
    return Standing(run, 0, head, state_root, first, trainers, 0, _trainers(first, roster))


def drops(standing: Standing, rules: RunRules) -> tuple[MemberId, ...]:
    """Which seats the next certificate must drop: those that left, and those that missed too many recent lists.

    At most 32, lowest ids first, never below ``min_seats``.
    """
    present = {trainer.member for trainer in standing.next_trainers}

    def is_due(seat: Seat) -> bool:
        counted = [listed for listed in standing.recent if listed.round > seat.since]
        missed = sum(seat.member not in listed.members for listed in counted)
        return seat.member not in present or missed >= MISSED_LISTS_MAX

    due = [seat.member for seat in standing.seats if is_due(seat)]
    allowed = max(0, len(standing.seats) - rules.min_seats)
    return tuple(due[: min(CHANGES_MAX, allowed)])


def following_cursor(standing: Standing, rules: RunRules) -> int:
    """Where the data cursor stands after the round that follows ``standing``."""
    return next_cursor(standing.cursor, len(standing.trainers), rules.block_samples)


def check_succession(standing: Standing, rules: RunRules, body: Body) -> None:
    """Raise unless everything in ``body`` but its updates and their state follows from ``standing``."""
    if body.run != standing.run or body.round != standing.round + 1:
        raise WrongRound(f"round {body.round} does not follow round {standing.round}")
    if body.previous_head != standing.head:
        raise WrongHead(f"round {body.round} does not follow head {standing.head.hex()[:12]}")
    if body.trainers_root != root_of_trainers(following_cursor(standing, rules), standing.next_trainers):
        raise WrongTrainersRoot(
            f"round {body.round} fixes other trainers, or another cursor, than the head before"
        )
    if body.promotions or body.drops != drops(standing, rules):
        raise WrongMembershipChange(f"promotions or drops of round {body.round} are not due")
    if body.is_empty and body.state_root != standing.state_root:
        raise WrongStateRoot(f"round {body.round} is empty and yet changes the state")


def advance(
    standing: Standing,
    rules: RunRules,
    body: Body,
    listed: Iterable[MemberId],
    roster: Mapping[MemberId, Address],
) -> Standing:
    """The standing after ``body`` landed; ``roster`` is who takes part, with keys, as of that moment."""
    members = frozenset(listed)
    seats = tuple(seat for seat in standing.seats if seat.member not in body.drops)
    recent = standing.recent
    if not body.is_empty:
        recent = (*recent, ListedRound(body.round, members))[-RECENT_LISTS:]
    return replace(
        standing,
        round=body.round,
        head=body.head,
        state_root=body.state_root,
        seats=seats,
        trainers=standing.next_trainers,
        cursor=following_cursor(standing, rules),
        next_trainers=_trainers(seats, roster),
        recent=recent,
    )
