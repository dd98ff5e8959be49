"""A run in a certain standing, for tests of what follows from a head."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from distrai.protocol.bases import Base
from distrai.protocol.body import Body
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.checks import WorkRules
from distrai.protocol.cipher import binding, key_hash
from distrai.protocol.lists import CertifiedList, Entry, Trainer, root_of_trainers
from distrai.protocol.messages import UPDATE_VERSION, Envelope, Update
from distrai.protocol.primitives import SIGNATURE_SIZE, ZERO_HASH, Address, MemberId
from distrai.protocol.seating import drops, promotions
from distrai.protocol.standing import RunRules, Standing, advance, following_cursor, start
from helpers.messages import Author, named

RUN = 7
RULES = RunRules(min_seats=2, block_samples=10)
WORK = WorkRules(codec="int8/1", sealed_bytes=(1000,), inner_steps_max=5, tokens_per_step=64)


def authors(count: int) -> list[Author]:
    """``count`` members; their ids sort as their numbers do."""
    return [Author(number) for number in range(count)]


def roster_of(people: Iterable[Author]) -> dict[MemberId, Address]:
    return {author.member: author.address for author in people}


def started(people: Sequence[Author], also: Sequence[Author] = ()) -> Standing:
    """The first head: ``people`` are seats, ``also`` joined but came too late for a seat."""
    seats = [Trainer(author.member, author.address) for author in people]
    return start(RUN, named("genesis"), named("state 0"), seats, roster_of([*people, *also]))


def next_body(standing: Standing, rules: RunRules = RULES, **changes: Any) -> Body:
    """The body that everybody signs for the round after ``standing``."""
    number = standing.round + 1
    body = Body(
        run=standing.run,
        round=number,
        previous_head=standing.head,
        updates_root=named(f"updates {number}"),
        state_root=named(f"state {number}"),
        trainers_root=root_of_trainers(following_cursor(standing, rules), standing.next_trainers),
        promotions=promotions(standing, rules),
        drops=drops(standing, rules),
    )
    return msgspec.structs.replace(body, **changes)


def after_round(
    standing: Standing,
    listed: Iterable[Author],
    roster: Iterable[Author],
    rules: RunRules = RULES,
    **changes: Any,
) -> Standing:
    """The standing once the next body landed with the updates of ``listed``."""
    body = next_body(standing, rules, **changes)
    return advance(standing, body, listing(standing, listed, rules), roster_of(roster), rules.staleness)


def listing(standing: Standing, listed: Iterable[Author], rules: RunRules = RULES) -> CertifiedList:
    """A list with the updates of ``listed``, which nobody signed: for whatever asks only who is in it.

    Where updates may be stale, the authors' are of different ages, by their numbers.
    """
    bases = (standing.base, *reversed(standing.bases))
    updates = (
        update_of(author, bases[author.number % len(bases)])
        for author in sorted(listed, key=lambda each: each.number)
    )
    return CertifiedList(
        following_cursor(standing, rules),
        standing.next_trainers,
        tuple(Entry(_unsigned(update), secret_of(Author(0))) for update in updates),
    )


def _unsigned(update: Update) -> bytes:
    return encode_canonical(Envelope(update.kind, encode_canonical(update), bytes(SIGNATURE_SIZE)))


def update_of(author: Author, standing: Standing | Base, **changes: Any) -> Update:
    """An update that passes every check in the round after ``standing``, with ``WORK``."""
    key, place = secret_of(author), (RUN, standing.round + 1, standing.head, author.member)
    update = Update(
        run=RUN,
        round=standing.round + 1,
        previous_head=standing.head,
        member=author.member,
        version=UPDATE_VERSION,
        base_round=standing.round,
        base_state_root=standing.state_root,
        fragment=0,
        tau=0,
        inner_steps=3,
        tokens=3 * WORK.tokens_per_step,
        codec=WORK.codec,
        blob_hash=named(f"blob {author.number}"),
        blob_size=WORK.sealed_bytes[0],
        key_hash=key_hash(key, binding(*place)),
        trace_root=ZERO_HASH,
    )
    return msgspec.structs.replace(update, **changes)


def secret_of(author: Author) -> bytes:
    """The key that the author's update is sealed with."""
    return named(f"secret {author.number}")


def list_of(people: Iterable[Author], standing: Standing) -> CertifiedList:
    """The list that certifies the updates of ``people`` in the round after ``standing``."""
    entries = tuple(
        Entry(author.seal(update_of(author, standing)).raw, secret_of(author)) for author in people
    )
    return CertifiedList(following_cursor(standing, RULES), standing.next_trainers, entries)
