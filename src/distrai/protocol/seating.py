"""Who gets a seat and who loses one with the next certificate, by who was in the last lists; the checks of a body.

Presence is counted over certified lists, never over what a peer happened to hear, so all honest peers agree on it.
"""

from dataclasses import replace

from distrai.protocol.body import CHANGES_MAX, Body, Promotion
from distrai.protocol.errors import WrongMembershipChange, WrongTrainersRoot
from distrai.protocol.lists import CertifiedList, Trainer, root_of_trainers
from distrai.protocol.primitives import MemberId
from distrai.protocol.standing import (
    RECENT_LISTS,
    ListedRound,
    RunRules,
    Seat,
    Standing,
    check_place,
    following_cursor,
)

MISSED_LISTS_MAX = 4
"""A seat that missed so many of the recent lists is dropped."""
PRESENT_LISTS_MIN = 4
"""A trainer that is in so many of the recent lists, the last among them, may become a seat."""
FRESH_LISTS = 4
"""Non-empty rounds for which a seat is fresh: fresh ones stay below a third, so that they can stall nobody."""


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
