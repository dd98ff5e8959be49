"""What is kept for newcomers: which rounds, how long, and that nothing is kept for ever."""

from pathlib import Path

import msgspec
import pytest

from distrai.network.interface import DOCUMENT_BYTES_MAX
from distrai.peer.checkpoint import Checkpoint
from distrai.peer.events import Apply
from distrai.peer.snapshots import (
    PERIOD_ROUNDS_MAX,
    PERIOD_ROUNDS_MIN,
    PERIOD_S,
    SNAPSHOTS_KEPT,
    Blob,
    Shelf,
    Shown,
    Snapshot,
    decode_shown,
)
from distrai.peer.store import ROUNDS_OF_BLOBS_KEPT, PeerStore
from distrai.peer.work import ROUNDS_KEPT, WorkBook
from distrai.protocol.blobs import blob_ref
from distrai.protocol.body import Body
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.errors import ProtocolError
from distrai.protocol.ledger_events import Position
from distrai.protocol.lists import CertifiedList, Entry
from distrai.protocol.messages import Envelope
from distrai.protocol.primitives import SIGNATURE_SIZE, Hash
from distrai.protocol.standing import RECENT_LISTS, Standing, advance
from helpers.messages import named
from helpers.rounds import WORK, authors, listing, next_body, roster_of, started, update_of

PEOPLE = authors(2)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shelf_at(path: Path, round_s: float = 1.0) -> Shelf:
    """A shelf that has one snapshot and has seen some rounds of this length."""
    clock = Clock()
    shelf = Shelf(path / "shelf", clock)
    shelf.put(Snapshot(1, named("head"), Blob(named("state"), 1)), (1,))
    for _ in range(10):
        clock.now += round_s
        shelf.landed()
    return shelf


@pytest.mark.parametrize(
    ("round_s", "expected"),
    [(60.0, 4), (PERIOD_S / 4, 4), (PERIOD_S / 8, 8), (1.0, 32), (0.001, PERIOD_ROUNDS_MAX)],
)
def test_snapshots_are_a_power_of_two_of_rounds_apart_so_that_there_is_time(
    tmp_path: Path, round_s: float, expected: int
) -> None:
    assert shelf_at(tmp_path, round_s).period(state_bytes=1000, round_bytes=10) == expected


def test_a_large_state_gets_more_time_and_large_updates_less_disk(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path, 60.0)
    assert shelf.period(1_000_000_000, 1_000) == 32
    assert shelf.period(1_000_000_000, 200_000_000) == 16
    assert shelf.period(1_000_000_000, 2_000_000_000) == PERIOD_ROUNDS_MIN


def test_the_first_snapshot_comes_early(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", Clock())
    assert shelf.period(10**12, 1) == PERIOD_ROUNDS_MIN


def test_the_shelf_survives_a_restart(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    shelf.path.write_bytes(shelf.record())
    again = Shelf(shelf.path, Clock())
    assert (again.kept, again.lists_needed) == (shelf.kept, {1})


def test_documents_from_outside_are_checked() -> None:
    good = Shown(
        7, (Snapshot(4, named("head"), Blob(named("state"), 5)),), ((4, Blob(named("list"), 6)),), (b"x",)
    )
    assert decode_shown(good.to_bytes()) == good
    bad = [
        msgspec.structs.replace(good, snapshots=(Snapshot(4, Hash(b"short"), Blob(named("s"), 5)),)),
        msgspec.structs.replace(good, snapshots=(Snapshot(-1, named("head"), Blob(named("s"), 5)),)),
        msgspec.structs.replace(good, lists=((4, Blob(Hash(b"short"), 6)),)),
        msgspec.structs.replace(good, lists=((4, Blob(named("list"), -6)),)),
    ]
    for document in [*(each.to_bytes() for each in bad), b"", good.to_bytes() + b"\0", b"\xc0"]:
        with pytest.raises(ProtocolError):
            decode_shown(document)
    assert len(good.to_bytes()) < DOCUMENT_BYTES_MAX


class Home:
    """A peer that applies rounds; their updates are in its store."""

    def __init__(self, path: Path, *, archive: bool = False) -> None:
        self.path, self.archive = path, archive
        self.store = PeerStore(path, archive=archive)
        self.standing = started(PEOPLE)
        self.bodies: dict[int, Body] = {}

    def round(self, *, is_empty: bool = False) -> None:
        before = self.standing
        number = before.round + 1
        certified = listing(before, ())
        if not is_empty:
            blobs = {
                each: self.store.blobs.put(b"update %d of %d" % (number, each.number)) for each in PEOPLE
            }
            updates = [
                update_of(each, before, blob_hash=blobs[each].hash, blob_size=blobs[each].size)
                for each in PEOPLE
            ]
            sealed = [
                encode_canonical(Envelope(u.kind, encode_canonical(u), bytes(SIGNATURE_SIZE)))
                for u in updates
            ]
            certified = CertifiedList(
                certified.cursor, certified.trainers, tuple(Entry(s, bytes(32)) for s in sealed)
            )
        root = before.state_root if is_empty else named(f"state {number}")
        body = next_body(before, updates_root=certified.updates_root, state_root=root)
        self.standing = advance(before, body, certified, roster_of(PEOPLE))
        at = Position(number, 0, named(f"block {number}"))
        apply = Apply(before, self.standing, body, certified, False, roster_of(PEOPLE), at)
        self.store.save_applied(apply, state_of(number), b"private")

    def rounds_of_updates(self) -> set[int]:
        names = (self.store.blobs.read(blob) for blob in self.store.blobs.refs())
        return {int(data.split()[1]) for data in names if data.startswith(b"update")}

    def states(self) -> set[bytes]:
        held = (self.store.blobs.read(blob) for blob in self.store.blobs.refs())
        return {data for data in held if data.startswith(b"state")}

    def restart(self) -> None:
        self.store.close()
        self.store = PeerStore(self.path, archive=self.archive)


def state_of(number: int) -> bytes:
    return b"state %d" % number


def test_the_two_newest_snapshots_are_served_and_what_follows_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for _ in range(100):
        home.round()
    snapshots, lists = home.store.offering.shown()
    assert [item.round for item in snapshots] == [64, 96], "rounds are fast here"
    assert [item.state.ref for item in snapshots] == [blob_ref(state_of(item.round)) for item in snapshots]
    assert home.states() == {state_of(64), state_of(96)}
    assert set(lists) == set(range(65 - RECENT_LISTS, 101))
    for number, blob in lists.items():
        assert home.store.blobs.read(blob) == home.store.public.list_path(number).read_bytes()
    assert home.rounds_of_updates() == set(range(65, 101))
    home.restart()
    assert home.store.offering.shown() == (snapshots, lists)


def test_lists_stay_until_what_they_accepted_is_settled(tmp_path: Path) -> None:
    """Whoever joins in the middle of an epoch has to sign it; what was accepted outlives the lists themselves."""
    home, kept, late = Home(tmp_path), WorkBook(tmp_path / "work"), WorkBook(tmp_path / "late")
    home.store.offering.keep_lists_after(0)
    home.store.on_list = kept.take
    for _ in range(70):
        home.round(is_empty=home.standing.round == 20)
    snapshots, lists = home.store.offering.shown()
    assert set(lists) == set(range(1, 71))
    oldest = snapshots[0].round
    assert oldest > 20 and home.rounds_of_updates() == set(range(oldest + 1, 71))
    home.store.offering.keep_lists_after(10)
    home.round()
    _, lists = home.store.offering.shown()
    assert set(lists) == set(range(11, 72))
    late.take_all(home.store.public)
    bodies = [home.store.public.read_list(number) for number in range(11, 72)]
    found = [kept.tokens(certified.updates_root) for certified in bodies]
    assert found == [late.tokens(certified.updates_root) for certified in bodies]
    assert [tokens for tokens in found if tokens is None] == [None], "the empty round"
    assert found[0] == {each.member: 3 * WORK.tokens_per_step for each in PEOPLE}
    home.store.offering.keep_lists_after(None)
    home.round()
    assert min(home.store.offering.shown()[1]) > 11
    kept.take(11 + ROUNDS_KEPT, bodies[-1])
    assert kept.tokens(bodies[0].updates_root) is not None, "the oldest that is kept"
    kept.take(12 + ROUNDS_KEPT, bodies[-1])
    assert kept.tokens(bodies[0].updates_root) is None
    kept.close()
    late.close()


def test_without_a_snapshot_everything_is_kept(tmp_path: Path) -> None:
    """So that the run can be followed from its first round."""
    home = Home(tmp_path)
    for _ in range(PERIOD_ROUNDS_MIN - 1):
        home.round()
    snapshots, lists = home.store.offering.shown()
    assert snapshots == () and set(lists) == {1, 2, 3} == home.rounds_of_updates()


def test_an_archive_keeps_all_updates_and_two_snapshots(tmp_path: Path) -> None:
    home = Home(tmp_path, archive=True)
    for _ in range(70):
        home.round()
    assert home.rounds_of_updates() == set(range(1, 71))
    assert len(home.states()) == SNAPSHOTS_KEPT


def test_lists_from_before_many_empty_rounds_are_kept_as_long_as_they_are_needed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for _ in range(10):
        home.round()
    for _ in range(70):
        home.round(is_empty=True)
    snapshots, lists = home.store.offering.shown()
    assert [item.round for item in snapshots] == [32, 64]
    assert set(range(3, 11)) <= set(lists), "the eight newest that are not empty"
    assert not {1, 2, *range(11, 32)} & set(lists)
    assert snapshots[0].state == snapshots[1].state and home.states() == {state_of(10)}


def test_a_state_is_on_the_disk_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for _ in range(4):
        home.round()
    (snapshot,), _ = home.store.offering.shown()
    served = home.store.blobs.path_of(snapshot.state.ref)
    assert served.samefile(home.store.state_path(4))


def test_a_reorg_takes_snapshots_with_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    heads: list[Standing] = []
    for _ in range(4):
        home.round()
        heads.append(home.standing)
    assert home.store.offering.shown()[0]
    home.store.revert(heads[2])
    assert home.store.offering.shown()[0] == () and not home.states()
    home.restart()
    assert home.store.offering.shown()[0] == ()


def test_a_list_that_a_reorg_replaced_is_shown_as_it_is_now(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.round()
    before = home.standing
    home.round()
    old = home.store.offering.shown()[1][2]
    home.store.revert(before)
    home.standing = before
    home.round(is_empty=True)
    new = home.store.offering.shown()[1][2]
    assert new != old and not home.store.blobs.has(old)


def test_an_adopted_snapshot_is_where_one_goes_on_from(tmp_path: Path) -> None:
    """Also after a restart, and after a newer one was adopted; what was lived through before is void."""
    giver, taker = Home(tmp_path / "giver"), Home(tmp_path / "taker")
    for _ in range(2):
        taker.round()
    for number in range(1, 13):
        giver.round()
        if number not in (6, 12):
            continue
        state = taker.store.blobs.put(state_of(number))
        lists = {at: giver.store.public.read_list(at) for at in giver.store.public.list_rounds()}
        at = Position(number, 0, named(f"block {number}"))
        checkpoint = Checkpoint(giver.standing, roster_of(PEOPLE), at)
        taker.store.adopt(checkpoint, state, lists)
        for _ in range(2):
            assert taker.store.checkpoints() == [checkpoint]
            assert taker.store.state_after(number, b"") == state_of(number)
            assert [item.round for item in taker.store.offering.shown()[0]][-1] == number, (
                "it is shown to others at once"
            )
            taker.restart()
    assert not taker.store.has_state(11)
    assert ROUNDS_OF_BLOBS_KEPT == RECENT_LISTS == 8
