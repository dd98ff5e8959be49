import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distrai.network.manifests import decode_bitmap, decode_manifest, encode_bitmap, encode_manifest
from distrai.network.store import BlobStore, MissingBlob
from distrai.protocol.blobs import CHUNK_SIZE, BlobRef, blob_ref, chunk_hashes, chunks
from distrai.protocol.errors import WrongBlob, WrongManifest

DATA = random.Random(1).randbytes(2 * CHUNK_SIZE + 100)
REF = blob_ref(DATA)
HASHES = chunk_hashes(DATA)
PARTS = [bytes(part) for part in chunks(DATA)]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, len(DATA)])
def test_what_is_put_is_read_whole_and_by_chunk(store: BlobStore, size: int) -> None:
    data = DATA[:size]
    blob = store.put(data)
    assert blob == blob_ref(data) and store.has(blob) and store.read(blob) == data
    assert store.manifest(blob.hash) == (size, chunk_hashes(data))
    assert b"".join(store.read_chunk(blob.hash, index) for index in range(blob.chunk_count)) == data
    assert store.held(blob.hash) == frozenset(range(blob.chunk_count))
    assert list(store.refs()) == [blob]
    assert list(BlobStore(store.path).refs()) == [blob]


def test_a_file_is_put_like_its_bytes(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    assert store.put_file(source) == REF
    assert store.read(REF) == DATA


def test_what_is_absent_is_missing(store: BlobStore) -> None:
    assert not store.has(REF)
    for ask in (
        lambda: store.read(REF),
        lambda: store.manifest(REF.hash),
        lambda: store.held(REF.hash),
        lambda: store.read_chunk(REF.hash, 0),
        lambda: store.write_chunk(REF.hash, 0, PARTS[0]),
    ):
        with pytest.raises(MissingBlob):
            ask()


def test_a_name_with_another_size_is_not_here(store: BlobStore) -> None:
    store.put(DATA)
    other = BlobRef(REF.hash, REF.size + 1)
    assert not store.has(other)
    with pytest.raises(WrongBlob):
        store.read(other)


def test_chunks_arrive_in_any_order_and_the_last_makes_it_whole(store: BlobStore) -> None:
    assert store.begin(REF, HASHES) == [0, 1, 2]
    assert not store.write_chunk(REF.hash, 2, PARTS[2])
    assert store.held(REF.hash) == {2} and not store.has(REF) and list(store.refs()) == []
    assert store.read_chunk(REF.hash, 2) == PARTS[2]
    with pytest.raises(MissingBlob):
        store.read_chunk(REF.hash, 0)
    assert not store.write_chunk(REF.hash, 0, PARTS[0])
    assert store.write_chunk(REF.hash, 1, PARTS[1])
    assert store.read(REF) == DATA
    assert store.begin(REF, HASHES) == []
    assert sorted(path.name for path in store.path.glob("*/*")) == [
        REF.hash.hex(),
        f"{REF.hash.hex()}.manifest",
    ]


def test_a_wrong_chunk_or_list_is_refused(store: BlobStore) -> None:
    with pytest.raises(WrongManifest):
        store.begin(REF, HASHES[::-1])
    store.begin(REF, HASHES)
    for index, data in ((0, PARTS[1]), (0, PARTS[0][:-1]), (3, PARTS[0]), (-1, PARTS[2])):
        with pytest.raises(WrongBlob):
            store.write_chunk(REF.hash, index, data)
    assert store.held(REF.hash) == frozenset()


def test_a_new_process_goes_on_with_the_chunks_that_verify(store: BlobStore) -> None:
    store.begin(REF, HASHES)
    store.write_chunk(REF.hash, 0, PARTS[0])
    store.write_chunk(REF.hash, 1, PARTS[1])
    partial = next(store.path.glob("*/*.partial"))
    with partial.open("r+b") as file:  # the machine crashed before this reached the disk
        file.seek(CHUNK_SIZE)
        file.write(b"\0" * 10)
    again = BlobStore(store.path)
    assert again.held(REF.hash) == {0}
    assert again.begin(REF, HASHES) == [1, 2]
    again.write_chunk(REF.hash, 2, PARTS[2])
    assert again.write_chunk(REF.hash, 1, PARTS[1])
    assert again.read(REF) == DATA


def test_a_crash_between_the_last_chunk_and_its_end_is_made_good(store: BlobStore) -> None:
    store.put(DATA)
    whole = store.path / REF.hash.hex()[:2] / REF.hash.hex()
    whole.rename(whole.with_suffix(".partial"))
    again = BlobStore(store.path)
    assert again.begin(REF, HASHES) == []
    assert again.read(REF) == DATA


def test_what_the_disk_damaged_is_never_given(store: BlobStore) -> None:
    store.put(DATA)
    whole = store.path / REF.hash.hex()[:2] / REF.hash.hex()
    whole.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(WrongBlob):
        store.read(REF)
    with pytest.raises(MissingBlob):
        store.read_chunk(REF.hash, 2)
    assert store.read_chunk(REF.hash, 0) == PARTS[0]


def test_a_damaged_manifest_is_made_again_or_the_blob_missing(store: BlobStore) -> None:
    store.put(DATA)
    manifest = next(store.path.glob("*/*.manifest"))
    manifest.write_bytes(b"x" * 40)
    assert BlobStore(store.path).manifest(REF.hash) == (len(DATA), HASHES)
    (store.path / REF.hash.hex()[:2] / REF.hash.hex()).write_bytes(DATA[1:])
    with pytest.raises(MissingBlob):
        BlobStore(store.path).manifest(REF.hash)


def test_delete_forgets_whole_and_partial_blobs(store: BlobStore) -> None:
    store.put(DATA)
    store.delete(REF)
    store.begin(REF, HASHES)
    store.write_chunk(REF.hash, 0, PARTS[0])
    store.delete(REF)
    store.delete(REF)
    assert list(store.path.glob("*/*")) == []
    assert store.begin(REF, HASHES) == [0, 1, 2]


def test_put_completes_a_partial_blob(store: BlobStore) -> None:
    store.begin(REF, HASHES)
    store.write_chunk(REF.hash, 0, PARTS[0])
    store.put(DATA)
    assert store.write_chunk(REF.hash, 1, PARTS[1])
    assert store.read(REF) == DATA and not list(store.path.glob("*/*.partial"))


def test_left_overs_of_a_crash_are_cleared_but_not_the_work_of_others(store: BlobStore) -> None:
    store.put(DATA)
    folder = store.path / REF.hash.hex()[:2]
    dead, alive = folder / "x.999999999-1.tmp", folder / f"x.manifest.{os.getpid()}-1.tmp"
    for path in (dead, alive):
        path.write_bytes(b"half")
    BlobStore(store.path)
    assert not dead.exists() and alive.exists()


def test_many_threads_write_one_blob(store: BlobStore) -> None:
    data = os.urandom(12 * CHUNK_SIZE)
    blob, parts = blob_ref(data), [bytes(part) for part in chunks(data)]
    store.begin(blob, chunk_hashes(data))
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(lambda index: store.write_chunk(blob.hash, index % 12, parts[index % 12]), range(24))
        )
    assert any(done) and store.read(blob) == data


def test_manifests_and_bitmaps_come_back(store: BlobStore) -> None:
    assert decode_manifest(encode_manifest(len(DATA), HASHES)) == (len(DATA), HASHES)
    for count in (0, 1, 7, 8, 9, 64):
        held = frozenset(index for index in range(count) if index % 3)
        assert decode_bitmap(encode_bitmap(held, count), count) == held
    assert decode_bitmap(b"\xff", 3) == {0, 1, 2}
