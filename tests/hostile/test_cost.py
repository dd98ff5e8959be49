"""A hostile message costs its sender, never the receiver: no crash, no unbounded memory, disk, traffic or log."""

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from distrai.network.interface import Endpoint, FetchFailed
from distrai.network.records import EndpointRecord, seal_record
from distrai.network.store import BlobStore
from distrai.peer import courier as courier_module
from distrai.peer.aggregation import Aggregation
from distrai.peer.answers import ANSWER_BYTES_MAX, choose_answer
from distrai.peer.courier import SENDS_PER_MEMBER, Courier
from distrai.peer.directory import Directory
from distrai.peer.engine import Checkpoint
from distrai.peer.events import (
    BlobFailed,
    Fetch,
    FetchList,
    LedgerChanged,
    MessageReceived,
    Note,
    Send,
    Tick,
)
from distrai.peer.following import LIST_BYTES_PER_TRAINER
from distrai.peer.mailbox import EARLY_MESSAGES_MAX
from distrai.peer.notes import NOTES_PER_RULE, TEXT_MAX, NoteBudget
from distrai.protocol.blobs import BlobRef
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import (
    OBJECTS_PER_PACKET_MAX,
    PACKET_BYTES_MAX,
    Have,
    ListOffer,
    ListRequest,
    Packet,
    Update,
    encode_packet,
)
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.simulation.toy import make_identity, recover
from helpers.engine import NEXT_STATE, RUN, Driven, Table
from helpers.messages import messages

ZERO = Hash(bytes(32))


# Crashes


def test_a_request_for_a_list_before_the_start() -> None:
    """Nobody can answer it: there is no head to name. Who joined may send it, and must not end the others."""
    table = Table()
    peer = Driven(table, checkpoint=Checkpoint())
    peer.tell(LedgerChanged(table.opening()[:-1]))
    effects = peer.hear(table.sign(1, ListRequest(**table.header(1), updates_root=NEXT_STATE)))
    assert not effects and not peer.refused


def test_a_ciphertext_of_a_round_that_is_forgotten(tmp_path: Path) -> None:
    """Announced again it is known to the engine, which held it once, but gone from the disk."""
    made = Table().update(1)
    aggregation = Aggregation(SimpleNamespace(), 1.0, BlobStore(tmp_path).chunks)  # type: ignore[arg-type]
    update = made.signed.message
    assert isinstance(update, Update)
    assert str(aggregation.verdict(update, made.sealed.key)).startswith("MissingBlob: ")


@given(messages, st.integers(0, 4), st.booleans(), st.booleans())
def test_no_signed_message_ends_the_engine(message, who, placed, started) -> None:
    """Any fields that fit the format, signed by a seat or by a stranger, in the right place or elsewhere."""
    table = Table()
    peer = Driven(table) if started else Driven(table, checkpoint=Checkpoint())
    if not started:
        peer.tell(LedgerChanged(table.opening()[:-1]))
    author = table.everybody[who] if who < 4 else make_identity(77)
    peer.hear(table.update(2).signed)
    header = {**table.header(0), "member": author.member} if placed else {"member": author.member, "run": RUN}
    peer.hear(author.seal(replace(message, **header)))
    peer.tell(Tick())


@given(st.binary(max_size=300))
def test_no_bytes_end_the_engine(raw) -> None:
    peer = Driven(Table())
    peer.tell(MessageReceived(raw))
    assert len(peer.refused) == 1


# Memory, disk, traffic

NOWHERE = keccak(b"a head that nobody has seen")


def test_a_flood_of_early_messages_displaces_only_its_sender() -> None:
    table = Table()
    peer = Driven(table)
    honest = table.again(2, table.have(2, []), round=2, previous_head=NOWHERE)
    peer.hear(honest)
    for number in range(EARLY_MESSAGES_MAX + 50):
        peer.hear(table.again(1, table.have(1, []), round=2 + number, previous_head=NOWHERE))
    assert len(peer.engine.mailbox.early) == EARLY_MESSAGES_MAX
    assert honest.id in peer.engine.mailbox.early


def test_an_early_message_is_kept_once() -> None:
    table = Table()
    peer = Driven(table)
    early = table.again(1, table.have(1, []), round=2, previous_head=NOWHERE)
    peer.hear(early, early, early)
    assert len(peer.engine.mailbox.early) == 1


def landing() -> tuple[Table, Driven]:
    """A peer that has seen a certificate whose list it does not have."""
    table = Table()
    peer = Driven(table)
    peer.tell(LedgerChanged((table.certified(table.body([table.update(1)])),)))
    assert peer.engine.following.landing is not None
    return table, peer


def offer(table: Table, who: int, size: int, name: bytes = NEXT_STATE):
    root = table.body([table.update(1)]).updates_root
    return table.sign(
        who, ListOffer(**table.header(who), updates_root=root, blob_hash=Hash(name), blob_size=size)
    )


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, (1 << 64) - 1])
def test_no_list_of_an_impossible_size_is_fetched(size) -> None:
    table, peer = landing()
    peer.hear(offer(table, 1, size))
    assert peer.refused == ["MessageTooLarge"] and not peer.of(FetchList)


def test_the_largest_list_that_is_fetched_is_larger_than_a_real_one() -> None:
    table = Table()
    everybody = [table.update(who) for who in range(4)]
    assert len(table.listed(everybody).to_bytes()) < LIST_BYTES_PER_TRAINER * 4


def test_a_member_that_offers_many_lists_is_asked_for_one_at_a_time() -> None:
    table, peer = landing()
    for number in range(50):
        peer.hear(offer(table, 1, 500, bytes([number]) * 32))
    assert len(peer.of(FetchList)) == 1
    peer.hear(offer(table, 2, 500))
    assert len(peer.of(FetchList)) == 2
    peer.now += peer.table.rules.timing.d0_s
    peer.hear(offer(table, 1, 500, bytes(32)))
    assert len(peer.of(FetchList)) == 3


def test_a_have_names_no_more_than_can_exist() -> None:
    table = Table()
    peer = Driven(table)
    names = tuple(Hash(number.to_bytes(32, "big")) for number in range(5))
    peer.hear(table.sign(1, Have(**table.header(1), updates=names)))
    assert peer.refused == ["MessageTooLarge"] and not peer.engine.round.book.naming


@pytest.mark.parametrize("field", ["updates", "keys"])
def test_a_proposal_names_no_more_than_can_exist(field) -> None:
    table = Table()
    peer = Driven(table)
    names = tuple(Hash(number.to_bytes(32, "big")) for number in range(5))
    who = table.proposer_at(0)
    peer.hear(table.again(who, table.proposal(who, 0, []), **{field: names}))
    assert peer.refused == ["MessageTooLarge"]


@given(st.lists(st.integers(1, 64 << 10), max_size=150), st.integers(0, 1 << 128))
def test_an_answer_fits_a_packet(sizes, chance) -> None:
    lacking = [index.to_bytes(2, "big") * (size // 2 + 1) for index, size in enumerate(sizes)]
    answer = choose_answer(lacking, chance)
    assert len(answer) <= OBJECTS_PER_PACKET_MAX
    records = tuple(bytes(2 << 10) for _ in range(16))
    assert len(encode_packet(Packet(tuple(answer), (), records))) <= PACKET_BYTES_MAX
    places = [lacking.index(raw) for raw in answer]
    assert places == sorted(set(places))
    assert bool(answer) == bool(lacking)


def test_large_objects_in_front_do_not_keep_small_ones_back() -> None:
    lacking = [bytes([number]) * 60_000 for number in range(40)] + [b"small %d" % n for n in range(10)]
    answers = [choose_answer(lacking, chance) for chance in range(60)]
    assert all(sum(map(len, answer)) <= ANSWER_BYTES_MAX for answer in answers)
    assert {raw for answer in answers for raw in answer} == set(lacking)


def test_what_fits_is_sent_whole() -> None:
    lacking = [b"%d" % number for number in range(OBJECTS_PER_PACKET_MAX)]
    assert choose_answer(lacking, 7) == lacking


# The log


def test_a_flood_of_refusals_is_not_written_down() -> None:
    budget, note = NoteBudget(), Note("refused", {"rule": "BadSignature", "why": "x"})
    written = [budget.take(note, ZERO) for _ in range(1000)]
    assert sum(facts is not None for facts in written) == NOTES_PER_RULE
    assert budget.take(Note("refused", {"rule": "WrongKey"}), ZERO) is not None, "another rule"
    assert budget.take(note, NEXT_STATE) is not None, "another head"


def test_a_refusal_quotes_little_of_what_was_sent() -> None:
    facts = NoteBudget().take(
        Note("refused", {"rule": "MalformedMessage", "why": "x" * 60_000, "n": 3}), ZERO
    )
    assert facts == {"rule": "MalformedMessage", "why": "x" * TEXT_MAX, "n": 3}


# The courier

ME, OTHER, SLOW = (make_identity(number) for number in range(3))


class Recorded:
    """A transport that does what the test says, and its courier."""

    def __init__(self, incoming: tuple[tuple[Address | None, bytes], ...] = ()) -> None:
        self.incoming, self.sent = incoming, Counter[MemberId]()
        self.blocked = asyncio.Event()
        self.posted: list[Any] = []
        self.notes: list[Note] = []
        self.tasks: list[asyncio.Task[None]] = []
        everybody = {each.address: each.member for each in (ME, OTHER, SLOW)}
        self.directory = Directory(ME, RUN, lambda: everybody)
        for each in (OTHER, SLOW):
            self.directory.introduce(Endpoint(each.member, each.address, ("http://127.0.0.1:1",)))
        self.store = SimpleNamespace(blobs=SimpleNamespace(has=lambda blob: False))
        self.courier = Courier(
            ME,
            self,  # type: ignore[arg-type]
            self.directory,
            self.store,  # type: ignore[arg-type]
            self._post,
            self.notes.append,
            lambda work: self.tasks.append(asyncio.create_task(work)),
        )

    async def _post(self, event: Any) -> None:
        self.posted.append(event)

    async def send(self, endpoint: Endpoint, message: bytes, purpose: str = "control") -> None:
        self.sent[endpoint.member] += 1
        if endpoint.member == SLOW.member:
            await self.blocked.wait()

    async def fetch(self, blob: BlobRef, holders: Any, deadline_s: float) -> None:
        raise FetchFailed(blob.hash, "nobody", {})

    async def received(self):
        for each in self.incoming:
            yield each


async def test_who_does_not_take_what_it_asked_for_is_in_nobodys_way() -> None:
    post = Recorded()
    for _ in range(1000):
        post.courier.send(Send((SLOW.member,), (b"x",)))
    post.courier.send(Send((OTHER.member,), (b"x",)))
    await asyncio.wait(post.tasks, return_when=asyncio.FIRST_COMPLETED)
    while not post.sent[OTHER.member]:
        await asyncio.wait(post.tasks[-1:])
    assert post.sent == {SLOW.member: SENDS_PER_MEMBER, OTHER.member: 1}
    post.blocked.set()
    await asyncio.wait(post.tasks)
    post.courier.send(Send((SLOW.member,), (b"x",)))
    await asyncio.wait(post.tasks)
    assert post.sent[SLOW.member] == SENDS_PER_MEMBER + 1, "there is room again"


async def test_packets_of_strangers_are_not_looked_at() -> None:
    table = Table()
    raw = encode_packet(Packet((table.update(1).signed.raw,)))
    post = Recorded(((None, raw), (make_identity(77).address, raw), (OTHER.address, raw), (None, b"junk")))
    await post.courier.receive()
    assert len(post.posted) == 1 and not post.notes


async def test_a_fetch_that_fails_at_once_is_not_tried_again_at_once(monkeypatch) -> None:
    post, pauses = Recorded(), []

    async def pause(seconds: float) -> None:
        assert not post.posted, "the engine would ask again"
        pauses.append(seconds)

    monkeypatch.setattr(courier_module.asyncio, "sleep", pause)
    await post.courier.fetch(Fetch(BlobRef(ZERO, 5), (OTHER.member,)))
    assert post.posted == [BlobFailed(ZERO)] and pauses == [courier_module.RETRY_S]


def test_an_address_that_is_known_costs_no_second_look_at_its_signature() -> None:
    looked: list[bytes] = []

    def counting(digest: Hash, signature: bytes) -> Address:
        looked.append(signature)
        return recover(digest, signature)

    me = SimpleNamespace(
        member=ME.member, address=ME.address, domain=ME.domain, sign=ME.sign, recover=counting
    )
    directory = Directory(me, RUN, lambda: {OTHER.address: OTHER.member})  # type: ignore[arg-type]
    old, new = (
        seal_record(
            EndpointRecord(run=RUN, member=OTHER.member, sequence=n, urls=(f"http://127.0.0.1:{n}",)),
            OTHER.domain,
            OTHER.sign,
        )
        for n in (1, 2)
    )
    for raw in (old, old, new, new, new):
        directory.learn(raw)
    assert len(looked) == 2
    endpoint = directory.endpoint(OTHER.member)
    assert endpoint is not None and endpoint.urls == ("http://127.0.0.1:2",)
    directory.learn(old)
    assert directory.endpoint(OTHER.member) == endpoint
