"""A replay follows roll calls and promotions, and what a reorg put in the place of what was published."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from distrai.peer.records import RollCallRecord
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.seating import PRESENT_LISTS_MIN
from distrai.runs.replay import Anchor, Replay, Replayed, ReplayFailed
from helpers.archives import SEATS, ArchiveMaker, FakeArchive

CALL, PROMOTED, LAST = 2, 7, 8
"""The round that a roll call ended, the one whose certificate gave a seat, and the last."""
JOINER, GONE = SEATS, SEATS - 1
EVERYBODY = range(SEATS + 1)


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> ArchiveMaker:
    """A round, a roll call without one seat, rounds with a joiner, a promotion, and one round more."""
    texts, home = tmp_path_factory.mktemp("texts"), tmp_path_factory.mktemp("called")
    made = ArchiveMaker.opened(home, texts, joiners=1)
    made.round(range(SEATS))
    made.roll_call([GONE])
    assert made.standing.round == CALL
    staying = [number for number in EVERYBODY if number != GONE]
    for _ in range(PRESENT_LISTS_MIN + 2):
        made.round(staying)
        if made.standing.round == PROMOTED:
            assert made.standing.seat_key(made.people[JOINER].member) is not None
    return made


@pytest.fixture
def called(maker: ArchiveMaker) -> FakeArchive:
    return maker.archive()


def replay(archive: FakeArchive, anchor: Anchor) -> Replayed:
    return Replay(archive.public, archive.blobs, lambda *_: None).run(anchor)


@pytest.mark.parametrize("roll_calls", [None, frozenset({CALL})])
def test_arrives_where_the_run_did(called: FakeArchive, roll_calls: frozenset[int] | None) -> None:
    done = replay(called, Anchor(called.head, None, roll_calls))
    assert (done.head, done.state_root, done.rounds) == (called.head, called.state_root, LAST)
    assert done.updates == SEATS + (LAST - CALL) * SEATS


def test_stops_at_the_head_of_a_roll_call(called: FakeArchive) -> None:
    record = roll_call(called)
    done = replay(called, Anchor(record.head))
    assert (done.rounds, done.head) == (CALL, record.head)


@pytest.mark.parametrize("rounds", [None, LAST])
def test_a_certificate_that_a_reorg_made_void_is_passed_over(called: FakeArchive, rounds: int | None) -> None:
    """As after a crash between writing the one and removing the other."""
    stale = called.public.certificate_path(CALL)
    body = msgspec.structs.replace(
        called.certificate(CALL - 1).body, round=CALL, previous_head=roll_call(called).previous_head
    )
    called.write_certificate(CALL, msgspec.structs.replace(called.certificate(CALL - 1), body=body))
    try:
        assert replay(called, Anchor(called.head, rounds)).head == called.head
        with pytest.raises(ReplayFailed) as caught:
            replay(called, Anchor(called.head, LAST, frozenset()))
        assert caught.value.culprit == f"certificate of round {CALL}", "the ledger knows of no roll call"
    finally:
        stale.unlink()


@pytest.mark.parametrize("change", ["drops", "state", "round", "bytes", "gone"])
def test_a_roll_call_that_was_tampered_with_is_named(called: FakeArchive, change: str) -> None:
    path, record = called.public.roll_call_path(CALL), roll_call(called)
    kept = path.read_bytes()
    forged = {
        "drops": msgspec.structs.replace(record, drops=()),
        "state": msgspec.structs.replace(record, state_root=called.state_root[::-1]),
        "round": msgspec.structs.replace(record, round=CALL + 1),
    }
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(encode_canonical(forged[change]) if change in forged else kept[:-1])
    try:
        with pytest.raises(ReplayFailed) as caught:
            replay(called, Anchor(called.head, LAST, frozenset({CALL})))
        assert (caught.value.culprit, caught.value.round) == (f"roll call of round {CALL}", CALL)
    finally:
        path.write_bytes(kept)


def test_a_roll_call_that_drops_strangers_is_refused(maker: ArchiveMaker, tmp_path: Path) -> None:
    """Whatever head is believed: it is no roll call of this run."""
    made = replace(maker)
    record = roll_call(maker.archive())
    stranger = maker.people[JOINER].member
    wrong = msgspec.structs.replace(record, drops=tuple(sorted((*record.drops, stranger))))
    archive, path = made.archive(), maker.public.roll_call_path(CALL)
    kept = path.read_bytes()
    path.write_bytes(encode_canonical(wrong))
    try:
        with pytest.raises(ReplayFailed) as caught:
            replay(archive, Anchor(wrong.head))
        assert (caught.value.culprit, caught.value.rule) == (
            f"roll call of round {CALL}",
            "WrongMembershipChange",
        )
    finally:
        path.write_bytes(kept)


def roll_call(archive: FakeArchive) -> RollCallRecord:
    return msgspec.msgpack.decode(archive.public.roll_call_path(CALL).read_bytes(), type=RollCallRecord)
