"""What is kept of a round, and what is refused by which rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.peer.book import BODIES_PER_MEMBER, RoundBook
from distrai.protocol.errors import (
    BadSignature,
    Equivocation,
    ForeignHead,
    ForeignRun,
    MalformedMessage,
    NotASeat,
    NotATrainer,
    TooManyMessages,
    TooManySteps,
    UnknownUpdate,
    UnsortedList,
    WrongBase,
    WrongBlobSize,
    WrongCodec,
    WrongFragment,
    WrongKey,
    WrongProposer,
    WrongRound,
    WrongTokenCount,
)
from distrai.protocol.messages import seal_envelope
from distrai.simulation.toy import DOMAIN, WORK, make_identity, signer
from helpers.engine import NEXT_STATE, Driven, Made, Table

STRANGER = make_identity(99)


@pytest.fixture
def table() -> Table:
    return Table(guests=1)


@pytest.fixture
def book(table: Table) -> RoundBook:
    return RoundBook(table.everybody[0], table.standing, WORK, 0)


def add(book: RoundBook, *messages, now=0.0, attempt=0) -> None:
    for signed in messages:
        book.add(signed, now, attempt)


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        (ForeignRun, {"run": 8}),
        (WrongRound, {"round": 2}),
        (ForeignHead, {"previous_head": bytes(32)}),
        (BadSignature, {"member": Table().everybody[2].member}),
        (NotATrainer, {"member": STRANGER.member}),
        (MalformedMessage, {"version": 2}),
        (WrongBase, {"base_round": 1}),
        (WrongBase, {"base_state_root": NEXT_STATE}),
        (WrongCodec, {"codec": "other"}),
        (WrongFragment, {"fragment": 1}),
        (WrongFragment, {"tau": 1}),
        (WrongFragment, {"trace_root": NEXT_STATE}),
        (WrongBlobSize, {"blob_size": WORK.sealed_bytes[0] - 1}),
        (TooManySteps, {"inner_steps": WORK.inner_steps_max + 1, "tokens": 40}),
        (TooManySteps, {"inner_steps": 0, "tokens": 0}),
        (WrongTokenCount, {"tokens": 33}),
    ],
)
def test_a_bad_update_is_refused_by_the_rule_it_breaks(table, book, rule, changes) -> None:
    good = table.update(1).signed
    with pytest.raises(rule):
        add(book, table.again(1, good, **changes))
    assert not list(book.objects())
    add(book, good)


def test_a_guest_trains_but_has_no_seat(table, book) -> None:
    made = table.update(4)
    add(book, made.signed, table.key(4, made))
    for message in (table.have(4, [made]), table.proposal(4, 0, []), table.attest(4, table.body([]))):
        with pytest.raises(NotASeat):
            add(book, message)


def test_two_updates_of_an_author_are_kept_and_a_third_only_if_more_than_a_third_name_it(table, book) -> None:
    made = [table.update(1, b"%d" % index) for index in range(4)]
    add(book, made[0].signed, made[1].signed)
    with pytest.raises(TooManyMessages):
        add(book, made[2].signed)
    add(book, table.have(0, [made[2]]))
    with pytest.raises(TooManyMessages):
        add(book, made[2].signed)
    add(book, table.have(2, [made[2]]), made[2].signed)
    assert book.updates_of(made[0].signed.message) == [made[0].id, made[1].id, made[2].id]


def test_a_seat_is_counted_once_however_many_haves_it_sends(table, book) -> None:
    made, other = table.update(1), table.update(2)
    add(book, made.signed, other.signed)
    add(book, table.have(0, [made]), table.have(0, [made, other]))
    assert book.named_by(made.id) == 1 and book.named_by(other.id) == 1
    assert book.named_by(made.id, {table.everybody[0].member}) == 0
    with pytest.raises(Equivocation):
        add(book, table.have(0, [other]))
    assert not book.has_quorum_of_haves()


def test_of_a_liar_no_more_haves_are_kept_than_there_are_proposals_that_rely_on_them(table, book) -> None:
    made = [table.update(who) for who in range(4)]
    haves = [table.have(0, made[: count + 1]) for count in range(4)]
    add(book, haves[0], haves[1])
    add(book, table.proposal(1, 0, [], haves=(haves[2].id, haves[3].id)), haves[2])
    with pytest.raises(Equivocation):
        add(book, haves[3])
    add(book, table.proposal(2, 1, []), haves[3])
    assert book.named_by(made[3].id) == 1


def test_a_have_is_a_sorted_set(table, book) -> None:
    names = sorted(table.update(who).id for who in (1, 2))
    have = table.have(0, [])
    for wrong in ((names[1], names[0]), (names[0], names[0])):
        with pytest.raises(UnsortedList):
            add(book, table.again(0, have, updates=wrong))


def test_keys_are_checked_on_arrival(table, book) -> None:
    made = table.update(1)
    with pytest.raises(UnknownUpdate):
        add(book, table.key(1, made))
    add(book, made.signed)
    with pytest.raises(WrongKey):
        add(book, table.key(1, made, key=bytes(32)))
    with pytest.raises(WrongKey):
        add(book, table.key(2, made))
    add(book, table.key(1, made))
    assert [signed.message.key for signed in book.keys.values()] == [made.sealed.key]


def test_the_ciphertext_of_another_has_another_key_hash_and_does_not_open(table, book) -> None:
    """A copier may announce the bytes, but neither its own nor the author's key opens them for it."""
    made = table.update(1)
    copied = table.again(2, table.update(2).signed, blob_hash=made.blob)
    add(book, made.signed, copied)
    book.hold(made.blob)
    assert book.first_held == {
        table.everybody[who].member: name for who, name in ((1, made.id), (2, copied.id))
    }
    with pytest.raises(WrongKey):
        add(book, table.key(2, Made(copied, made.sealed)))


def test_a_proposal_must_come_from_the_seat_whose_turn_it_is(table, book) -> None:
    for attempt in range(8):
        right = table.proposer_at(attempt)
        for who in range(4):
            proposal = table.proposal(who, attempt, [])
            if who != right:
                with pytest.raises(WrongProposer):
                    add(book, proposal)
            else:
                add(book, proposal)
    with pytest.raises(TooManyMessages):
        add(book, table.proposal(1, 0, [], haves=(NEXT_STATE,)))


def test_attempts_far_ahead_are_refused(table, book) -> None:
    far = table.proposal(table.proposer_at(65), 65, [])
    with pytest.raises(WrongProposer):
        add(book, far)
    add(book, far, attempt=1)


def test_an_update_is_listed_once_in_a_proposal(table, book) -> None:
    name = table.update(1).id
    with pytest.raises(UnsortedList):
        add(book, table.again(1, table.proposal(1, 0, []), updates=(name, name)))


def test_signatures_are_kept_for_so_many_bodies_of_a_seat(table, book) -> None:
    bodies = [table.body([], state_root=bytes([number]) * 32) for number in range(BODIES_PER_MEMBER + 1)]
    add(book, *(table.attest(1, body) for body in bodies[:-1]))
    with pytest.raises(TooManyMessages):
        add(book, table.attest(1, bodies[-1]))
    add(book, table.attest(2, bodies[-1]))


def test_an_attestation_must_be_by_the_seat_that_sends_it(table, book) -> None:
    body = table.body([])
    stolen = table.everybody[2].sign(DOMAIN.digest(body.id))
    with pytest.raises(BadSignature):
        add(book, table.again(1, table.attest(1, body), attestation=stolen))
    with pytest.raises(BadSignature):
        add(book, table.again(1, table.attest(1, body), body_id=NEXT_STATE))


def test_an_update_under_two_signatures_is_one_update(table, book) -> None:
    made = table.update(1)
    address = table.everybody[1].address
    again = seal_envelope(made.signed.message, DOMAIN, signer(address, salt=5), address)
    assert again.raw != made.signed.raw and again.id == made.id
    first, second = RoundBook(table.everybody[0], table.standing, WORK, 0), book
    for one, signed in ((first, made.signed), (second, again)):
        add(one, signed, table.key(1, made))
    assert first.certified_list([made.id]).updates_root == second.certified_list([made.id]).updates_root


def test_of_a_liar_either_have_allows_but_none_requires(table, book) -> None:
    made = table.update(1)
    add(book, made.signed, table.key(1, made))
    book.opened[made.id] = None
    add(book, table.have(0, [made]), table.have(1, [made]), table.have(3, []))
    assert not book.allowed()
    add(book, table.have(3, [made]))
    assert book.allowed() == [made.id] and not book.required()
    add(book, table.have(2, [made]))
    assert book.required() == [made.id]


def test_a_list_is_sorted_by_member(table, book) -> None:
    made = [table.update(who) for who in (3, 1, 2)]
    for item in made:
        add(book, item.signed)
    for who, item in zip((3, 1, 2), made, strict=True):
        add(book, table.key(who, item))
    listed = book.certified_list([item.id for item in made])
    assert [update.member for update in listed.updates] == sorted(update.member for update in listed.updates)
    assert listed is book.certified_list([item.id for item in reversed(made)])


@given(
    seats=st.integers(1, 12),
    votes=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 1), st.booleans()), max_size=40),
)
def test_at_most_one_of_two_updates_of_an_author_can_count(seats, votes) -> None:
    """Whatever fewer than a third of the seats name, in two Haves each, if the others name one update of an author."""
    table = Table(seats)
    liars = (seats - 1) // 3
    pair = [table.update(0, b"a"), table.update(0, b"b")]
    book = RoundBook(table.everybody[0], table.standing, WORK, 0)
    add(book, pair[0].signed, pair[1].signed)
    book.opened.update({made.id: None for made in pair})
    for seat, choice, _ in votes:
        who = seat % seats
        member = table.everybody[who].member
        if who < liars:
            if member not in book.haves:
                add(book, table.have(who, [pair[choice]]), table.have(who, [pair[1 - choice]]))
        elif member not in book.haves:
            add(book, table.have(who, [pair[choice]]))
    assert len(book.allowed()) <= 1
    assert set(book.required()) <= set(book.allowed())


def test_everything_kept_can_be_taken_by_another_in_the_order_it_is_told(table, book) -> None:
    made = [table.update(who) for who in range(5)]
    haves = [table.have(who, made[: who + 1]) for who in range(4)]
    more = [table.have(3, made[:2]), table.have(3, made[2:3])]
    proposal = table.proposal(1, 0, made, haves=(more[1].id,))
    messages = [*(item.signed for item in made), *haves, more[0], proposal, more[1]]
    messages += [table.key(who, item) for who, item in enumerate(made)]
    messages += [table.attest(who, table.body(made)) for who in range(4)]
    add(book, *messages)
    other = RoundBook(table.everybody[1], table.standing, WORK, 0)
    add(other, *book.objects())
    assert {signed.id for signed in other.objects()} == {signed.id for signed in messages}


def test_a_driven_peer_refuses_with_a_note_that_names_rule_kind_member_and_signer() -> None:
    table = Table()
    peer = Driven(table)
    made = table.update(1)
    peer.hear(table.again(1, made.signed, codec="other"))
    (note,) = [effect for effect in peer.last if type(effect).__name__ == "Note"]
    assert note.what == "refused" and note.facts["rule"] == "WrongCodec" and note.facts["kind"] == "update"
    assert note.facts["member"] == table.everybody[1].member.hex()
    assert note.facts["signer"] == table.everybody[1].address.hex()
