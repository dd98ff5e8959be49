"""Steps 1 to 5 and 8 of a round: train, cut, reveal, agree at once, submit."""

from distrai.peer.events import (
    BlobFailed,
    BlobStored,
    Evaluate,
    Fetch,
    Note,
    Open,
    Persist,
    ReportFault,
    Send,
    StateApplied,
    StateComputed,
    Submit,
    Train,
    TrainingDone,
    UpdateOpened,
)
from distrai.protocol.assignment import assigned_block
from distrai.protocol.body import Body
from distrai.simulation.toy import BLOCK_SAMPLES, DOMAIN, recover
from helpers.engine import BEGAN, NEXT_STATE, TIMING, Driven, Table, everyone_spoke, reveal


def ready(table: Table, who: int = 0):
    """A peer that has trained, and holds the updates of all seats but the last one's."""
    peer = Driven(table, who)
    own = peer.train()
    others = [table.update(other) for other in range(table.seats) if other != who]
    peer.get(*others[:-1])
    return peer, own, others


# Step 1: train, seal, announce


def test_trains_on_its_block_once_the_state_of_the_head_is_there() -> None:
    table = Table()
    peer = Driven(table)
    assert not peer.of(Train)
    peer.tell(StateApplied(table.standing.head))
    (train,) = peer.of(Train)
    standing = table.standing
    me = table.everybody[0].member
    block = assigned_block(me, standing.trainer_members, standing.head, standing.cursor, BLOCK_SAMPLES)
    assert train.block == block and train.standing == standing


def test_does_not_train_beyond_the_last_round() -> None:
    peer = Driven(Table(rounds=0))
    peer.tell(StateApplied(peer.table.standing.head))
    assert not peer.of(Train)


def test_an_update_is_on_disk_before_it_is_announced_and_goes_to_everybody_with_its_blob() -> None:
    table = Table(guests=1)
    peer = Driven(table)
    made = peer.train()
    at = next(index for index, effect in enumerate(peer.last) if isinstance(effect, Persist))
    persist, send = peer.last[at], peer.last[at + 1]
    assert isinstance(persist, Persist) and isinstance(send, Send)
    assert persist.raw == send.raws[0] and persist.secret == made.sealed.key
    assert persist.head == table.standing.head and persist.round == 1
    assert set(send.to) == {who.member for who in table.everybody[1:]}
    assert send.blob == made.sealed.blob
    assert peer.opened(persist.raw).id == made.id


def test_announces_once() -> None:
    peer = Driven(Table())
    peer.train()
    peer.train()
    assert len(peer.said("update")) == 1


def test_what_was_trained_from_another_head_is_not_announced() -> None:
    peer = Driven(Table())
    made = peer.table.update(0)
    peer.tell(TrainingDone(bytes(32), made.sealed.blob, made.sealed.key, 4, 32))
    assert not peer.said("update")


def test_is_not_announced_when_two_thirds_have_spoken_already() -> None:
    table = Table()
    peer = Driven(table)
    peer.hear(*(table.have(who, []) for who in (1, 2, 3)))
    peer.train()
    assert not peer.said("update")


def test_fetches_a_ciphertext_once_and_again_after_a_failure_from_whoever_says_to_hold_it() -> None:
    table = Table()
    peer = Driven(table)
    made = table.update(1)
    peer.hear(made.signed)
    (fetch,) = peer.of(Fetch)
    assert fetch == Fetch(made.sealed.blob, (table.everybody[1].member,))
    peer.engine.round.fetch_missing()
    assert len(peer.of(Fetch)) == 1
    peer.hear(table.have(2, [made]))
    peer.tell(BlobFailed(made.blob))
    peer.engine.round.fetch_missing()
    peer.tick(0.1)
    assert peer.of(Fetch)[1].holders == (table.everybody[1].member, table.everybody[2].member)
    peer.tell(BlobStored(made.blob))
    peer.engine.round.fetch_missing()
    peer.tick(0.2)
    assert len(peer.of(Fetch)) == 2


def test_a_blob_that_came_with_its_announcement_is_not_fetched() -> None:
    peer = Driven(Table())
    peer.get(peer.table.update(1))
    assert not peer.of(Fetch)


# Step 2: cut


def test_speaks_at_once_when_all_ciphertexts_are_held() -> None:
    peer, own, others = ready(Table())
    assert not peer.said("have")
    peer.get(others[-1])
    (have,) = peer.said("have")
    assert have.message.updates == tuple(sorted(made.id for made in [own, *others]))
    assert any(record.raw == have.raw for record in peer.persisted)
    peer.tick(19)
    assert len(peer.said("have")) == 1


def test_waits_five_thirds_of_d0_for_trainers_without_a_seat() -> None:
    peer, _, others = ready(Table(guests=1))
    peer.now = BEGAN + 1
    peer.get(others[-1])
    assert not peer.said("have") and peer.wakes_at == 1 + TIMING.d0_s * 5 / 3
    peer.tick(5.99)
    assert not peer.said("have")
    peer.tick(6)
    assert len(peer.said("have")) == 1


def test_does_not_wait_for_trainers_without_a_seat_that_are_held() -> None:
    table = Table(guests=1)
    peer, _, others = ready(table)
    peer.get(table.update(4))
    assert not peer.said("have")
    peer.get(others[-1])
    assert len(peer.said("have")[0].message.updates) == 5


def test_with_two_thirds_held_speaks_at_t_cut() -> None:
    peer, _, _ = ready(Table())
    assert peer.wakes_at == TIMING.cut_s
    peer.tick(TIMING.cut_s - 0.01)
    assert not peer.said("have")
    peer.tick(TIMING.cut_s)
    assert len(peer.said("have")[0].message.updates) == 3


def test_with_fewer_held_speaks_at_t_hard() -> None:
    table = Table()
    peer = Driven(table)
    peer.get(table.update(1), table.update(2))
    peer.tick(TIMING.hard_s - 0.01)
    assert not peer.said("have")
    peer.tick(TIMING.hard_s)
    assert len(peer.said("have")[0].message.updates) == 2


def test_joins_the_cut_half_a_d0_after_two_thirds_have_spoken() -> None:
    table = Table()
    peer = Driven(table)
    made = table.update(1)
    peer.now = BEGAN + 2
    peer.hear(table.have(1, [made]), table.have(2, [made]))
    assert peer.wakes_at == TIMING.hard_s
    peer.hear(table.have(3, [made]))
    assert peer.wakes_at == 2 + TIMING.d0_s / 2
    peer.tick(3.49)
    assert not peer.said("have")
    peer.tick(3.5)
    assert len(peer.said("have")) == 1


def test_names_of_two_updates_of_one_author_the_first_that_it_held_whole() -> None:
    table = Table()
    peer = Driven(table)
    first, second = table.update(1, b"a"), table.update(1, b"b")
    peer.hear(first.signed)
    peer.get(second)
    peer.tell(BlobStored(first.blob))
    peer.tick(TIMING.hard_s)
    assert peer.said("have")[0].message.updates == (second.id,)
    assert [note.facts["rule"] for note in peer.of(Note) if note.what == "equivocation"] == ["Equivocation"]


def test_reports_two_updates_for_one_place_once() -> None:
    table = Table()
    peer = Driven(table)
    first, second = table.update(1, b"a"), table.update(1, b"b")
    peer.hear(first.signed, first.signed)
    peer.hear(table.update(2, b"a").signed)
    assert not peer.of(ReportFault)
    peer.hear(second.signed, second.signed, table.update(1, b"c").signed)
    assert [(fault.first.id, fault.second.id) for fault in peer.of(ReportFault)] == [(first.id, second.id)]


def test_a_trainer_without_a_seat_reveals_but_never_attests() -> None:
    table = Table(guests=1)
    peer = Driven(table, who=4)
    own = peer.train()
    updates = [own, *(table.update(who) for who in range(4))]
    peer.get(*updates[1:])
    peer.hear(*(table.have(who, updates) for who in range(4)))
    reveal(peer, updates)
    peer.open_all()
    peer.tick(60)
    assert len(peer.said("key")) == 1
    assert not peer.said("have") and not peer.said("signature") and not peer.said("proposal")


# Step 3: reveal


def test_reveals_its_key_only_when_two_thirds_have_spoken() -> None:
    table = Table()
    peer = Driven(table)
    own = peer.train()
    peer.hear(table.have(1, [own]), table.have(2, [own]))
    peer.tick(TIMING.cut_s)
    assert not peer.said("key") and not peer.said("have")
    peer.hear(table.have(3, [own]))
    (key,) = peer.said("key")
    assert key.message.update == own.id and key.message.key == own.sealed.key
    assert any(record.raw == key.raw for record in peer.persisted)


def test_opens_only_what_two_thirds_hold() -> None:
    table = Table()
    peer = Driven(table)
    held, rare = table.update(1), table.update(2)
    peer.get(held, rare)
    peer.hear(table.have(1, [held, rare]), table.have(2, [held, rare]), table.have(3, [held]))
    reveal(peer, [held, rare])
    assert [effect.id for effect in peer.of(Open)] == [held.id]


# Step 5: the fast path


def agreed(peer: Driven, updates) -> None:
    everyone_spoke(peer, updates)
    peer.open_all()


def test_signs_without_a_proposal_when_all_spoke_and_all_is_open() -> None:
    table = Table()
    peer, own, others = ready(table)
    peer.get(others[-1])
    updates = [own, *others]
    agreed(peer, updates)
    (evaluate,) = peer.of(Evaluate)
    assert evaluate.certified == table.listed(updates) and not peer.said("signature")
    peer.tell(StateComputed(table.standing.head, evaluate.certified.updates_root, NEXT_STATE))
    (signature,) = peer.said("signature")
    assert signature.message.body_id == table.body(updates).id
    me = table.everybody[0].address
    assert recover(DOMAIN.digest(signature.message.body_id), signature.message.attestation) == me
    record = next(record for record in peer.persisted if record.raw == signature.raw)
    assert record.body == table.body(updates) and record.listed == table.listed(updates)
    assert not peer.said("proposal")


def test_the_fast_path_waits_for_the_last_have() -> None:
    table = Table()
    peer, own, others = ready(table)
    updates = [own, *others[:-1]]
    peer.tick(TIMING.cut_s)
    peer.hear(table.have(1, updates), table.have(2, updates))
    reveal(peer, updates)
    peer.open_all()
    assert not peer.of(Evaluate)
    peer.hear(table.have(3, updates))
    assert len(peer.of(Evaluate)) == 1


def test_the_fast_path_waits_for_every_key_and_every_check() -> None:
    table = Table()
    peer, own, others = ready(table)
    peer.get(others[-1])
    everyone_spoke(peer, [own, *others], keys=False)
    reveal(peer, others[:-1])
    peer.open_all()
    assert not peer.of(Evaluate)
    reveal(peer, others[-1:])
    assert not peer.of(Evaluate)
    peer.tell(UpdateOpened(others[-1].id, None))
    assert len(peer.of(Evaluate)[0].certified.entries) == 4


def test_the_fast_path_waits_for_an_update_that_two_thirds_hold_and_this_peer_never_heard_of() -> None:
    table = Table()
    peer, own, others = ready(table)
    peer.tick(TIMING.cut_s)
    everyone_spoke(peer, [own, *others], keys=False)
    reveal(peer, others[:-1])
    peer.open_all()
    assert not peer.of(Evaluate)
    peer.get(others[-1])
    reveal(peer, others[-1:])
    peer.open_all()
    assert len(peer.of(Evaluate)[0].certified.entries) == 4


def test_no_fast_path_beside_a_seat_that_sent_two_haves() -> None:
    table = Table()
    peer, own, others = ready(table)
    peer.get(others[-1])
    peer.hear(table.have(1, [own]))
    agreed(peer, [own, *others])
    assert not peer.of(Evaluate)
    assert [note.facts["kind"] for note in peer.of(Note) if note.what == "equivocation"] == ["have"]


def test_an_update_that_does_not_open_is_left_out_and_refused_by_name() -> None:
    table = Table()
    peer, own, others = ready(table)
    peer.get(others[-1])
    everyone_spoke(peer, [own, *others])
    for effect in peer.of(Open):
        bad = effect.id == others[0].id
        peer.tell(UpdateOpened(effect.id, "NotFinite: it holds NaN" if bad else None))
    (evaluate,) = peer.of(Evaluate)
    assert evaluate.certified == table.listed([own, *others[1:]])
    assert peer.refused == ["NotFinite"]


def test_a_key_that_is_never_revealed_leaves_its_update_out_after_the_settle_wait() -> None:
    table = Table()
    peer, own, others = ready(table, who=1)  # seat 1 proposes first
    peer.get(others[-1])
    everyone_spoke(peer, [own, *others], keys=False)
    reveal(peer, others[:-1])
    peer.open_all()
    peer.tick(TIMING.settle_s - 0.01)
    assert not peer.of(Evaluate)
    peer.tick(TIMING.settle_s)
    assert peer.of(Evaluate)[0].certified == table.listed([own, *others[:-1]])


# Step 8: submit


def signed_by_quorum(who: int) -> tuple[Driven, Body]:
    """A peer that signed on the fast path and hears that two others did."""
    table = Table()
    peer, own, others = ready(table, who)
    peer.get(others[-1])
    agreed(peer, [own, *others])
    body = table.body([own, *others])
    peer.tell(StateComputed(table.standing.head, body.updates_root, NEXT_STATE))
    voters = [other for other in range(4) if other != who][:2]
    peer.hear(table.attest(voters[0], body))
    assert not peer.of(Submit)
    peer.hear(table.attest(voters[1], body))
    return peer, body


def test_the_first_in_rank_submits_at_once_with_sorted_signatures() -> None:
    peer, body = signed_by_quorum(who=1)
    (submit,) = peer.of(Submit)
    signers = [recover(DOMAIN.digest(body.id), item) for item in submit.signatures]
    assert submit.body == body and signers == sorted(signers) and len(set(signers)) == 3


def test_others_submit_later_by_rank_and_again_until_a_head_is_seen() -> None:
    table = Table()
    for rank, who in enumerate((1, 2, 3, 0)):
        peer, body = signed_by_quorum(who)
        due = rank * TIMING.d0_s
        if rank:
            assert not peer.of(Submit) and peer.wakes_at == min(due, TIMING.settle_s)
            peer.tick(due - 0.01)
            assert not peer.of(Submit)
            peer.tick(due)
        assert len(peer.of(Submit)) == 1
        peer.tick(due + 4 * TIMING.d0_s - 0.01)
        assert len(peer.of(Submit)) == 1
        peer.tick(due + 4 * TIMING.d0_s)
        assert len(peer.of(Submit)) == 2
        assert table.body([]) != body


def test_nothing_happens_after_the_last_round() -> None:
    table = Table(rounds=0)
    peer = Driven(table)
    peer.tick(TIMING.hard_s)
    peer.hear(*(table.have(who, []) for who in (1, 2, 3)))
    for at in range(20, 100, 5):
        peer.tick(at)
    assert not peer.of(Send) and not peer.of(Submit)
