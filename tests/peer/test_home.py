"""What a peer's home remembers from one start to the next, and what it does about damage."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from distrai.network.interface import Endpoint
from distrai.network.records import EndpointRecord, seal_record
from distrai.peer.checkpoint import Checkpoint
from distrai.peer.directory import Directory
from distrai.peer.log import DamagedLog, EventLog, open_log
from distrai.peer.records import encode_checkpoint
from distrai.peer.store import PeerStore
from distrai.protocol.primitives import ZERO_HASH, Hash, MemberId
from distrai.simulation.toy import make_identity
from helpers.engine import STARTED_AT, Table

HEAD = Hash(b"\1" * 32)
RUN = 7
ME, OTHER = make_identity(0), make_identity(1)


def change(path: Path) -> None:
    """Change an entry behind the log's back."""
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE log SET data = ? WHERE seq = 2", (b"other",))
    database.close()


def filled(path: Path) -> None:
    log = EventLog(path)
    for number in range(4):
        log.append("own", number, HEAD, b"data %d" % number)
    log.close()


@pytest.mark.parametrize("how", ["changed", "garbage"])
def test_a_damaged_log_is_put_aside_and_kept(tmp_path: Path, how: str) -> None:
    path = tmp_path / "peer.sqlite"
    for number in (1, 2):
        filled(path)
        if how == "changed":
            change(path)
        else:
            path.write_bytes(b"no database" * 1000)
        with pytest.raises(DamagedLog):
            EventLog(path)
        before = path.read_bytes()
        log, aside = open_log(path)
        assert aside == tmp_path / f"peer.sqlite.damaged-{number}"
        assert aside.read_bytes() == before
        assert log.last("own") is None
        log.close()
        path.unlink()


def test_a_whole_log_stays(tmp_path: Path) -> None:
    filled(tmp_path / "log")
    log, aside = open_log(tmp_path / "log")
    assert aside is None
    assert [entry.data for entry in log.entries("own")] == [b"data %d" % number for number in range(4)]
    log.close()


def test_a_peer_whose_log_was_lost_remembers_through_which_round_to_be_silent(tmp_path: Path) -> None:
    store = PeerStore(tmp_path, archive=False)
    store.begin(ME.member, 0)
    assert store.silent_through() == 0
    store.begin(ME.member, 5)  # a later start: the log is whole, whatever the ledger says
    assert store.silent_through() == 0
    store.log.append("own", 1, HEAD, b"said")
    store.close()
    change(tmp_path / "peer.sqlite")

    store = PeerStore(tmp_path, archive=False)
    assert store.damaged_log is not None
    store.begin(ME.member, 5)
    store.close()
    store = PeerStore(tmp_path, archive=False)  # it dies and comes back before the round is over
    assert store.damaged_log is None
    store.begin(ME.member, 6)
    assert store.silent_through() == 5
    store.close()


def test_states_that_no_checkpoint_knows_are_forgotten(tmp_path: Path) -> None:
    """Else the oldest of the kept ones would be the first to go while the rounds are done again."""
    state = tmp_path / "states" / "00000009.bin"
    state.parent.mkdir()
    state.write_bytes(b"state")
    store = PeerStore(tmp_path, archive=False)
    assert not state.exists()
    state.write_bytes(b"state")
    checkpoint = Checkpoint(replace(Table().standing, round=9), {}, STARTED_AT)
    store.log.append("applied", 9, HEAD, encode_checkpoint(checkpoint))
    store.close()
    PeerStore(tmp_path, archive=False).close()
    assert state.exists()


def test_addresses_survive_a_restart(tmp_path: Path) -> None:
    store = PeerStore(tmp_path, archive=False)
    assert store.endpoints() == ()
    keys = {who.address: who.member for who in (ME, OTHER)}
    record = EndpointRecord(run=RUN, member=OTHER.member, sequence=3, urls=("http://127.0.0.1:1",))
    Directory(ME, RUN, lambda: keys, store.save_endpoints).learn(
        seal_record(record, OTHER.domain, OTHER.sign)
    )
    again = Directory(ME, RUN, lambda: keys)
    for raw in store.endpoints():
        again.learn(raw)
    assert again.endpoint(OTHER.member) == Endpoint(OTHER.member, OTHER.address, ("http://127.0.0.1:1",))
    (tmp_path / "endpoints.msgpack").write_bytes(b"\xc1")
    assert store.endpoints() == ()
    store.close()


def test_an_address_from_the_ledger_replaces_what_a_member_said_before_it_moved() -> None:
    keys = {who.address: who.member for who in (ME, OTHER)}
    directory = Directory(ME, RUN, lambda: keys)

    def said(sequence: int, url: str) -> bytes:
        record = EndpointRecord(run=RUN, member=OTHER.member, sequence=sequence, urls=(url,))
        return seal_record(record, OTHER.domain, OTHER.sign)

    def url_of(member: MemberId) -> str | None:
        known = directory.endpoint(member)
        return None if known is None else known.urls[0]

    directory.learn(said(3, "http://127.0.0.1:2"))
    directory.move(Endpoint(OTHER.member, OTHER.address, ("http://127.0.0.1:3",)))
    assert url_of(OTHER.member) == "http://127.0.0.1:3"
    assert said(3, "http://127.0.0.1:2") not in directory.records_to_tell()
    directory.learn(said(3, "http://127.0.0.1:2"))  # from one who does not know yet
    assert url_of(OTHER.member) == "http://127.0.0.1:3"
    directory.learn(said(4, "http://127.0.0.1:4"))
    assert url_of(OTHER.member) == "http://127.0.0.1:4"
    directory.announce_self(1, ("http://127.0.0.1:5",))
    directory.move(Endpoint(ME.member, ME.address, ("http://127.0.0.1:6",)))
    assert url_of(ME.member) == "http://127.0.0.1:5"
    assert url_of(MemberId(ZERO_HASH)) is None


def test_a_clock_that_was_set_back_does_not_make_a_new_address_look_old() -> None:
    before = Directory(ME, RUN, dict)
    before.announce_self(1000, ("http://127.0.0.1:1",))
    earlier = before.records_to_tell()
    others = Directory(OTHER, RUN, lambda: {ME.address: ME.member})
    others.learn(earlier[0])
    after = Directory(ME, RUN, dict)
    after.announce_self(7, ("http://127.0.0.1:2",), earlier=(b"garbage", *earlier))
    others.learn(after.records_to_tell()[0])
    known = others.endpoint(ME.member)
    assert known is not None and known.urls == ("http://127.0.0.1:2",)
