"""What a head fixes for everybody: seats and their keys, trainers, the data cursor, and who was in the last lists.

A head is the last certificate that the ledger took (or the start). All of this is computed from certified lists and from
ledger events that came before the head, never from what a peer happened to hear.
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
    """A head and what it fixes. ``round`` is the number of rounds that are over."""

    run: int
    round: int
    head: Hash
    state_root: Hash
    seats: tuple[Seat, ...]
    trainers: tuple[Trainer, ...]
    cursor: int
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
    return Standing(run, 0, head, state_root, first, _trainers(first, roster), 0)


def drops(standing: Standing, rules: RunRules) -> tuple[MemberId, ...]:
    """Which seats the next certificate must drop: those that left, and those that missed too many recent lists.

    At most 32, lowest ids first, never below ``min_seats``.
    """
    present = set(standing.trainer_members)

    def is_due(seat: Seat) -> bool:
        counted = [listed for listed in standing.recent if listed.round > seat.since]
        missed = sum(seat.member not in listed.members for listed in counted)
        return seat.member not in present or missed >= MISSED_LISTS_MAX

    due = [seat.member for seat in standing.seats if is_due(seat)]
    allowed = max(0, len(standing.seats) - rules.min_seats)
    return tuple(due[: min(CHANGES_MAX, allowed)])


def check_succession(standing: Standing, rules: RunRules, body: Body) -> None:
    """Raise unless everything in ``body`` but its updates and their state follows from ``standing``."""
    if body.run != standing.run or body.round != standing.round + 1:
        raise WrongRound(f"round {body.round} does not follow round {standing.round}")
    if body.previous_head != standing.head:
        raise WrongHead(f"round {body.round} does not follow head {standing.head.hex()[:12]}")
    if body.trainers_root != root_of_trainers(standing.trainers):
        raise WrongTrainersRoot(f"the trainers of round {body.round} are not those of the head before")
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
        trainers=_trainers(seats, roster),
        cursor=next_cursor(standing.cursor, len(standing.trainers), rules.block_samples),
        recent=recent,
    )
