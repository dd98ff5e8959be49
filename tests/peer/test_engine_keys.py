"""A member that changes its key: it attests with its seat's key, and trains with the old one a round longer."""

from dataclasses import replace

from distrai.peer.events import FetchList, GossipDue, LedgerChanged, StateApplied, Train
from distrai.peer.identity import Identity
from distrai.protocol.blobs import BlobRef
from distrai.protocol.ledger_events import KeyChanged, Position
from distrai.protocol.messages import ListOffer
from distrai.protocol.primitives import ZERO_HASH
from distrai.simulation.toy import DOMAIN, make_identity, recover, signer
from helpers.engine import BEGAN, TIMING, Driven, Table, everyone_spoke

NEW, OTHER = make_identity(40).address, make_identity(41).address
ROUNDS = 4


def rotated(old: Identity) -> Identity:
    """The member of ``old`` with a new key, and the old one still at hand."""
    return replace(old, address=NEW, sign=signer(NEW), also=((old.address, old.sign),))


def changed(table: Table, block: int = 5) -> KeyChanged:
    return KeyChanged(Position(block, 0, ZERO_HASH), table.everybody[0].member, NEW)


def live_through_a_round(peer: Driven, round_number: int) -> dict[str, set[bytes]]:
    """Everything that the peer says in one round, which ends without any update: who signed it, by kind."""
    peer.tell(StateApplied(peer.engine.standing.head))
    table, sent = peer.table, len(peer.all)
    if peer.of(Train) and peer.of(Train)[-1].standing.head == table.standing.head:
        peer.train()
    others = [table.have(who, []) for who in (1, 2, 3)]
    peer.hear(*others)
    peer.tick(peer.now - BEGAN + TIMING.hard_s)
    peer.tell(GossipDue((table.everybody[1].member,), bytes(16)))
    body = table.body([])
    peer.tick(peer.now - BEGAN + 60)
    peer.hear(*(table.proposal(table.proposer_at(a), a, [], body) for a in (2, 3, 4) if table.proposer_at(a)))
    keys: dict[str, set[bytes]] = {}
    for kind in ("update", "have", "key", "digest", "signature"):
        for signed in peer.said(kind, peer.all[sent:]):
            assert signed.message.round == round_number
            keys.setdefault(kind, set()).add(signed.signer)
            if kind == "signature":
                key = recover(DOMAIN.digest(signed.message.body_id), signed.message.attestation)
                keys.setdefault("attestation", set()).add(key)
    peer.land(block=10 * round_number)
    return keys


def test_from_the_old_key_to_the_new_one() -> None:
    table = Table()
    old = table.everybody[0].address
    peer = Driven(table, identity=rotated(table.everybody[0]))
    peer.tell(LedgerChanged((changed(table),)))
    found = [live_through_a_round(peer, number) for number in range(1, ROUNDS + 1)]
    for kind, expected in {
        # The change comes in round 1; the second body promotes the seat with its new key, its head fixes the seat's
        # key for round 3; who trains with which key was fixed a round before.
        "have": [old, old, NEW, NEW],
        "signature": [old, old, NEW, NEW],
        "attestation": [old, old, NEW, NEW],
        "update": [old, old, old, NEW],
        "key": [old, old, old, NEW],
        "digest": [NEW, NEW, NEW, NEW],  # of no round: with the newest that the ledger told
    }.items():
        assert [keys.get(kind) for keys in found] == [{key} for key in expected], kind
    seat = peer.engine.standing.seats[0]
    assert (seat.key, seat.since, seat.seated) == (NEW, 0, 0)


def test_without_its_old_key_it_listens_until_the_new_one_counts() -> None:
    table = Table()
    identity = replace(rotated(table.everybody[0]), also=())
    peer = Driven(table, identity=identity)
    peer.tell(LedgerChanged((changed(table),)))
    found = [live_through_a_round(peer, number) for number in range(1, ROUNDS + 1)]
    assert [{*keys} - {"digest"} for keys in found] == [
        set(),
        set(),
        {"have", "signature", "attestation"},
        {"have", "signature", "attestation", "update", "key"},
    ]


def test_others_take_its_words_with_the_key_of_the_round_only() -> None:
    table = Table()
    peer = Driven(table, who=1)
    me, new = table.everybody[0], rotated(table.everybody[0])
    peer.tell(LedgerChanged((changed(table),)))
    have = table.have(0, []).message
    peer.hear(new.seal(have, NEW))
    assert peer.refused == ["BadSignature"]
    peer.hear(me.seal(have))
    assert peer.refused == ["BadSignature"] and me.member in peer.engine.round.book.haves
    for block in (10, 20):
        peer.land(block=block)
    have, update = table.have(0, []).message, table.update(0)
    peer.hear(me.seal(have))
    assert peer.refused == ["BadSignature"] * 2
    peer.hear(new.seal(have, NEW), update.signed)  # the update with the old one: it was fixed a round before
    assert {*peer.engine.round.book.haves} == {me.member} and peer.engine.round.book.updates


def test_a_restarted_peer_stands_by_what_it_signed_with_its_old_key() -> None:
    table = Table()
    before = Driven(table)
    before.train()
    before.tick(TIMING.hard_s)
    assert len(before.persisted) == 2
    peer = Driven(table, records=before.persisted, identity=rotated(table.everybody[0]))
    for kind in ("update", "have"):
        assert [signed.raw for signed in peer.said(kind)] == [signed.raw for signed in before.said(kind)]
    everyone_spoke(peer, [])
    peer.tick(60)
    assert len({signed.id for kind in ("update", "have") for signed in peer.said(kind)}) == 2
    assert not peer.refused


def test_who_waits_for_a_list_understands_and_is_understood_by_those_who_are_further_on() -> None:
    """Keys that changed after the certificate are waiting with it; the others know only the new ones."""
    table = Table()
    peer = Driven(table, who=0, identity=rotated(table.everybody[0]))
    body = table.body([table.update(2)])
    helper = replace(table.everybody[1], address=OTHER, sign=signer(OTHER))
    changes = (
        changed(table, 11),
        KeyChanged(Position(11, 1, ZERO_HASH), helper.member, OTHER),
    )
    peer.tell(LedgerChanged((table.certified(body), *changes)))
    (request,) = peer.said("list-request")
    assert request.signer == NEW
    blob = BlobRef(table.update(2).blob, 900)
    offer = ListOffer(
        **table.header(1), updates_root=body.updates_root, blob_hash=blob.hash, blob_size=blob.size
    )
    for author in (table.everybody[2], helper):
        peer.hear(author.seal(offer))
    assert peer.refused == ["BadSignature"] and [effect.blob for effect in peer.of(FetchList)] == [blob]
