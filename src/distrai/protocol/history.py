"""What follows from a run's whole history on the ledger and its newest certified lists: where a joiner begins.

Seats follow from the ledger alone. Trainers, the data cursor and presence are committed to by the heads and written in
the lists, of which the newest are enough.
"""

from collections.abc import Iterable, Mapping, Sequence

from distrai.protocol.errors import MissingList, WrongHead
from distrai.protocol.ledger_events import (
    Certified,
    Deactivated,
    Joined,
    KeyChanged,
    LedgerEvent,
    Left,
    RollCalled,
    RunOpened,
    Started,
)
from distrai.protocol.lists import CertifiedList, check_list
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.standing import RECENT_LISTS, RunRules, Standing, advance, call_roll, start

Roster = dict[MemberId, Address]
"""Who takes part, with the key of now, in the order of joining."""

_UNKNOWN = CertifiedList(0, (), ())
"""In the place of old lists: nothing of them is left in what the newer ones say."""


def enrol(roster: Roster, event: LedgerEvent) -> None:
    """Take an event into a roster; most change nothing. Who comes back stands at the end."""
    match event:
        case Joined(member=member, key=key):
            roster.pop(member, None)
            roster[member] = key
        case KeyChanged(member=member, key=key) if member in roster:
            roster[member] = key
        case Left(member=member) | Deactivated(member=member):
            roster.pop(member, None)
        case _:
            pass


def rounds_needed(events: Iterable[LedgerEvent], staleness: int = 0) -> tuple[int, ...]:
    """The rounds whose lists ``reconstruct`` needs, by number.

    The newest that are not empty, since presence counts over them (anew after a roll call), and the newest certified
    one, since trainers and cursor follow from it. Where updates may be stale, of both S more: who trained from the
    heads before, and what was listed of it.
    """
    certified, filled = list[int](), list[int]()
    for event in events:
        if isinstance(event, RollCalled):
            filled.clear()
        elif isinstance(event, Certified):
            certified.append(event.body.round)
            filled += [] if event.body.is_empty else certified[-1:]
    return tuple(sorted({*filled[-(RECENT_LISTS + staleness) :], *certified[-(staleness + 1) :]}))


def reconstruct(
    rules: RunRules, events: Sequence[LedgerEvent], lists: Mapping[int, CertifiedList]
) -> tuple[Standing | None, Roster]:
    """Standing (None before the start) and roster after ``events``: a run's, in order, from RunOpened on.

    ``lists`` are those of ``rounds_needed``, by round. Raises MissingList, WrongHead if events and heads do not fit,
    and what ``check_list`` raises for a list that was not certified.
    """
    needed = set(rounds_needed(events, rules.staleness))
    opened = next((event for event in events if isinstance(event, RunOpened)), None)
    standing: Standing | None = None
    roster: Roster = {}
    for event in events:
        enrol(roster, event)
        if isinstance(event, Started) and opened is not None:
            genesis = opened.genesis
            standing = start(genesis.run, genesis.head, genesis.state_root, event.seats, roster)
            _check_head(standing, event)
        elif isinstance(event, Certified) and standing is not None:
            certified = _list_of(event, lists) if event.body.round in needed else _UNKNOWN
            standing = advance(standing, event.body, certified, roster, rules.staleness)
            _check_head(standing, event)
        elif isinstance(event, RollCalled) and standing is not None:
            standing = call_roll(standing, rules, event.drops, roster)
            _check_head(standing, event)
    return standing, roster


def _list_of(event: Certified, lists: Mapping[int, CertifiedList]) -> CertifiedList:
    certified = lists.get(event.body.round)
    if certified is None:
        raise MissingList(f"the list of round {event.body.round} is missing")
    check_list(certified, event.body)
    return certified


def _check_head(standing: Standing, event: Started | Certified | RollCalled) -> None:
    if standing.head != event.head:
        raise WrongHead(f"the ledger's head of round {standing.round} does not follow from its history")
