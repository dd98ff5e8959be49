"""Whatever moment a peer dies in: what it said it stands by, what it did not say may change."""

from distrai.peer.engine import Checkpoint
from distrai.peer.events import (
    Apply,
    Evaluate,
    LedgerChanged,
    Persist,
    Send,
    StateApplied,
    StateComputed,
    Submit,
    Train,
    TrainingDone,
)
from helpers.engine import NEXT_STATE, TIMING, Driven, Table, everyone_spoke, reveal


def full_round(table: Table, who: int = 1):
    """A peer that said everything it can say in a round; it proposed too."""
    peer = Driven(table, who)
    own = peer.train()
    updates = sorted([own, *(table.update(other) for other in range(4) if other != who)], key=lambda m: m.id)
    peer.get(*(made for made in updates if made is not own))
    silent = 3
    peer.hear(*(table.have(other, updates) for other in range(4) if other not in (who, silent)))
    reveal(peer, updates)
    peer.open_all()
    peer.tick(TIMING.settle_s)
    for effect in peer.of(Evaluate):
        peer.tell(StateComputed(table.standing.head, effect.certified.updates_root, NEXT_STATE))
    kinds = [peer.opened(record.raw).message.kind for record in peer.persisted]
    assert kinds == ["update", "have", "key", "proposal", "signature"]
    return peer, updates


def restarted(table: Table, records, updates=(), checkpoint: Checkpoint | None = None) -> Driven:
    """Seat 1 after a crash."""
    return Driven(table, 1, checkpoint, records, [made.blob for made in updates])


def test_a_restarted_peer_says_the_same_again_and_nothing_else() -> None:
    table = Table()
    before, updates = full_round(table)
    peer = restarted(table, before.persisted, updates)
    sent = {raw for effect in peer.of(Send) for raw in effect.raws}
    assert sent == {record.raw for record in before.persisted}
    assert not peer.of(Persist)
    peer.tell(StateApplied(table.standing.head))
    assert not peer.of(Train)
    everyone_spoke(peer, updates)
    peer.get(*updates)
    everyone_spoke(peer, updates)
    peer.open_all()
    for effect in peer.of(Evaluate):
        peer.tell(StateComputed(table.standing.head, effect.certified.updates_root, NEXT_STATE))
    for at in range(0, 60, 2):
        peer.tick(at)
    kinds = {peer.opened(record.raw).message.kind for record in peer.persisted}
    assert kinds <= {"proposal", "signature"}
    attempts = [signed.message.attempt for signed in peer.said("proposal")]
    assert attempts.count(0) == 1


def test_every_prefix_of_what_was_persisted_is_stood_by() -> None:
    table = Table()
    before, updates = full_round(table)
    records = before.persisted
    for count in range(len(records) + 1):
        peer = restarted(table, records[:count], updates)
        done = TrainingDone(table.standing.head, updates[0].sealed.blob, bytes(32), 4, 32)
        peer.tell(done)
        peer.get(*updates)
        everyone_spoke(peer, updates)
        peer.tick(60)
        for kind in ("update", "have", "key"):
            ids = {signed.id for signed in peer.said(kind)}
            old = {
                peer.opened(item.raw).id
                for item in records[:count]
                if peer.opened(item.raw).message.kind == kind
            }
            assert not old or ids == old, (count, kind)


def test_words_of_the_first_round_are_restored_though_there_is_no_checkpoint_yet() -> None:
    table = Table()
    before, updates = full_round(table)
    peer = restarted(table, before.persisted, updates, Checkpoint())
    assert not peer.of(Send)
    peer.tell(LedgerChanged(table.opening()))
    assert {raw for effect in peer.of(Send) for raw in effect.raws} == {item.raw for item in before.persisted}
    assert not peer.of(Train)


def test_words_about_a_head_newer_than_the_checkpoint_are_restored() -> None:
    """The state of a head is computed in the background: a Have may be out before the checkpoint is on disk."""
    table = Table()
    before = Driven(table, 1)
    body = table.body([])
    before.tell(LedgerChanged((table.certified(body),)))
    before.tick(TIMING.hard_s)
    (have,) = before.said("have")
    assert have.message.round == 2
    peer = restarted(table, before.persisted)
    assert not peer.of(Send)
    peer.tell(LedgerChanged((table.certified(body),)))
    assert [signed.id for signed in peer.said("have")] == [have.id]
    peer.tick(60)
    assert {signed.id for signed in peer.said("have")} == {have.id}


def test_records_of_another_head_are_not_said_again() -> None:
    table = Table()
    before, _ = full_round(table)
    ahead = Driven(Table())
    ahead.tell(LedgerChanged((table.certified(table.body([])),)))
    checkpoint = Checkpoint(ahead.engine.standing, ahead.engine.roster)
    peer = restarted(table, before.persisted, checkpoint=checkpoint)
    assert not peer.of(Send) and not list(peer.engine.round.book.objects())


def test_a_certificate_lands_whose_list_only_the_own_disk_knows() -> None:
    """All died after signing; the certificate landed: without the persisted list it would be lost."""
    table = Table()
    before, updates = full_round(table)
    peer = restarted(table, before.persisted, updates)
    peer.tell(LedgerChanged((table.certified(table.body(updates)),)))
    (apply,) = peer.of(Apply)
    assert apply.certified == table.listed(updates) and apply.own
    assert not peer.said("list-request")


def test_a_restarted_peer_submits_what_it_signed() -> None:
    table = Table()
    before, updates = full_round(table)
    body = table.body(updates)
    peer = restarted(table, before.persisted, updates)
    peer.hear(table.attest(2, body), table.attest(0, body))
    peer.tick(TIMING.d0_s * 4)
    assert peer.of(Submit)[0].body == body


def test_a_proposal_of_a_late_attempt_is_restored() -> None:
    table = Table()
    proposal = table.proposal(table.proposer_at(80), 80, [])
    record = Persist(table.standing.head, 1, proposal.raw)
    peer = Driven(table, table.proposer_at(80), records=[record])
    assert peer.engine.round.own.proposed == {80}


def test_without_a_word_said_it_trains_anew() -> None:
    table = Table()
    peer = restarted(table, [])
    peer.tell(StateApplied(table.standing.head))
    assert len(peer.of(Train)) == 1


def test_after_the_loss_of_its_log_a_peer_is_silent_until_the_next_head() -> None:
    """It may have said something in the round that is on, and no longer knows what."""
    table = Table()
    peer = Driven(table, 1, silent_through=1)
    peer.tell(StateApplied(table.standing.head))
    updates = [table.update(who) for who in (0, 2, 3)]
    peer.get(*updates)
    everyone_spoke(peer, updates)
    for at in range(0, 60, 5):
        peer.tick(at)
    assert not peer.of(Train) and not peer.persisted and not peer.of(Submit)
    assert not [signed for kind in ("update", "have", "key", "signature") for signed in peer.said(kind)]
    peer.tell(LedgerChanged((table.certified(table.body([])),)))
    head = peer.engine.standing.head
    peer.tell(StateApplied(head))
    assert len(peer.of(Train)) == 1
    peer.tick(60 + TIMING.hard_s)
    assert peer.said("have")[0].message.round == 2
