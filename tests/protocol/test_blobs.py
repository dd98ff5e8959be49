"""Blobs: names by an independent computation, manifests that prove themselves, and limits."""

from dataclasses import FrozenInstanceError

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.blobs import (
    CHUNK_SIZE,
    BlobRef,
    blob_ref,
    check_blob,
    check_manifest,
    chunk_hash,
    chunk_hashes,
    chunks,
    manifest_hash,
)
from distrai.protocol.errors import WrongBlob, WrongManifest
from distrai.protocol.primitives import Hash
from helpers.messages import named

MIB = 1 << 20
SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1]
# The names of ``content(size)``: they may never change, as blobs are found by them.
NAMES = {
    0: "721e2e21b23c97dde22039b8f1e06b91c2714ae67933d65a26fb0212019c8c24",
    1: "2fb89131f04cb3d715bd8042400c896b70e766465942e177b14f16582feeb560",
    MIB - 1: "6cfca50c017a5e866a23dbc15e4ab4ef0b40280e03a14aadddfb1e0e8c149032",
    MIB: "8ee3223bc58fd5a1fb2ce673cc3e3b82a22ce9df953b9ddf805cdd8067f52979",
    MIB + 1: "c29d80cf09bc8a8c5f0d9bca020778bb79758d52f707dc39582624e6fc76add7",
}


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def reference_name(data: bytes) -> bytes:
    """The rule of the design, spelt out with a streaming hasher."""
    name = blake3(derive_key_context="distrai 2026-11 blob name")
    name.update(bytes((len(data) >> (8 * place)) & 255 for place in range(8)))
    rest = data
    while rest:
        name.update(blake3(rest[:MIB]).digest())
        rest = rest[MIB:]
    return name.digest()


def test_blake3_is_blake3() -> None:
    # The official test vectors for inputs of 0 and 1 bytes.
    assert chunk_hash(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert chunk_hash(b"\0").hex() == "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"


@pytest.mark.parametrize("size", NAMES)
def test_names_never_change(size: int) -> None:
    assert blob_ref(content(size)).hash.hex() == NAMES[size]


@pytest.mark.parametrize("size", SIZES)
def test_names_at_the_boundaries_of_chunks(size: int) -> None:
    data = content(size)
    blob = blob_ref(data)
    assert blob == blob_ref(memoryview(data)) == BlobRef(Hash(reference_name(data)), size)
    assert blob.chunk_count == len(list(chunks(data))) == len(chunk_hashes(data)) == -(-size // MIB)
    assert [blob.chunk_size(i) for i in range(blob.chunk_count)] == [len(part) for part in chunks(data)]
    assert b"".join(chunks(data)) == data
    check_blob(blob, data)
    check_manifest(blob, chunk_hashes(data))


@given(st.binary(max_size=300))
def test_small_names(data: bytes) -> None:
    assert blob_ref(data).hash == reference_name(data)


def test_the_size_is_in_the_name() -> None:
    data = content(MIB + 1)
    assert manifest_hash(MIB + 2, chunk_hashes(data)) != blob_ref(data).hash
    assert CHUNK_SIZE == MIB


def test_no_chunk_has_the_name_of_a_blob() -> None:
    data = content(10)
    manifest = (10).to_bytes(8, "little") + chunk_hash(data)
    assert blob_ref(data).hash not in (chunk_hash(data), chunk_hash(manifest))


@pytest.mark.parametrize(("name", "size"), [(b"short", 1), (bytes(33), 1), (bytes(32), -1), (b"", 0)])
def test_a_reference_has_a_name_and_a_size(name: bytes, size: int) -> None:
    with pytest.raises(WrongBlob):
        BlobRef(Hash(name), size)


def test_references_are_values() -> None:
    blob = BlobRef(named("a"), 3)
    assert {blob, BlobRef(named("a"), 3)} == {blob}
    assert blob < BlobRef(named("a"), 4) < BlobRef(named("b"), 0)
    with pytest.raises(FrozenInstanceError):
        blob.size = 4  # type: ignore[misc]


def test_the_chunks_of_a_blob_have_bounds() -> None:
    blob = BlobRef(named("a"), MIB + 7)
    assert [blob.chunk_size(0), blob.chunk_size(1)] == [MIB, 7]
    for outside in (-1, 2):
        with pytest.raises(AssertionError):
            blob.chunk_size(outside)
    with pytest.raises(AssertionError):
        BlobRef(named("a"), 0).chunk_size(0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda good: (),
        lambda good: good[:1],
        lambda good: (*good, good[0]),
        lambda good: (good[1], good[0]),
        lambda good: (good[0], good[0]),
        lambda good: (good[0], good[1][:31]),
        lambda good: (good[0] + good[1][:1], good[1][1:]),  # the same bytes, cut elsewhere
        lambda good: (good[0], bytes([good[1][0] ^ 1]) + good[1][1:]),
    ],
)
def test_a_wrong_manifest_is_refused(wrong) -> None:
    data = content(MIB + 5)
    with pytest.raises(WrongManifest):
        check_manifest(blob_ref(data), wrong(chunk_hashes(data)))


def test_a_manifest_belongs_to_one_size() -> None:
    data = content(MIB + 5)
    blob = blob_ref(data)
    with pytest.raises(WrongManifest):
        check_manifest(BlobRef(blob.hash, blob.size + 1), chunk_hashes(data))


@given(st.integers(1, 1 << 63))
def test_a_claimed_size_costs_nothing(size: int) -> None:
    # The number of hashes is compared before anything of that size is made.
    with pytest.raises(WrongManifest):
        check_manifest(BlobRef(named("a"), size), ())


@given(st.binary(min_size=1, max_size=200), st.data())
def test_other_bytes_are_no_such_blob(data: bytes, draw: st.DataObject) -> None:
    blob = blob_ref(data)
    at = draw.draw(st.integers(0, len(data) - 1))
    flipped = data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255))]) + data[at + 1 :]
    for wrong in (flipped, data[:-1], data + b"\0"):
        with pytest.raises(WrongBlob):
            check_blob(blob, wrong)


def test_a_name_made_for_too_few_chunks_has_no_manifest() -> None:
    # Whoever announces a blob makes its name, and may put any number of hashes under any size.
    data = content(MIB)
    for size in (2 * MIB, MIB + 1, 0):
        forged = BlobRef(manifest_hash(size, chunk_hashes(data)), size)
        with pytest.raises(WrongManifest, match="chunks"):
            check_manifest(forged, chunk_hashes(data))
    forged = BlobRef(manifest_hash(MIB, [Hash(b"short")]), MIB)
    with pytest.raises(WrongManifest):
        check_manifest(forged, [Hash(b"short")])
