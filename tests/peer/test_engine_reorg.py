"""A reorg: back to a kept head, the own words of it again and never others, and on along the chain as it is now."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.peer.checkpoint import Checkpoint
from distrai.peer.engine import RECORDED_HEADS_MAX
from distrai.peer.events import (
    Apply,
    BlobStored,
    Evaluate,
    LedgerChanged,
    LedgerRewound,
    ListArrived,
    Refollow,
    Revert,
    Send,
    StateApplied,
    StateComputed,
    StopTraining,
    Submit,
    Train,
    TrainingDone,
)
from distrai.peer.following import KEPT_HEADS
from distrai.protocol.errors import ReorgTooDeep
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import (
    Certified,
    Joined,
    KeyChanged,
    LedgerEvent,
    Left,
    Position,
    RollCalled,
    Started,
)
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import ZERO_HASH, Address
from distrai.protocol.standing import Standing, call_roll
from distrai.simulation.toy import INNER_STEPS, make_identity
from helpers.engine import (
    BEGAN,
    GENESIS_HEAD,
    NEXT_STATE,
    STARTED_AT,
    TIMING,
    Driven,
    Made,
    Table,
    everyone_spoke,
)

GUEST = make_identity(30)


def at(block: int, log: int = 0) -> Position:
    return Position(block, log, keccak(b"%d" % block))


def joined(block: int) -> Joined:
    return Joined(at(block), GUEST.member, GUEST.address, False)


def of(effects: list[Any], *kinds: type) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kinds)]


def rewound(peer: Driven, to_block: int) -> list[Any]:
    """Effects of a reorg; the table goes back with the engine."""
    effects = peer.tell(LedgerRewound(to_block))
    if peer.engine.standing is not None:
        peer.table.standing = peer.engine.standing
    return effects


def full_round(peer: Driven) -> tuple[list[Made], bytes]:
    """The peer says all it can in the round that is on; gives the updates and the head that was on."""
    table = peer.table
    own = peer.train()
    updates = [own, *(table.update(who) for who in (1, 2, 3))]
    peer.get(*updates[1:])
    everyone_spoke(peer, updates)
    peer.open_all()
    compute(peer)
    return updates, table.standing.head


def compute(peer: Driven) -> None:
    for effect in of(peer.all, Evaluate):
        peer.tell(StateComputed(effect.standing.head, effect.certified.updates_root, NEXT_STATE))


def words(peer: Driven, head: bytes, *kinds: str) -> set[bytes]:
    """The ids of what the peer ever sent in the round that follows ``head``."""
    sent = [signed for kind in kinds for signed in peer.said(kind)]
    return {signed.id for signed in sent if signed.message.previous_head == head}


WORDS = ("update", "have", "key")


# Where it goes back to


def three_rounds() -> tuple[Driven, list[Standing | None]]:
    """Heads at the blocks 1, 10, 20 and 30; a guest joined at 15."""
    peer = Driven(Table())
    standings = [None, peer.engine.standing]
    for number in (1, 2, 3):
        if number == 2:
            peer.tell(LedgerChanged((joined(15),)))
        peer.land([peer.table.update(1, b"%d" % number)], 10 * number, state_root=keccak(b"%d" % number))
        standings.append(peer.engine.standing)
    return peer, standings


@pytest.mark.parametrize(("to_block", "kept"), [(29, 3), (20, 3), (19, 2), (10, 2), (9, 1), (1, 1), (0, 0)])
def test_goes_back_to_the_newest_head_that_is_still_there(to_block: int, kept: int) -> None:
    peer, standings = three_rounds()
    positions = [None, STARTED_AT, at(10), at(20), at(30)]
    effects = rewound(peer, to_block)
    assert of(effects, StopTraining, Revert, Refollow) == [
        StopTraining(),
        Revert(standings[kept]),
        Refollow(positions[kept]),
    ]
    assert peer.engine.standing == standings[kept]
    assert (GUEST.member in peer.engine.roster) == (kept == 3)
    assert (peer.engine.round is None) == (kept == 0)


def test_trains_only_once_the_state_is_back() -> None:
    peer, standings = three_rounds()
    effects = rewound(peer, 19)
    assert not of(effects, Train)
    before = len(peer.of(Train))
    peer.tell(StateApplied(standings[4].head))  # of the head that is gone: it was on its way
    assert len(peer.of(Train)) == before
    (train,) = of(peer.tell(StateApplied(standings[2].head)), Train)
    assert train.standing == standings[2]


def test_blocks_above_the_newest_head_may_go_without_anything_being_undone() -> None:
    peer, standings = three_rounds()
    peer.tell(LedgerChanged((joined(31), Left(at(31, 1), peer.table.everybody[2].member))))
    effects = rewound(peer, 30)
    assert of(effects, StopTraining, Revert, Refollow) == [Refollow(at(30))]
    assert peer.engine.standing == standings[4]
    assert peer.table.everybody[2].member in peer.engine.roster  # until the ledger tells again


def test_a_reorg_deeper_than_the_kept_heads_ends_the_peer() -> None:
    peer = Driven(Table())
    for number in range(1, KEPT_HEADS + 2):
        peer.land(block=10 * number)
    with pytest.raises(ReorgTooDeep):
        peer.tell(LedgerRewound(9))
    peer = Driven(Table())
    for number in range(1, KEPT_HEADS + 2):
        peer.land(block=10 * number)
    assert of(rewound(peer, 10), Revert)[0].standing.round == 1


def test_who_began_from_a_snapshot_cannot_go_back_before_it() -> None:
    table = Table()
    ahead = Driven(table)
    ahead.land(block=10)
    peer = Driven(table, checkpoint=Checkpoint(ahead.engine.standing, ahead.engine.roster, at(10)))
    peer.engine.following.kept.popleft()
    with pytest.raises(ReorgTooDeep):
        peer.tell(LedgerRewound(9))


# Before the first head


def test_back_before_the_start_and_on_again() -> None:
    table = Table()
    peer = Driven(table, checkpoint=Checkpoint())
    peer.tell(LedgerChanged(table.opening()))
    assert len(peer.of(Train)) == 1
    updates, head = full_round(peer)
    said = words(peer, head, *WORDS)
    peer.land(updates, 10)
    effects = rewound(peer, 0)
    assert of(effects, Revert, Refollow) == [Revert(None), Refollow(None)]
    assert (peer.engine.standing, peer.engine.round, dict(peer.engine.roster)) == (None, None, {})
    table.standing = Table().standing
    effects = peer.tell(LedgerChanged(table.opening()))
    assert peer.engine.standing == table.standing and not of(effects, Train)
    assert {raw for send in of(effects, Send) for raw in send.raws} == {item.raw for item in peer.persisted}
    assert words(peer, head, *WORDS) == said


@pytest.mark.parametrize("is_first", [True, False])
def test_after_the_way_back_to_the_start_it_trains_as_soon_as_head_and_state_are_there(
    is_first: bool,
) -> None:
    table = Table()
    peer = Driven(table, checkpoint=Checkpoint())
    peer.tell(LedgerChanged(table.opening()))
    peer.tell(LedgerRewound(0))
    begun = len(peer.of(Train))
    steps = [StateApplied(GENESIS_HEAD), LedgerChanged(table.opening())]
    for step in steps if is_first else reversed(steps):
        assert len(peer.of(Train)) == begun
        peer.tell(step)
    assert len(peer.of(Train)) == begun + 1 and peer.of(Train)[-1].standing == table.standing


# What it stands by


def test_says_the_same_words_again_and_no_others() -> None:
    peer = Driven(Table())
    peer.land(block=10)
    updates, head = full_round(peer)
    mine = [record for record in peer.persisted if record.head == head]
    assert [peer.opened(record.raw).message.kind for record in mine] == [*WORDS, "signature"]
    said, signed = words(peer, head, *WORDS), words(peer, head, "signature")
    peer.land(updates, 20)
    effects = rewound(peer, 15)
    assert peer.engine.standing.head == head
    assert {raw for send in of(effects, Send) for raw in send.raws} == {record.raw for record in mine}
    assert not of(peer.tell(StateApplied(head)), Train)  # it has trained in this round
    other = peer.table.update(0, b"other work")
    peer.tell(TrainingDone(head, other.sealed.blob, other.sealed.key, INNER_STEPS, 32))
    everyone_spoke(peer, updates)
    peer.open_all()
    compute(peer)
    for seconds in range(0, 80, 2):
        peer.tick(seconds)
    assert words(peer, head, *WORDS) == said and words(peer, head, "signature") == signed
    new = [record for record in peer.persisted if record.head == head and record not in mine]
    assert {peer.opened(record.raw).message.kind for record in new} <= {"proposal"}


def speak(peer: Driven) -> None:
    """Let the time come at which it sends its Have in any case."""
    peer.tick(peer.now - BEGAN + TIMING.hard_s)


def test_it_stands_by_its_words_about_every_kept_head() -> None:
    peer, heads = Driven(Table()), []
    for number in range(KEPT_HEADS + 1):
        speak(peer)
        heads.append(peer.engine.standing.head)
        peer.land(block=10 * (number + 1))
    for number in reversed(range(1, KEPT_HEADS + 1)):
        rewound(peer, 10 * number)
        assert peer.engine.standing.head == heads[number]
        speak(peer)
        assert len(words(peer, heads[number], "have")) == 1
        assert len([record for record in peer.persisted if record.head == heads[number]]) == 1


def test_it_stands_by_its_words_however_often_the_chain_changes() -> None:
    peer = Driven(Table())
    speak(peer)
    head = peer.engine.standing.head
    for number in range(3 * KEPT_HEADS):
        peer.land([peer.table.update(1, b"%d" % number)], 10, state_root=keccak(b"%d" % number))
        speak(peer)
        rewound(peer, 5)
        assert peer.engine.standing.head == head
        speak(peer)
    assert len(words(peer, head, "have")) == 1
    assert len([record for record in peer.persisted if record.head == head]) == 1
    assert len(peer.engine.records) <= RECORDED_HEADS_MAX


def test_submits_the_certificate_again_that_it_had_before_the_reorg() -> None:
    peer = Driven(Table(), who=1)
    peer.land(block=10)
    table, head = peer.table, peer.engine.standing.head
    own = peer.train()
    updates = [own, *(table.update(who) for who in (0, 2, 3))]
    peer.get(*updates[1:])
    everyone_spoke(peer, updates)
    peer.open_all()
    compute(peer)
    body = table.body(updates)
    peer.hear(*(table.attest(who, body) for who in (0, 2)))
    peer.tick(20)
    first = peer.of(Submit)[-1]
    assert first.body == body and len(first.signatures) == 3
    peer.land(updates, 20)
    submitted = len(peer.of(Submit))
    rewound(peer, 15)
    peer.tick(60)  # nobody says anything any more
    again = peer.of(Submit)[submitted:]
    assert again and {submit.body for submit in again} == {body}
    assert again[0].signatures == first.signatures and table.standing.head == head


def test_one_that_comes_back_to_a_head_need_not_open_and_compute_again() -> None:
    peer = Driven(Table())
    peer.land(block=10)
    updates, head = full_round(peer)
    peer.land(updates, 20)
    rewound(peer, 15)
    book = peer.engine.round.book
    assert {*book.updates} == {made.id for made in updates}
    assert book.allowed() == [
        made.id for made in sorted(updates, key=lambda made: made.signed.message.member)
    ]
    assert peer.engine.round.agreement.states
    assert peer.of(Apply)[-1].standing.head != head


def test_the_same_head_with_other_members_the_same_words_and_another_body() -> None:
    """The head's own certificate lands again, before a join that came after it the first time."""
    peer = Driven(Table())
    table = peer.table
    peer.tell(LedgerChanged((joined(8),)))
    body = peer.land(block=10).body
    updates, head = full_round(peer)
    with_guest, said = table.standing, words(peer, head, *WORDS)
    first = table.body(updates)
    rewound(peer, 5)
    peer.tell(LedgerChanged((table.certified(body, 6), joined(9))))
    assert peer.engine.standing.head == head and peer.engine.standing != with_guest
    assert len(peer.engine.standing.next_trainers) == 4 and len(with_guest.next_trainers) == 5
    table.standing = peer.engine.standing
    compute(peer)
    peer.tick(1)
    second = table.body(updates)
    assert second.trainers_root != first.trainers_root
    attested = {signed.message.body_id for signed in peer.said("signature")}
    assert attested == {first.id, second.id} and words(peer, head, *WORDS) == said
    # Whichever lands is the round.
    peer.tell(LedgerChanged((table.certified(first, 11),)))
    after = peer.of(Apply)[-1].standing
    assert after.head == first.head and len(after.trainers) == 5 and GUEST.member in after.trainer_members


# What was on its way


def test_a_certificate_that_waited_for_its_list_is_forgotten() -> None:
    peer = Driven(Table())
    table = peer.table
    made, other = table.update(1), table.update(2)
    peer.tell(LedgerChanged((table.certified(table.body([made]), 10), joined(11))))
    assert len(peer.said("list-request")) == 1
    rewound(peer, 9)
    for seconds in range(0, 10, 2):
        peer.tick(seconds)
    assert len(peer.said("list-request")) == 1
    peer.tell(ListArrived(table.listed([made])))
    assert not peer.of(Apply) and GUEST.member not in peer.engine.roster
    peer.land([other], 10)
    (apply,) = peer.of(Apply)
    assert apply.certified == table_list(other)


def table_list(made: Made) -> Any:
    return Table().listed([made])


def test_a_roll_call_of_the_old_chain_gives_way_to_a_certificate() -> None:
    peer = Driven(Table())
    before, gone = peer.engine.standing, peer.table.everybody[3].member
    after = call_roll(before, peer.table.rules.run, (gone,), peer.engine.roster)
    event = RollCalled(at(10), 1, after.head, before.head, before.state_root, (gone,))
    (apply,) = of(peer.tell(LedgerChanged((event,))), Apply)
    assert (apply.before, apply.standing, apply.body, apply.certified, apply.own) == (
        before,
        after,
        None,
        None,
        False,
    )
    assert peer.engine.standing == after and len(after.seats) == 3
    rewound(peer, 9)
    peer.land([peer.table.update(3)], 11)
    assert gone in peer.engine.standing.seat_members and peer.engine.standing.round == 1


# Any chain


STEPS = st.tuples(
    st.sampled_from(("round", "round", "round", "roll call", "join", "leave", "key", "reorg", "reorg")),
    st.integers(0, 4),
    st.integers(0, 25),
)


class Chain:
    """A ledger that is written by a test and may be reorganised, and the lists of its certificates."""

    def __init__(self) -> None:
        self.table = Table()
        self.events: list[LedgerEvent] = list(self.table.opening())
        self.lists: dict[tuple[bytes, bytes], CertifiedList] = {}
        self.height = 1

    def tell(self, peer: Driven, events: list[LedgerEvent]) -> None:
        """Tell events, and bring what a certificate needs."""
        for event in events:
            peer.tell(LedgerChanged((event,)))
            if isinstance(event, Certified):
                certified = self.lists[event.body.updates_root, event.body.trainers_root]
                for update in certified.updates:
                    peer.tell(BlobStored(update.blob_hash))
                if peer.engine.following.landing is not None:
                    peer.tell(ListArrived(certified))
            assert peer.engine.following.landing is None and not peer.refused

    def add(self, peer: Driven, what: str, who: int) -> None:
        """Something happens on the ledger, three blocks on."""
        table, standing = self.table, peer.engine.standing
        assert standing is not None
        table.standing = standing
        self.height += 3
        place, someone = at(self.height), [*table.everybody, GUEST][who]
        match what:
            case "join":
                event: LedgerEvent = Joined(place, someone.member, someone.address, False)
            case "leave":
                event = Left(place, someone.member)
            case "key":
                event = KeyChanged(place, someone.member, Address(keccak(place.block_hash)[12:]))
            case "roll call":
                absent = standing.seat_members[: min(who, len(standing.seats) - 1)]
                after = call_roll(standing, table.rules.run, absent, peer.engine.roster)
                event = RollCalled(place, after.round, after.head, standing.head, standing.state_root, absent)
            case _:
                signs = who < 4 and standing.trainer_key(someone.member) == someone.address
                updates = [table.update(who, b"%d" % len(peer.all))] if signs else []
                body, certified = table.body(updates), table.listed(updates)
                self.lists[body.updates_root, body.trainers_root] = certified
                event = table.certified(body, self.height)
        self.events.append(event)
        self.tell(peer, [event])

    def reorganise(self, peer: Driven, depth: int) -> None:
        """The newest blocks are gone; what was in those before is told again from where the engine wants it."""
        self.height = max(0, self.height - depth)
        self.events = [event for event in self.events if event.at.block_number <= self.height]
        told = len(peer.of(Refollow))
        peer.tell(LedgerRewound(self.height))
        after = peer.of(Refollow)[told].after
        if not any(isinstance(event, Started) for event in self.events):
            self.events, self.height = list(Table().opening()), 1
            after = None
        self.tell(peer, [event for event in self.events if after is None or event.at > after])


@given(st.lists(STEPS, max_size=25))
def test_after_any_reorgs_it_stands_where_one_stands_who_saw_the_last_chain_only(story: list[Any]) -> None:
    chain, peer = Chain(), Driven(Table(), checkpoint=Checkpoint())
    chain.tell(peer, chain.events)
    for what, who, depth in story:
        if what == "reorg":
            try:
                chain.reorganise(peer, depth)
            except ReorgTooDeep:
                assert not peer.engine.following.kept
                return
        else:
            chain.add(peer, what, who)
        peer.tick(peer.now - BEGAN + TIMING.hard_s)  # it speaks, if it can
    fresh = Driven(Table(), checkpoint=Checkpoint())
    chain.tell(fresh, chain.events)
    assert peer.engine.standing == fresh.engine.standing
    assert list(peer.engine.roster.items()) == list(fresh.engine.roster.items())
    said: dict[tuple[bytes, str], set[bytes]] = {}
    for signed in (signed for kind in WORDS for signed in peer.said(kind)):
        said.setdefault((signed.message.previous_head, signed.message.kind), set()).add(signed.id)
    assert all(len(ids) == 1 for ids in said.values())


def test_positions_in_these_tests_are_those_of_the_helper() -> None:
    table = Table()
    assert table.certified(table.body([]), 10).at == at(10) and STARTED_AT.block_hash == ZERO_HASH
