"""What the engine does with what it hears: duplicates, foreign, late and early messages, digests, list requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.peer.engine import Checkpoint
from distrai.peer.events import (
    Apply,
    FetchList,
    GossipDue,
    LedgerChanged,
    LedgerRewound,
    LookAtLedger,
    MessageReceived,
    OfferList,
    Send,
    WakeAt,
)
from distrai.peer.mailbox import EARLY_MESSAGES_MAX
from distrai.protocol.blobs import BlobRef
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import (
    MESSAGE_BYTES_MAX,
    OBJECTS_PER_PACKET_MAX,
    SHORT_NAME_SIZE,
    Digest,
    Have,
    ListOffer,
    ListRequest,
    short_name,
)
from distrai.simulation.toy import make_identity
from helpers.engine import NEXT_STATE, RUN, TIMING, Driven, Table

SALT = b"s" * 16
ANSWER_PAUSE_S = TIMING.d0_s / 4


def digest(table: Table, who: int, known=(), **changes):
    names = b"".join(short_name(signed.id, SALT) for signed in known)
    return table.sign(who, Digest(**{**table.header(who), "salt": SALT, "known": names, **changes}))


def quiet(effects) -> bool:
    """Whether nothing but a timer follows."""
    return all(isinstance(effect, WakeAt) for effect in effects)


# Duplicate, foreign, late, early


def test_a_message_counts_once() -> None:
    table = Table()
    peer = Driven(table)
    made = table.update(1)
    messages = [
        made.signed,
        table.have(2, [made]),
        table.key(1, made),
        table.proposal(1, 0, [made]),
        table.attest(3, table.body([made])),
    ]
    peer.hear(*messages)
    assert quiet(peer.hear(*messages))
    book = peer.engine.round.book
    assert len(list(book.objects())) == 5 and not book.second_haves and not peer.refused


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        ("ForeignRun", lambda table: table.again(1, table.update(1).signed, run=RUN + 1)),
        ("ForeignRun", lambda table: digest(table, 1, run=RUN + 1)),
        ("BadSignature", lambda table: table.again(2, table.update(1).signed)),
        ("NotASeat", lambda table: table.again(1, table.have(1, []), member=make_identity(50).member)),
    ],
)
def test_a_foreign_message_is_refused_by_name(rule, make) -> None:
    peer = Driven(Table())
    peer.hear(make(peer.table))
    assert peer.refused == [rule]
    assert not list(peer.engine.round.book.objects())


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_raises(raw) -> None:
    peer = Driven(Table())
    peer.tell(MessageReceived(raw))
    assert len(peer.refused) == 1


@given(st.data())
def test_a_changed_byte_is_refused(data) -> None:
    table = Table()
    peer = Driven(table)
    raw = bytearray(table.update(1).signed.raw)
    at = data.draw(st.integers(0, len(raw) - 1).filter(lambda index: not len(raw) - 13 <= index < len(raw)))
    raw[at] ^= data.draw(st.integers(1, 255))
    peer.tell(MessageReceived(bytes(raw)))
    assert len(peer.refused) == 1 and not peer.engine.round.book.updates


def test_too_large_a_message_is_refused() -> None:
    peer = Driven(Table())
    peer.tell(MessageReceived(bytes(MESSAGE_BYTES_MAX + 1)))
    assert peer.refused == ["MessageTooLarge"]


def land(peer: Driven, updates=()) -> None:
    """An empty round lands, and the table moves on with it."""
    table = peer.table
    peer.tell(LedgerChanged((table.certified(table.body([])),)))
    table.standing = peer.engine.standing


def test_a_late_message_changes_nothing() -> None:
    table = Table()
    peer = Driven(table)
    late = table.update(1).signed
    land(peer)
    assert table.standing.round == 1
    assert quiet(peer.hear(late)) and not list(peer.engine.round.book.objects())


def test_messages_of_the_next_round_wait_for_its_head_and_make_it_look_at_the_ledger() -> None:
    table = Table()
    peer, ahead = Driven(table), Driven(Table())
    land(ahead)
    update, have = ahead.table.update(1), ahead.table.have(2, [])
    effects = peer.hear(have, update.signed)
    assert sum(isinstance(effect, LookAtLedger) for effect in effects) == 2
    assert not list(peer.engine.round.book.objects())
    land(peer)
    assert {signed.id for signed in peer.engine.round.book.objects()} == {update.id, have.id}
    assert not peer.refused and not peer.engine.mailbox.early


def test_what_comes_two_rounds_early_waits_longer() -> None:
    table = Table()
    peer, ahead = Driven(table), Driven(Table())
    land(ahead)
    bodies = [table.body([])]
    standing = ahead.engine.standing
    ahead.table.standing = standing
    bodies.append(ahead.table.body([]))
    land(ahead)
    update = ahead.table.update(1)
    peer.hear(update.signed)
    peer.tell(LedgerChanged((table.certified(bodies[0], 10),)))
    assert not peer.engine.round.book.updates and len(peer.engine.mailbox.early) == 1
    peer.tell(LedgerChanged((table.certified(bodies[1], 11),)))
    assert list(peer.engine.round.book.updates) == [update.id]


def test_messages_of_an_unknown_head_of_this_round_wait_for_it() -> None:
    """The chain was reorganised, and its author saw it first."""
    table = Table()
    peer = Driven(table)
    other = Driven(table)
    other.tell(LedgerChanged((table.certified(table.body([], drops=(table.everybody[3].member,))),)))
    land(peer)
    theirs = Table()
    theirs.standing = other.engine.standing
    assert theirs.standing.round == peer.engine.standing.round
    update = theirs.update(1)
    effects = peer.hear(update.signed)
    assert any(isinstance(effect, LookAtLedger) for effect in effects) and not peer.refused
    assert list(peer.engine.mailbox.early) == [update.id] and not peer.engine.round.book.updates
    peer.tell(LedgerRewound(9))
    peer.tell(LedgerChanged((Table().certified(other.of(Apply)[0].body),)))
    assert list(peer.engine.round.book.updates) == [update.id] and not peer.refused


NOWHERE = keccak(b"a head that nobody has seen")


def test_a_message_of_another_round_that_names_a_head_known_here_is_refused() -> None:
    table = Table()
    peer = Driven(table)
    peer.hear(table.again(1, table.have(1, []), round=2))
    assert peer.refused == ["ForeignHead"] and not peer.engine.mailbox.early


def test_early_messages_are_bounded_and_only_kept_of_members() -> None:
    table = Table()
    peer = Driven(table)
    for number in range(EARLY_MESSAGES_MAX + 10):
        peer.hear(table.again(1, table.have(1, []), round=2 + number, previous_head=NOWHERE))
    assert len(peer.engine.mailbox.early) == EARLY_MESSAGES_MAX
    stranger = make_identity(77)
    before = list(peer.engine.mailbox.early)
    header = {**table.header(1), "member": stranger.member, "round": 2, "previous_head": NOWHERE}
    peer.hear(stranger.seal(Have(**header, updates=())))
    assert peer.refused == ["BadSignature"] and list(peer.engine.mailbox.early) == before


def test_before_the_start_messages_of_those_who_joined_wait_for_it() -> None:
    table = Table()
    peer = Driven(table, checkpoint=Checkpoint())
    update = table.update(1)
    effects = peer.hear(update.signed)
    assert any(isinstance(effect, LookAtLedger) for effect in effects) and not peer.engine.mailbox.early
    *joined, started = table.opening()
    peer.tell(LedgerChanged(tuple(joined)))
    peer.hear(update.signed)
    assert list(peer.engine.mailbox.early) == [update.id]
    peer.tell(LedgerChanged((started,)))
    assert peer.engine.standing == table.standing
    assert list(peer.engine.round.book.updates) == [update.id] and not peer.refused


# Digest and pull


def test_a_digest_is_answered_with_what_its_author_lacks() -> None:
    table = Table()
    peer = Driven(table)
    made = [table.update(who) for who in (1, 2, 3)]
    peer.get(*made)
    effects = peer.hear(digest(table, 1, known=[made[0].signed]))
    (answer,) = [effect for effect in effects if isinstance(effect, Send)]
    assert answer.to == (table.everybody[1].member,)
    assert set(answer.raws) == {made[1].signed.raw, made[2].signed.raw}
    peer.now += ANSWER_PAUSE_S
    assert quiet(peer.hear(digest(table, 1, known=[item.signed for item in made])))


def test_an_answer_is_bounded_and_all_comes_in_the_end() -> None:
    table = Table(seats=30)
    peer = Driven(table)
    peer.hear(*(table.have(who, []) for who in range(1, 30)))
    peer.hear(*(table.attest(who, table.body([])) for who in range(1, 30)))
    peer.hear(*(table.attest(who, table.body([], state_root=NEXT_STATE)) for who in range(1, 30)))
    everything = list(peer.engine.round.book.objects())
    assert len(everything) > OBJECTS_PER_PACKET_MAX
    known, asked = [], 0
    while len(known) < len(everything) and asked < 5:
        peer.now += ANSWER_PAUSE_S
        asker = (table.everybody[1].member,)
        sent = [effect for effect in peer.hear(digest(table, 1, known)) if isinstance(effect, Send)]
        (answer,) = [effect for effect in sent if effect.to == asker]
        assert len(answer.raws) <= OBJECTS_PER_PACKET_MAX
        known += [signed for signed in everything if signed.raw in answer.raws]
        asked += 1
    assert len(known) == len(everything)


def test_what_its_author_never_keeps_does_not_fill_every_answer() -> None:
    """The asker refuses the first 70 objects; with new salts it still gets all the others."""
    table = Table(seats=30)
    peer = Driven(table)
    bodies = [table.body([], state_root=bytes([number]) * 32) for number in range(4)]
    peer.hear(*(table.attest(who, body) for body in bodies for who in range(1, 30)))
    everything = [signed.raw for signed in peer.engine.round.book.objects()]
    wanted = set(everything[70:])
    for number in range(60):
        salt = number.to_bytes(16, "big")
        asked = table.sign(1, Digest(**table.header(1), salt=salt, known=b""))
        peer.now += ANSWER_PAUSE_S
        answers = [effect.raws for effect in peer.hear(asked) if isinstance(effect, Send)]
        assert answers
        wanted -= set().union(*answers)
    assert not wanted


def test_who_asks_all_the_time_is_answered_now_and_then() -> None:
    """An answer is larger than its question. Others are answered meanwhile, and so are other questions."""
    table = Table()
    peer = Driven(table)
    peer.get(table.update(3))

    def answers(*questions) -> int:
        return sum(isinstance(effect, Send | OfferList) for effect in peer.hear(*questions))

    assert answers(digest(table, 1), digest(table, 1), digest(table, 2)) == 2
    peer.now += ANSWER_PAUSE_S - 0.01
    assert answers(digest(table, 1)) == 0
    peer.now += 0.01
    assert answers(digest(table, 1)) == 1
    land(peer)
    request = table.sign(1, ListRequest(**{**table.header(1), "round": 1}, updates_root=NEXT_STATE))
    assert answers(request, request) == 1


def test_a_digest_in_the_name_of_another_is_refused() -> None:
    """Else anybody could have everything sent to a third."""
    table = Table()
    peer = Driven(table)
    peer.get(table.update(1))
    peer.hear(table.again(2, digest(table, 3)))
    assert peer.refused == ["BadSignature"]
    assert not [effect for effect in peer.last if isinstance(effect, Send)]


def test_gossip_tells_the_short_name_of_all_that_is_known() -> None:
    table = Table()
    peer = Driven(table)
    made = table.update(1)
    peer.get(made)
    target = table.everybody[2].member
    effects = peer.tell(GossipDue((target,), SALT))
    (sent,) = peer.said("digest", effects)
    assert sent.message.known == short_name(made.id, SALT) and len(sent.message.known) == SHORT_NAME_SIZE
    assert [effect.to for effect in effects if isinstance(effect, Send)] == [(target,)]


def test_a_digest_from_further_on_makes_it_look_at_the_ledger() -> None:
    table = Table()
    peer = Driven(table)
    peer.get(table.update(1))
    effects = peer.hear(digest(table, 1, round=2, previous_head=NEXT_STATE))
    assert any(isinstance(effect, LookAtLedger) for effect in effects)
    assert not any(isinstance(effect, Send) for effect in effects)


# Lists of earlier rounds


def test_a_request_for_the_list_of_an_earlier_round_is_answered_from_disk() -> None:
    table = Table()
    peer = Driven(table)
    request = table.sign(1, ListRequest(**table.header(1), updates_root=NEXT_STATE))
    assert quiet(peer.hear(request))  # of the round that is still open
    land(peer)
    peer.now += ANSWER_PAUSE_S
    effects = peer.hear(request)
    assert OfferList(table.everybody[1].member, 1, NEXT_STATE) in effects


def test_an_offer_is_fetched_only_of_the_list_that_is_missing() -> None:
    table = Table()
    peer = Driven(table)
    blob = BlobRef(NEXT_STATE, 1000)
    body = table.body([table.update(1)])
    offer = ListOffer(
        **table.header(2), updates_root=body.updates_root, blob_hash=blob.hash, blob_size=blob.size
    )
    assert quiet(peer.hear(table.sign(2, offer)))
    peer.tell(LedgerChanged((table.certified(body),)))
    other = table.again(2, table.sign(2, offer), updates_root=NEXT_STATE)
    assert quiet(peer.hear(other))
    effects = peer.hear(table.sign(2, offer))
    assert FetchList(blob, table.everybody[2].member) in effects
