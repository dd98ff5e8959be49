import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.canonical import canonical_json
from distrai.training.data import manifest as module
from distrai.training.data.manifest import TOKEN_BYTES, CorpusManifest, Shard, Splits, parse_manifest
from distrai.training.errors import (
    CorpusTooLarge,
    EmptySplit,
    MalformedManifest,
    ManifestError,
    ManifestNotCanonical,
    ManifestTooLarge,
    SharedShard,
    WrongShardSize,
)


def shard(number, tokens=5, width=1):
    return Shard(hash=f"0x{number:064x}", size=tokens * width, tokens=tokens)


def manifest(train=(1, 2), tuning=(3,), held_out=(4,), dtype="u8"):
    width = TOKEN_BYTES[dtype]
    parts = [tuple(shard(number, width=width) for number in part) for part in (train, tuning, held_out)]
    return CorpusManifest(
        format="distrai/corpus/1",
        source="files",
        token_dtype=dtype,
        tokenizer_hash="0x" + "ab" * 32,
        license="MIT",
        splits=Splits(*parts),
    )


def changed(**fields):
    return canonical_json(msgspec.to_builtins(manifest()) | fields)


def with_shard(**fields):
    plain = msgspec.to_builtins(manifest())
    plain["splits"]["train"][0].update(fields)
    return canonical_json(plain)


@given(st.permutations(range(1, 9)), st.integers(1, 6), st.sampled_from(["u8", "u16", "u32"]))
def test_a_manifest_comes_back_from_its_bytes(numbers, cut, dtype):
    original = manifest(numbers[:cut], (), numbers[cut:], dtype)
    assert parse_manifest(original.to_bytes()) == original


@given(st.data())
def test_one_changed_byte_is_refused_or_is_another_manifest(data):
    original = manifest().to_bytes()
    at = data.draw(st.integers(0, len(original) - 1))
    other = bytearray(original)
    other[at] = data.draw(st.integers(0, 255).filter(lambda value: value != original[at]))
    try:
        found = parse_manifest(bytes(other))
    except ManifestError:
        return
    assert found != manifest() and found.to_bytes() == other


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(data):
    with pytest.raises(ManifestError):
        parse_manifest(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 100_000,
        b"\xff",
        b"null",
        changed(format="distrai/corpus/2"),
        changed(extra=1),
        changed(source=""),
        changed(license="x" * 1025),
        changed(token_dtype="i8"),
        changed(tokenizer_hash="0x" + "AB" * 32),
        changed(tokenizer_hash="0x" + "ab" * 32 + "\n"),
        changed(splits={"train": [], "tuning": []}),
        with_shard(hash="ab" * 32),
        with_shard(tokens=0, size=0),
        with_shard(tokens=-5),
        with_shard(tokens=5.5),
        with_shard(tokens=True),
        with_shard(size=(1 << 28) + 1, tokens=(1 << 28) + 1),
        with_shard(url="http://example.org"),
    ],
)
def test_wrong_types_fields_and_bounds_are_malformed(data):
    with pytest.raises(MalformedManifest):
        parse_manifest(data)


def test_every_other_spelling_is_refused():
    plain = json.loads(manifest().to_bytes())
    for data in (
        json.dumps(plain).encode(),
        manifest().to_bytes() + b" ",
        json.dumps(plain, indent=1).encode(),
    ):
        with pytest.raises(ManifestNotCanonical):
            parse_manifest(data)
    twice = manifest().to_bytes()[:-1] + b',"license":"MIT"}'
    with pytest.raises(ManifestNotCanonical):
        parse_manifest(twice)


def test_a_size_that_is_not_that_of_its_tokens_is_refused():
    with pytest.raises(WrongShardSize, match="shard 0 of train"):
        parse_manifest(with_shard(tokens=4))
    with pytest.raises(WrongShardSize):
        parse_manifest(changed(token_dtype="u16"))


def test_nothing_to_train_on_or_to_measure_with_is_refused():
    for empty in (manifest(train=()), manifest(held_out=())):
        with pytest.raises(EmptySplit):
            parse_manifest(empty.to_bytes())


def test_a_shard_in_two_splits_is_refused():
    for shared in (manifest(held_out=(2, 4)), manifest(tuning=(1,)), manifest(tuning=(4,))):
        with pytest.raises(SharedShard):
            parse_manifest(shared.to_bytes())
    assert parse_manifest(manifest(train=(1, 1)).to_bytes()).tokens("train") == 10


def test_sizes_have_bounds(monkeypatch):
    monkeypatch.setattr(module, "TOKENS_MAX", 19)
    with pytest.raises(CorpusTooLarge):
        parse_manifest(manifest().to_bytes())
    monkeypatch.setattr(module, "MANIFEST_BYTES_MAX", 99)
    with pytest.raises(ManifestTooLarge):
        parse_manifest(manifest().to_bytes())
