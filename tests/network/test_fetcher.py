"""The chunk scheduler with holders that are plain objects: no sockets, and a clock that only tests move."""

import asyncio
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from distrai.network.fetcher import Fetch, Patience
from distrai.network.holders import Busy, HolderError, NotHeld, find_manifest
from distrai.network.interface import FetchFailed
from distrai.network.manifests import Manifest
from distrai.network.store import BlobStore
from distrai.protocol.blobs import CHUNK_SIZE, BlobRef, blob_ref, chunk_hashes, chunks
from distrai.protocol.primitives import Hash, MemberId

DATA = random.Random(2).randbytes(11 * CHUNK_SIZE + 5)
REF, PARTS = blob_ref(DATA), [bytes(part) for part in chunks(DATA)]
MANIFEST = (len(DATA), chunk_hashes(DATA))
PATIENCE = Patience(hedge_s=0.0, refresh_s=0.001, duplicate_after_s=0.0)
HASTY = replace(PATIENCE, give_up_s=0.05)
"""For those from whom nothing is to come any more."""
LONG_S = 60.0


@dataclass
class FakeHolder:
    """Has some chunks. ``block``: never answers; ``wrong``: lies; ``fail``: how often it fails first."""

    number: int
    has: frozenset[int] = frozenset(range(len(PARTS)))
    block: bool = False
    block_manifest: bool = False
    wrong: bool = False
    fail: int = 0
    manifest_: Manifest = MANIFEST
    asked: list[int] = field(default_factory=list)
    cancelled: int = 0

    @property
    def member(self) -> MemberId:
        return MemberId(bytes([self.number]) * 32)

    async def manifest(self, hash_: Hash, size_max: int) -> Manifest:
        if self.block_manifest:
            await asyncio.get_running_loop().create_future()
        return self.manifest_

    async def have(self, hash_: Hash, chunk_count: int) -> frozenset[int]:
        return self.has

    async def chunk(self, hash_: Hash, index: int, size: int, polite: bool = False) -> bytes:
        self.asked.append(index)
        await asyncio.sleep(0)
        if self.block:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.cancelled += 1
        if self.fail:
            self.fail -= 1
            raise HolderError("is tired")
        return bytes(size) if self.wrong else PARTS[index]


def fetch(path: Path, *holders: FakeHolder, blob: BlobRef = REF, patience: Patience = PATIENCE) -> Fetch:
    return Fetch(blob, holders, BlobStore(path), random.Random(3), patience)


async def test_chunks_come_from_all_holders(tmp_path: Path) -> None:
    one, two = FakeHolder(1), FakeHolder(2)
    work = fetch(tmp_path, one, two, patience=Patience())
    done = await work.run(LONG_S)
    assert work.store.read(REF) == DATA
    assert done.sent.keys() == {one.member, two.member} and sum(done.sent.values()) == REF.size
    assert sorted(one.asked + two.asked) == list(range(len(PARTS)))
    assert (done.liars, done.reasons, done.resumed) == ((), {}, 0)


async def test_a_liar_is_named_and_dropped_at_once(tmp_path: Path) -> None:
    liar, good = FakeHolder(1, wrong=True), FakeHolder(2)
    work = fetch(tmp_path, liar, good)
    done = await work.run(LONG_S)
    assert work.store.read(REF) == DATA
    assert done.liars == (liar.member,) and "wrong chunk" in done.reasons[liar.member]
    assert done.sent == {good.member: REF.size}
    assert len(liar.asked) <= PATIENCE.in_flight


async def test_a_silent_holder_is_overtaken_and_its_requests_ended(tmp_path: Path) -> None:
    silent, good = FakeHolder(1, block=True), FakeHolder(2)
    work = fetch(tmp_path, silent, good)
    assert (await work.run(LONG_S)).sent == {good.member: REF.size}
    assert silent.cancelled == len(silent.asked) > 0


async def test_a_few_failures_are_forgiven(tmp_path: Path) -> None:
    work = fetch(tmp_path, FakeHolder(1, fail=PATIENCE.failures_max - 1))
    await work.run(LONG_S)
    assert work.store.read(REF) == DATA


async def test_a_holder_that_only_fails_is_given_up(tmp_path: Path) -> None:
    bad = FakeHolder(1, fail=10**6)
    with pytest.raises(FetchFailed, match="is tired") as caught:
        await fetch(tmp_path, bad).run(LONG_S)
    assert caught.value.reasons == {bad.member: "is tired"}
    assert PATIENCE.failures_max <= len(bad.asked) < PATIENCE.failures_max + PATIENCE.in_flight


async def test_parts_of_several_holders_make_a_whole(tmp_path: Path) -> None:
    even, odd = (FakeHolder(n, has=frozenset(range(n, len(PARTS), 2))) for n in (0, 1))
    work = fetch(tmp_path, even, odd)
    await work.run(LONG_S)
    assert set(even.asked) == even.has and set(odd.asked) == odd.has


async def test_a_part_that_grows_is_asked_for_again(tmp_path: Path) -> None:
    class Growing(FakeHolder):
        async def have(self, hash_: Hash, chunk_count: int) -> frozenset[int]:
            self.has = self.has | {len(self.has)}
            return self.has

    work = fetch(tmp_path, Growing(1, has=frozenset()))
    await work.run(LONG_S)
    assert work.store.read(REF) == DATA


async def test_who_has_not_begun_yet_is_asked_again(tmp_path: Path) -> None:
    class Late(FakeHolder):
        looks = 0

        async def have(self, hash_: Hash, chunk_count: int) -> frozenset[int]:
            self.looks += 1
            if self.looks < 4:
                raise NotHeld("does not have it")
            return self.has

    late, part = Late(1, has=frozenset(range(6, len(PARTS)))), FakeHolder(2, has=frozenset(range(6)))
    patient = Patience(hedge_s=0.0, refresh_s=0.001)
    done = await fetch(tmp_path, late, part, patience=patient).run(LONG_S)
    assert set(late.asked) == late.has and done.reasons == {}


async def test_where_nobody_has_any_of_it_the_fetch_fails_at_once(tmp_path: Path) -> None:
    class Without(FakeHolder):
        async def have(self, hash_: Hash, chunk_count: int) -> frozenset[int]:
            raise NotHeld("does not have it")

    with pytest.raises(FetchFailed) as caught:
        await fetch(tmp_path, Without(1), Without(2), patience=Patience()).run(LONG_S)
    assert set(caught.value.reasons.values()) == {"does not have it"}


async def test_a_polite_refusal_is_no_failure_and_after_some_time_not_taken(tmp_path: Path) -> None:
    class Reluctant(FakeHolder):
        async def chunk(self, hash_: Hash, index: int, size: int, polite: bool = False) -> bytes:
            if polite:
                refused.append(index)
                raise Busy("has something rarer to send")
            return await super().chunk(hash_, index, size)

    refused, holder, now = list[int](), Reluctant(1), iter(range(10**9))
    patience = Patience(refresh_s=0.001)
    store, rng = BlobStore(tmp_path), random.Random(3)
    work = Fetch(REF, [holder], store, rng, patience, clock=lambda: next(now) / 10)
    done = await work.run(LONG_S)
    assert set(refused) == set(range(len(PARTS))) and len(refused) > PATIENCE.failures_max
    assert done.sent == {holder.member: REF.size} and done.reasons == {}


async def test_a_holder_of_nothing_new_is_given_up_in_time(tmp_path: Path) -> None:
    half = FakeHolder(1, has=frozenset({0, 1}))
    with pytest.raises(FetchFailed, match="nothing new"):
        await fetch(tmp_path, half, patience=HASTY).run(LONG_S)


async def test_the_next_fetch_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    with pytest.raises(FetchFailed):
        await fetch(tmp_path, FakeHolder(1, has=frozenset({0, 1})), patience=HASTY).run(LONG_S)
    rest = FakeHolder(2)
    done = await fetch(tmp_path, rest).run(LONG_S)
    assert done.resumed == 2 * CHUNK_SIZE and set(rest.asked) == set(range(2, len(PARTS)))


async def test_the_deadline_holds_and_nothing_goes_on_after_it(tmp_path: Path) -> None:
    silent = FakeHolder(1, block=True)
    before = asyncio.all_tasks()
    with pytest.raises(FetchFailed, match=r"after 0\.4 s"):
        await fetch(tmp_path, silent).run(0.4)  # time enough to ask
    assert asyncio.all_tasks() == before and silent.cancelled == len(silent.asked) > 0


async def test_a_small_blob_takes_one_request(tmp_path: Path) -> None:
    data = PARTS[0]
    blob = blob_ref(data)
    holder = FakeHolder(1, block_manifest=True)
    work = fetch(tmp_path, holder, FakeHolder(2, block_manifest=True), blob=blob)
    done = await work.run(LONG_S)
    assert work.store.read(blob) == data and sum(done.sent.values()) == len(data)


async def test_the_liar_about_a_small_blob_is_named(tmp_path: Path) -> None:
    blob = blob_ref(PARTS[0])
    for seed in range(4):  # whoever is asked first
        liar, good = FakeHolder(1, wrong=True), FakeHolder(2)
        store, rng = BlobStore(tmp_path / str(seed)), random.Random(seed)
        work = Fetch(blob, [liar, good], store, rng, Patience())
        done = await work.run(LONG_S)
        assert done.liars == ((liar.member,) if liar.asked else ()) and done.sent == {good.member: blob.size}


async def test_who_is_silent_about_a_small_blob_delays_nobody(tmp_path: Path) -> None:
    blob = blob_ref(PARTS[0])
    for seed in range(4):  # whoever is asked first
        silent, good = FakeHolder(1, block=True), FakeHolder(2)
        work = Fetch(blob, [silent, good], BlobStore(tmp_path / str(seed)), random.Random(seed), PATIENCE)
        before = asyncio.all_tasks()
        assert (await work.run(LONG_S)).sent == {good.member: blob.size}
        assert asyncio.all_tasks() == before


async def test_an_empty_blob_needs_nobody(tmp_path: Path) -> None:
    work = fetch(tmp_path, blob=blob_ref(b""))
    await work.run(LONG_S)
    assert work.store.read(blob_ref(b"")) == b""


async def test_without_holders_the_fetch_fails_at_once(tmp_path: Path) -> None:
    for blob in (REF, blob_ref(b"small")):
        with pytest.raises(FetchFailed):
            await fetch(tmp_path, blob=blob).run(LONG_S)


async def test_a_wrong_manifest_is_a_lie(tmp_path: Path) -> None:
    liar = FakeHolder(1, manifest_=(len(DATA), MANIFEST[1][::-1]))
    done = await fetch(tmp_path, liar, FakeHolder(2, block_manifest=False)).run(LONG_S)
    assert done.liars in ((), (liar.member,)) and (done.liars or liar.member in done.sent)
    with pytest.raises(FetchFailed, match="does not belong"):
        await fetch(tmp_path / "alone", liar).run(LONG_S)


async def test_a_wrongly_announced_size_is_nobodys_lie(tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="announced") as caught:
        await fetch(tmp_path, FakeHolder(1), blob=BlobRef(REF.hash, REF.size - 1)).run(LONG_S)
    assert caught.value.reasons == {}


async def test_who_is_silent_about_the_manifest_delays_nobody() -> None:
    silent = [FakeHolder(number, block_manifest=True) for number in range(5)]
    found = await find_manifest(
        REF.hash, REF.size, [*silent, FakeHolder(9)], random.Random(1), 0.001, lambda *_: None
    )
    assert found == MANIFEST


async def test_a_blob_deleted_on_the_way_fails_the_fetch(tmp_path: Path) -> None:
    class Deleter(FakeHolder):
        async def chunk(self, hash_: Hash, index: int, size: int, polite: bool = False) -> bytes:
            if self.asked:
                work.store.delete(REF)
            return await super().chunk(hash_, index, size)

    work = fetch(tmp_path, Deleter(1))
    with pytest.raises(FetchFailed):
        await work.run(LONG_S)
