"""Where a newcomer begins: with what most peers show, if it is what the ledger says; whoever lies is passed over."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distrai.network.interface import AskFailed, Endpoint, Fetched, FetchFailed
from distrai.network.records import EndpointRecord, seal_record
from distrai.network.store import BlobStore
from distrai.peer.circle import Circle
from distrai.peer.circle import History as Told
from distrai.peer.newcomer import Newcomer, NoSnapshot, signers
from distrai.peer.snapshots import Blob, Shown, Snapshot
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.ledger_events import Announced, Certified
from distrai.protocol.lists import Entry
from distrai.protocol.merkle import state_root
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.standing import advance
from helpers.histories import History
from helpers.messages import DOMAIN, Author, named
from helpers.rounds import RULES, RUN, authors, listing, next_body, update_of

PEOPLE = authors(4)
STRANGER = Author(9)
STATE_BYTES = 40
OLD, NEW = 10, 14
"""Rounds that snapshots are of."""


def state_of(number: int) -> bytes:
    return b"state of round %4d" % number * 2 + bytes(STATE_BYTES - 2 * len(b"state of round %4d" % number))


class Lived(History):
    """A history with lists that are signed, and states that somebody could hold."""

    def certify_all(self) -> None:
        before = self.standing
        assert before is not None
        drawn = listing(before, PEOPLE)
        entries = tuple(
            Entry(author.seal(update_of(author, before)).raw, entry.key)
            for author, entry in zip(PEOPLE, drawn.entries, strict=True)
        )
        certified = msgspec.structs.replace(drawn, entries=entries)
        root = state_root(state_of(before.round + 1))
        body = next_body(before, updates_root=certified.updates_root, state_root=root)
        self.lists[body.round] = certified
        self.standing = advance(before, body, certified, self.roster)
        self._add(Certified(self._at(), body, body.head))


@pytest.fixture(scope="module")
def lived() -> History:
    history = Lived()
    for author in PEOPLE:
        history.join(author)
    history.start()
    history._add(Announced(history._at(), PEOPLE[0].member, "http://127.0.0.1:1"))
    for number in range(1, 17):
        if number == 12:
            history.call_roll([])
        else:
            history.certify_all()
    return history


@dataclass
class Net:
    """A transport whose peers show what a test wants."""

    blobs: BlobStore
    shown: dict[MemberId, bytes] = field(default_factory=dict)
    held: dict[Hash, bytes] = field(default_factory=dict)
    fetched: list[tuple[Hash, set[MemberId]]] = field(default_factory=list)

    async def ask(self, endpoint: Endpoint, name: str, size_max: int = 0) -> bytes:
        if endpoint.member not in self.shown:
            raise AskFailed("is not there")
        return self.shown[endpoint.member]

    async def fetch(
        self, blob: BlobRef, holders: Sequence[Endpoint], deadline_s: float, purpose: str = ""
    ) -> Fetched:
        assert purpose == "snapshots"
        self.fetched.append((blob.hash, {holder.member for holder in holders}))
        if blob.hash not in self.held:
            raise FetchFailed(blob.hash, "nobody has it", {})
        self.blobs.put(self.held[blob.hash])
        return Fetched(blob)

    def keep(self, data: bytes) -> Blob:
        blob = blob_ref(data)
        self.held[blob.hash] = data
        return Blob.of(blob)


def snapshot_at(net: Net, lived: History, number: int, state: bytes | None = None) -> Snapshot:
    (head,) = (e.head for e in lived.events if isinstance(e, Certified) and e.body.round == number)
    return Snapshot(number, head, net.keep(state_of(number) if state is None else state))


def show(net: Net, who: Author, lived: History, *snapshots: Snapshot, **changes: Any) -> None:
    """A peer's document: all lists, and where everybody is."""
    lists = tuple((number, net.keep(listed.to_bytes())) for number, listed in lived.lists.items())
    records = tuple(
        seal_record(
            EndpointRecord(
                run=RUN, member=each.member, sequence=1, urls=(f"http://127.0.0.1:{each.number + 1}",)
            ),
            DOMAIN,
            each.sign,
        )
        for each in PEOPLE
    )
    shown = msgspec.structs.replace(Shown(RUN, snapshots, lists, records), **changes)
    net.shown[who.member] = shown.to_bytes()


class World:
    def __init__(self, path: Path, lived: History) -> None:
        self.lived, self.told = lived, []
        self.net = Net(BlobStore(path / "blobs"))
        self.history = Told(list(lived.events))
        circle = Circle(self.net, DOMAIN, RUN, STRANGER.address)  # type: ignore[arg-type]
        circle.introduce(self.history.endpoints())
        tell = lambda event, **facts: self.told.append((event, facts))  # noqa: E731
        self.newcomer = Newcomer(circle, self.net.blobs, RULES, STATE_BYTES, tell)

    def liars(self) -> set[MemberId]:
        return self.newcomer.circle.liars


@pytest.fixture
def world(tmp_path: Path, lived: History) -> World:
    return World(tmp_path, lived)


async def test_begins_where_one_who_saw_it_all_is(world: World, lived: History) -> None:
    for who in PEOPLE:
        show(world.net, who, lived, snapshot_at(world.net, lived, OLD), snapshot_at(world.net, lived, NEW))
    start = await world.newcomer.start(world.history)
    assert start is not None
    standing, roster = start.checkpoint.standing, start.checkpoint.roster
    assert standing is not None and standing.round == NEW, "of those that as many show the newest"
    (event,) = (e for e in lived.events if isinstance(e, Certified) and e.body.round == NEW)
    assert (standing.head, start.checkpoint.at) == (event.head, event.at)
    assert roster == {each.member: each.address for each in PEOPLE}
    assert world.net.blobs.read(start.blob) == state_of(NEW)
    asked = dict(world.net.fetched)
    assert asked[start.blob.hash] == {each.member for each in PEOPLE}, (
        "from all who show it, though the ledger names one"
    )


async def test_what_most_show_comes_first(world: World, lived: History) -> None:
    for who in PEOPLE[:2]:
        show(world.net, who, lived, snapshot_at(world.net, lived, OLD))
    show(world.net, PEOPLE[2], lived, snapshot_at(world.net, lived, NEW))
    start = await world.newcomer.start(world.history)
    assert start is not None and start.checkpoint.standing is not None
    assert start.checkpoint.standing.round == OLD


@pytest.mark.parametrize("lie", ["state", "head", "size", "gone"])
async def test_a_lie_that_most_tell_is_passed_over(world: World, lived: History, lie: str) -> None:
    net = world.net
    wrong = {
        "state": snapshot_at(net, lived, NEW, bytes(STATE_BYTES)),
        "head": replace_head(snapshot_at(net, lived, NEW)),
        "size": snapshot_at(net, lived, NEW, b"much longer than a state can be, at least by one"),
        "gone": Snapshot(NEW, snapshot_at(net, lived, NEW).head, Blob(named("nowhere"), STATE_BYTES)),
    }[lie]
    for who in PEOPLE[:3]:
        show(net, who, lived, wrong)
    show(net, PEOPLE[3], lived, snapshot_at(net, lived, OLD))
    start = await world.newcomer.start(world.history)
    assert start is not None and start.checkpoint.standing is not None
    assert start.checkpoint.standing.round == OLD
    caught = {each.member for each in PEOPLE[:3]} if lie in ("state", "size") else set()
    assert world.liars() == caught, "a head may have been lost in a reorg, and a blob forgotten"
    assert (wrong.state.hash in dict(net.fetched)) == (lie in ("state", "gone")), "no byte for what cannot be"
    if lie != "gone":
        assert not net.blobs.has(wrong.state.ref)


async def test_invented_heads_do_not_crowd_out_the_true_one(world: World, lived: History) -> None:
    net = world.net
    invented = [
        msgspec.structs.replace(snapshot_at(net, lived, NEW), round=NEW - at, head=named(f"head {at}"))
        for at in range(12)
    ]
    for at, who in enumerate(PEOPLE[:3]):
        show(net, who, lived, *invented[4 * at : 4 * at + 4])
    show(net, PEOPLE[3], lived, snapshot_at(net, lived, OLD))
    start = await world.newcomer.start(world.history)
    assert start is not None and start.checkpoint.standing is not None
    assert start.checkpoint.standing.round == OLD


async def test_what_was_here_before_stays_whatever_a_liar_calls_it(world: World, lived: History) -> None:
    net = world.net
    recipe = net.blobs.put(b"the recipe of the run, of just this size")
    assert recipe.size == STATE_BYTES
    wrong = snapshot_at(net, lived, NEW, net.blobs.read(recipe))
    for who in PEOPLE[:3]:
        show(net, who, lived, wrong)
    show(net, PEOPLE[3], lived, snapshot_at(net, lived, OLD))
    assert await world.newcomer.start(world.history) is not None
    assert world.liars() == {each.member for each in PEOPLE[:3]}
    assert net.blobs.has(recipe)


def replace_head(snapshot: Snapshot) -> Snapshot:
    return msgspec.structs.replace(snapshot, head=named("another head"))


@pytest.mark.parametrize("lie", ["other", "unsigned", "garbage"])
async def test_a_wrong_list_is_passed_over(world: World, lived: History, lie: str) -> None:
    net, number = world.net, 9
    right = lived.lists[number]
    forged = {
        "other": lived.lists[8].to_bytes(),
        "unsigned": msgspec.structs.replace(
            right, entries=tuple(unsigned(entry) for entry in right.entries)
        ).to_bytes(),
        "garbage": b"\xc1" * 100,
    }[lie]
    true = snapshot_at(net, lived, OLD)
    for who in PEOPLE[:3]:
        show(net, who, lived, true)
        shown = msgspec.msgpack.decode(net.shown[who.member], type=Shown)
        lists = tuple((at, net.keep(forged) if at == number else blob) for at, blob in shown.lists)
        net.shown[who.member] = msgspec.structs.replace(shown, lists=lists).to_bytes()
    show(net, PEOPLE[3], lived, true)
    start = await world.newcomer.start(world.history)
    assert start is not None and start.lists[number] == right
    assert bool(world.liars()) == (lie != "other"), "another list may be of before a reorg"


def unsigned(entry: Entry) -> Entry:
    envelope = msgspec.msgpack.decode(entry.update, type=list[Any])
    envelope[2] = bytes([envelope[2][0] ^ 1]) + envelope[2][1:]
    return Entry(msgspec.msgpack.encode(envelope), entry.key)


async def test_a_young_run_is_followed_from_its_first_round(world: World, lived: History) -> None:
    show(world.net, PEOPLE[0], lived)
    assert await world.newcomer.start(world.history) is None


async def test_says_so_if_nobody_answers_or_nobody_is_true(world: World, lived: History) -> None:
    with pytest.raises(NoSnapshot, match="no peer"):
        await world.newcomer.start(world.history)
    world.net.shown[PEOPLE[0].member] = b"\xc1"
    with pytest.raises(NoSnapshot, match="no peer"):
        await world.newcomer.start(world.history)
    assert world.liars() == {PEOPLE[0].member}
    world.newcomer.circle.liars.clear()
    show(world.net, PEOPLE[0], lived, snapshot_at(world.net, lived, NEW, bytes(STATE_BYTES)))
    with pytest.raises(NoSnapshot, match="none of them"):
        await world.newcomer.start(world.history)


async def test_addresses_are_believed_if_signed_by_the_members_key(world: World, lived: History) -> None:
    """And an old record does not take the place of a newer one."""
    circle = world.newcomer.circle
    show(world.net, PEOPLE[0], lived)
    one, two = PEOPLE[1], PEOPLE[2]

    def record(of: Author, by: Author, sequence: int, port: int, run: int = RUN) -> bytes:
        told = EndpointRecord(
            run=run, member=of.member, sequence=sequence, urls=(f"http://127.0.0.1:{port}",)
        )
        return seal_record(told, DOMAIN, by.sign)

    show(
        world.net,
        PEOPLE[0],
        lived,
        endpoints=(
            record(one, one, 5, 50),
            record(one, one, 4, 40),
            record(two, one, 9, 90),
            record(two, two, 1, 9, RUN + 1),
        ),
    )
    await circle.ask(world.history.roster())
    assert circle.endpoints[one.member].urls == ("http://127.0.0.1:50",)
    assert two.member not in circle.endpoints


def test_stale_updates_are_signed_by_who_trained_from_the_head_that_they_start_from() -> None:
    first, second = {PEOPLE[0].member: PEOPLE[0].address}, {PEOPLE[1].member: PEOPLE[1].address}
    after = {3: None, 4: first, 6: second}  # round 5 was a roll call
    assert signers(7, 0, after) == {7: second}
    assert signers(7, 2, after) == {5: first, 6: first, 7: second}
    assert signers(7, 3, after) == {5: first, 6: first, 7: second}, "who trained in round 4 is not known"
    assert signers(3, 1, after) == {}
