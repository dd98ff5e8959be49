import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distrai.protocol.errors import WrongBlob
from distrai.training.data.dataset import Dataset
from distrai.training.data.manifest import TOKEN_BYTES, CorpusManifest, Shard, Splits
from distrai.training.errors import CorpusTooSmall, SampleOutOfRange, TokenOutOfVocabulary
from training.tiny import Store


def dataset_of(parts, context, dtype="u8", vocabulary=256, **options):
    """A data set over shards with these tokens, and its store."""
    store = Store()
    shards = []
    for part in parts:
        blob = store.write(np.asarray(part, f"<u{TOKEN_BYTES[dtype]}").tobytes())
        shards.append(Shard(hash="0x" + blob.hash.hex(), size=blob.size, tokens=len(part)))
    manifest = CorpusManifest(
        format="distrai/corpus/1",
        source="files",
        token_dtype=dtype,
        tokenizer_hash="0x" + "00" * 32,
        license="MIT",
        splits=Splits(tuple(shards), (), ()),
    )
    return Dataset(manifest, "train", context, vocabulary, store.read, **options), store


parts_strategy = st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=9), min_size=1, max_size=12)


@settings(max_examples=200)
@given(parts_strategy, st.integers(1, 8), st.sampled_from([0, 4, 1000]), st.randoms())
def test_samples_are_windows_of_the_joined_shards(parts, context, cache_bytes, random):
    tokens = [token for part in parts for token in part]
    windows = [tokens[at : at + context + 1] for at in range(0, len(tokens) - context, context)]
    if not windows:
        with pytest.raises(CorpusTooSmall):
            dataset_of(parts, context)
        return
    dataset, _ = dataset_of(parts, context, cache_bytes=cache_bytes)
    assert dataset.samples_total == len(windows)
    order = list(range(len(windows)))
    random.shuffle(order)
    batch = dataset.batch(order)
    assert batch.dtype == torch.int64 and batch.tolist() == [windows[index] for index in order]
    assert dataset.evenly(len(windows)) == list(range(len(windows)))


@pytest.mark.parametrize(("dtype", "largest"), [("u8", 255), ("u16", 65535), ("u32", 2**32 - 1)])
def test_every_width_is_read_little_endian(dtype, largest):
    dataset, _ = dataset_of([[1, largest], [256 % (largest + 1)]], 2, dtype, vocabulary=2**32)
    assert dataset.batch([0]).tolist() == [[1, largest, 256 % (largest + 1)]]


def test_indices_out_of_range_are_refused():
    dataset, _ = dataset_of([range(9)], 4)
    assert dataset.batch([1]).tolist() == [[4, 5, 6, 7, 8]]
    for index in (-1, 2):
        with pytest.raises(SampleOutOfRange):
            dataset.batch([index])


def test_a_token_that_the_tokenizer_does_not_have_is_refused():
    dataset, _ = dataset_of([[1, 2, 200]], 2, vocabulary=200)
    with pytest.raises(TokenOutOfVocabulary, match="token 200"):
        dataset.batch([0])


def test_bytes_that_are_not_the_shard_are_refused():
    dataset, store = dataset_of([[1, 2, 3]], 2)
    store[dataset.blobs()[0]] = bytes([1, 2, 4])
    with pytest.raises(WrongBlob):
        dataset.batch([0])


def test_the_cache_keeps_to_its_bound_and_saves_reads():
    parts = [[number] * 4 for number in range(4)]
    reads = []
    for bound, expected in ((16, 4), (8, 8)):
        dataset, store = dataset_of(parts, 3, cache_bytes=bound)
        dataset._read = lambda blob, store=store: reads.append(blob) or store[blob]
        reads.clear()
        for _ in range(2):
            dataset.batch(range(dataset.samples_total))
        assert len(reads) == expected


def test_evenly_spaced_samples_span_the_split():
    dataset, _ = dataset_of([range(101)], 1)
    assert dataset.evenly(4) == [0, 25, 50, 75]
    assert dataset.evenly(1000) == list(range(100))
