"""Where the time went: overhead, share of computing, pauses left out."""

from pathlib import Path

import pytest

from distrai.peer.journal import Trained
from distrai.protocol.primitives import Hash, MemberId
from distrai.runs.logs import AppliedRound, PeerLog, UnreadableLog, read_log
from distrai.runs.timing import Timing, merged
from helpers.run_folders import SEATS, WHO, FakeRun

MEMBER = MemberId(b"\1" * 32)
ROOT = Hash(b"\2" * 32)


def trained(began: float, ended: float) -> Trained:
    return Trained(1.0, 4, 256, ended - began, began, ended)


def applied(at: float, *members: MemberId) -> AppliedRound:
    return AppliedRound(at, ROOT, ROOT, frozenset(members or (MEMBER,)))


def logs_of(run: FakeRun) -> list[PeerLog]:
    return [read_log(run.folder.peer(number)) for number in range(SEATS)]


def test_a_log_tells_what_was_written_into_it(finished: FakeRun) -> None:
    first, second, third, fourth = logs_of(finished)
    assert (first.rounds, first.evaluated[0].bits_per_byte, second.rounds) == (4, 7.0, 4)
    assert sorted(fourth.trained) == [1, 4]
    assert [len(first.applied[number].members) for number in sorted(WHO)] == [4, 3, 0, 4]
    assert third.refused == {"PayloadSize": 1}
    assert len(first.sessions) == 1
    assert len(second.sessions) == 2


def test_bytes_of_earlier_processes_count(finished: FakeRun) -> None:
    first, second = logs_of(finished)[:2]
    assert (first.bytes("up"), first.bytes("down")) == (4000, 2000)
    assert (second.bytes("up"), second.bytes("down")) == (8000, 2000)


def test_a_home_without_a_log_has_nothing_to_tell(tmp_path: Path) -> None:
    assert (read_log(tmp_path).rounds, read_log(tmp_path).member) == (0, None)


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be looked at" * 20])
def test_a_file_that_is_no_log_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "peer.sqlite").write_bytes(content)
    with pytest.raises(UnreadableLog, match=r"peer\.sqlite cannot be read"):
        read_log(tmp_path)


def test_overhead_is_from_the_slowest_certified_peer_to_the_first_applied(finished: FakeRun) -> None:
    timing = Timing(logs_of(finished), 4)
    assert timing.overheads() == pytest.approx([2.5, 3.0, 2.5])  # nobody was certified in round 3
    assert timing.durations() == pytest.approx([10.0] * 4)


def test_utilisation_is_what_certified_peers_trained(finished: FakeRun) -> None:
    spent = (6 + 6.5 + 7 + 7.5) * 2 + (6 + 6.5 + 7)
    assert Timing(logs_of(finished), 4).utilisation() == pytest.approx(spent / (4 * 40))


def test_rounds_after_those_asked_for_do_not_count(finished: FakeRun) -> None:
    timing = Timing(logs_of(finished), 1)
    assert timing.overheads() == pytest.approx([2.5])
    assert timing.utilisation() == pytest.approx(27 / 40)


def test_a_pause_of_all_peers_is_no_time() -> None:
    log = PeerLog("peer-0", MEMBER, [(0.0, 10.0), (1000.0, 1010.0)])
    log.trained = {1: trained(0, 4), 2: trained(5, 9)}
    log.applied = {1: applied(5.0), 2: applied(1006.0)}
    timing = Timing([log], 2)
    assert timing.wall_s == 20
    assert timing.durations() == [5, 11]
    assert timing.overheads() == [1, 7]
    assert timing.utilisation() == pytest.approx(8 / 16)


def test_training_before_a_pause_is_not_more_than_its_round() -> None:
    log = PeerLog("peer-0", MEMBER, [(0.0, 10.0), (1000.0, 1010.0)])
    log.trained, log.applied = {2: trained(2, 9)}, {1: applied(9.0), 2: applied(1001.0)}
    assert Timing([log], 2).utilisation() == pytest.approx(2 / 2)


def test_nothing_done_has_no_share() -> None:
    timing = Timing([PeerLog("peer-0")], 0)
    assert (timing.utilisation(), timing.overheads(), timing.wall_s) == (None, [], 0)


def test_merged_spans_are_disjoint() -> None:
    assert merged([(5, 6), (0, 2), (1, 3), (3, 4)]) == [(0, 4), (5, 6)]
