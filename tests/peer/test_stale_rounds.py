"""Rounds that do not wait for everybody: an update that comes late is listed later, once."""

from distrai.peer.events import Apply, BlobStored, LedgerRewound, StateApplied, StopTraining, Train
from helpers.engine import TIMING, Driven, Table, everyone_spoke, reveal


def applied(peer: Driven) -> None:
    peer.tell(StateApplied(peer.table.standing.head))


def landed(peer: Driven, updates=()):
    """A round ends with these updates; gives the standing before it. The state is there, too."""
    before = peer.table.standing
    peer.land(updates, block=20 + before.round)
    applied(peer)
    return before


def trained_from(peer: Driven) -> list[int]:
    """The rounds after which training began."""
    return [train.standing.round for train in peer.of(Train)]


# The own training


def test_training_goes_on_at_a_new_head_while_its_update_may_be_listed() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    applied(peer)
    landed(peer, [table.update(1)])
    assert trained_from(peer) == [0] and not peer.of(StopTraining)
    landed(peer, [table.update(1)])
    assert trained_from(peer) == [0, 2] and len(peer.of(StopTraining)) == 1


def test_without_staleness_every_head_begins_anew() -> None:
    table = Table()
    peer = Driven(table)
    applied(peer)
    landed(peer, [table.update(1)])
    assert trained_from(peer) == [0, 1] and len(peer.of(StopTraining)) == 1


def test_what_was_trained_from_an_earlier_head_says_so_and_is_kept_with_that_head() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    first = landed(peer, [table.update(1)])
    made = peer.train(first)
    (update,) = peer.said("update")
    assert update.id == made.id
    message = update.message
    assert (message.round, message.previous_head, message.base_state_root) == (
        1,
        first.head,
        first.state_root,
    )
    record = peer.persisted[-1]
    assert (record.head, record.round, record.secret) == (first.head, 1, made.sealed.key)


def test_a_member_waits_until_its_update_is_listed_then_trains_from_the_newest_head() -> None:
    table = Table(staleness=2)
    peer = Driven(table)
    applied(peer)
    own = peer.train()
    landed(peer, [table.update(1)])
    assert trained_from(peer) == [0]
    landed(peer, [own])
    assert trained_from(peer) == [0, 2]


def test_a_member_waits_no_longer_than_its_update_may_be_listed() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    applied(peer)
    peer.train()
    landed(peer, [table.update(1)])
    assert trained_from(peer) == [0]
    landed(peer, [table.update(1)])
    assert trained_from(peer) == [0, 2]


def test_what_comes_too_late_for_every_list_is_not_announced_and_training_begins_anew() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    applied(peer)
    first = landed(peer, [table.update(1)])
    others = [table.update(who) for who in (1, 2, 3)]
    peer.get(*others)
    everyone_spoke(peer, others, keys=False)
    peer.train(first)
    assert not peer.said("update") and trained_from(peer) == [0, 1]


def test_what_comes_too_late_for_this_list_is_announced_for_the_next() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    others = [table.update(who) for who in (1, 2, 3)]
    peer.get(*others)
    everyone_spoke(peer, others, keys=False)
    peer.train()
    assert len(peer.said("update")) == 1


# From one round to the next


def test_what_was_held_and_not_listed_is_named_in_the_next_round() -> None:
    table = Table(staleness=1, quorum=1)
    peer = Driven(table)
    late, later, other = table.update(2), table.update(3), table.update(1)
    peer.get(late, later, other)
    landed(peer, [other])
    peer.tick(TIMING.join_cut_s)
    assert peer.said("have")[-1].message.updates == tuple(sorted((late.id, later.id)))


def test_updates_of_a_third_of_the_seats_close_no_round_whatever_the_quorum() -> None:
    """Who is fast alone could close one round after the other, and the rest would lose their seats."""
    table = Table(staleness=4, quorum=1, guests=2)
    peer = Driven(table)
    peer.get(table.update(1), table.update(4), table.update(5))
    peer.tick(TIMING.join_cut_s)
    assert not peer.said("have")
    peer.get(table.update(2))
    peer.tick(2 * TIMING.join_cut_s)
    assert peer.said("have")


def test_the_list_of_a_later_round_takes_it_with_a_key_that_was_told_before() -> None:
    table = Table(staleness=1, quorum=1)
    peer = Driven(table)
    late, other = table.update(2), table.update(1)
    peer.get(late, other)
    reveal(peer, [late])
    peer.open_all()
    landed(peer, [other])
    everyone_spoke(peer, [late], keys=False)
    peer.open_all()
    assert peer.engine.round.book.allowed() == [late.id]


def test_without_staleness_nothing_is_carried_over() -> None:
    table = Table()
    peer = Driven(table)
    late, other = table.update(2), table.update(1)
    peer.get(late, other)
    landed(peer, [other])
    assert not list(peer.engine.round.book.objects())


def test_what_is_too_old_is_carried_over_no_more_and_its_ciphertext_goes() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    late = table.update(2)
    peer.get(late)
    landed(peer, [table.update(1)])
    assert late.id in peer.engine.round.book.updates and not peer.of(Apply)[-1].leftovers
    landed(peer, [table.update(1)])
    assert late.id not in peer.engine.round.book.updates
    assert [blob.hash for blob in peer.of(Apply)[-1].leftovers] == [late.blob]


def test_of_two_of_one_member_the_older_one_comes_first() -> None:
    table = Table(staleness=1, quorum=3)
    peer = Driven(table)
    first = landed(peer, [table.update(1)])
    new, old = table.update(2), table.update(2, b"older", base=first)
    peer.get(new)
    assert peer.engine.round.book.first_held[new.signed.message.member] == new.id
    peer.get(old)
    assert peer.engine.round.book.first_held[new.signed.message.member] == old.id
    peer.get(table.update(2, b"another"))
    assert peer.engine.round.book.first_held[new.signed.message.member] == old.id


def test_an_update_that_comes_after_another_from_its_base_was_listed_is_ignored() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    again = table.update(1, b"again")
    landed(peer, [table.update(1)])
    peer.get(again)
    peer.hear(table.key(1, again))
    assert again.id not in peer.engine.round.book.updates and not peer.refused


def test_an_update_of_a_head_that_is_too_old_is_ignored() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    old = table.update(2)
    landed(peer, [table.update(1)])
    landed(peer, [table.update(1)])
    peer.get(old)
    assert old.id not in peer.engine.round.book.updates and not peer.refused


def test_a_key_under_another_round_than_its_update_is_refused() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    made = table.update(2)
    landed(peer, [table.update(1)])
    peer.get(made)
    now = table.standing
    peer.hear(table.key(2, made, round=now.round + 1, previous_head=now.head))
    assert peer.refused == ["WrongKey"]
    peer.hear(table.key(2, made))
    assert made.id in peer.engine.round.book.keys


def test_after_a_reorg_what_started_from_a_head_that_is_gone_counts_no_more() -> None:
    table = Table(staleness=2)
    peer = Driven(table)
    kept = table.update(2)
    peer.get(kept)
    first = landed(peer, [table.update(1)])
    second = table.standing
    gone = table.update(3)
    peer.get(gone)
    peer.tell(LedgerRewound(15))
    assert peer.engine.standing == first
    peer.get(gone)
    table.standing = peer.engine.standing
    peer.tell(StateApplied(first.head))
    peer.land([table.update(1, b"other")], block=30)
    book = peer.engine.round.book
    assert table.standing.head != second.head and kept.id in book.updates and gone.id not in book.updates
    peer.get(gone)
    assert gone.id not in peer.engine.round.book.updates


# Cut and reveal


def test_with_enough_updates_held_the_have_is_sent_a_moment_later() -> None:
    table = Table(staleness=1, quorum=2)
    peer = Driven(table)
    peer.get(table.update(1))
    peer.tick(TIMING.join_cut_s + 1)
    peer.get(table.update(2))
    assert not peer.said("have") and peer.wakes_at == 2 * TIMING.join_cut_s + 1
    peer.tick(2 * TIMING.join_cut_s + 1)
    assert len(peer.said("have")[0].message.updates) == 2


def test_no_more_updates_are_waited_for_than_there_are_trainers() -> None:
    table = Table(staleness=1, quorum=9)
    peer = Driven(table)
    peer.train()
    peer.get(*(table.update(who) for who in (1, 2)))
    peer.tick(TIMING.join_cut_s)
    assert not peer.said("have")
    peer.get(table.update(3))
    assert len(peer.said("have")[0].message.updates) == 4


def test_the_own_key_is_told_only_when_two_thirds_of_a_round_name_the_update() -> None:
    """Else a copy of it could be in the next round's list."""
    table = Table(staleness=1)
    peer = Driven(table)
    others = [table.update(who) for who in (1, 2, 3)]
    peer.get(*others)
    own = peer.train()
    peer.hear(*(table.have(who, others) for who in (1, 2, 3)))
    assert peer.said("have") and not peer.said("key")
    landed(peer, others)
    peer.get(*(table.update(who, b"new") for who in (1, 2)))
    peer.hear(*(table.have(who, [own]) for who in (1, 2)))
    assert not peer.said("key")
    peer.hear(table.have(3, [own]))
    (key,) = peer.said("key")
    assert (key.message.update, key.message.key) == (own.id, own.sealed.key)
    assert key.message.round == own.signed.message.round


# Restart


def test_after_a_restart_the_update_from_an_earlier_head_goes_on() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    own = peer.train()
    landed(peer, [table.update(1)])
    again = Driven(table, checkpoint=peer.engine.following.kept[-1], records=peer.persisted, held=[own.blob])
    assert [signed.id for signed in again.said("update")] == [own.id]
    assert again.engine.round.own.secret == own.sealed.key
    applied(again)
    assert not again.of(Train)
    again.hear(*(table.have(who, [own]) for who in (1, 2, 3)))
    assert len(again.said("key")) == 1


def test_after_a_restart_an_update_that_was_listed_is_not_said_again() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    own = peer.train()
    landed(peer, [own])
    again = Driven(table, checkpoint=peer.engine.following.kept[-1], records=peer.persisted, held=[own.blob])
    applied(again)
    assert not again.said("update") and trained_from(again) == [1]


def test_while_a_ciphertext_is_on_its_way_it_is_not_asked_for_again() -> None:
    table = Table(staleness=1)
    peer = Driven(table)
    late = table.update(2)
    peer.hear(late.signed)
    landed(peer, [table.update(1)])
    assert late.blob in peer.engine.round.fetching
    peer.tell(BlobStored(late.blob))
    assert peer.engine.round.book.first_held[late.signed.message.member] == late.id
