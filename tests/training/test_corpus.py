import numpy as np
import pytest

from distrai.protocol.blobs import blob_ref
from distrai.training.data.corpus import build_corpus, corpus_from_documents, token_type
from distrai.training.data.documents import SPLITS, Document
from distrai.training.data.manifest import parse_manifest
from distrai.training.errors import CorpusTooSmall, NothingMatches, NotText
from distrai.training.tokenizer import ByteTokenizer, HuggingFaceTokenizer
from training.tiny import documents, section


def text_of(manifest, split, store):
    return b"".join(store[shard.blob] for shard in manifest.shards(split))


def write(folder, count, size=400):
    for number in range(count):
        (folder / f"{number}.txt").write_text(f"text number {number}\n" * (size // 15))


def test_shards_hold_the_documents_of_their_split_and_name_their_bytes(store):
    texts = [Document("", split, f"{split} {number}\n" * 100) for number in range(9) for split in SPLITS]
    corpus = corpus_from_documents(texts, section(shard_bytes=4096), ByteTokenizer(), store.write)
    for split in SPLITS:
        joined = "".join(document.text for document in texts if document.split == split).encode()
        assert text_of(corpus.manifest, split, store) == joined
        assert {shard.tokens for shard in corpus.manifest.shards(split)[:-1]} == {4096}
    assert parse_manifest(store[corpus.blob]) == corpus.manifest
    assert all(blob_ref(data) == blob for blob, data in store.items())


def test_a_large_document_is_cut_into_many_shards(store):
    corpus = corpus_from_documents(
        documents(train=20_000), section(shard_bytes=4096), ByteTokenizer(), store.write
    )
    assert [shard.tokens for shard in corpus.manifest.splits.train] == [4096] * 4 + [20_000 - 4 * 4096]


def test_the_corpus_hash_covers_what_matters(store):
    def built(texts=None, tokenizer=None, **changes):
        sample = texts or documents()
        return corpus_from_documents(
            sample, section(**changes), tokenizer or ByteTokenizer(), store.write
        ).blob.hash

    other = HuggingFaceTokenizer(ByteTokenizer().to_fast())
    hashes = {
        built(),
        built(license="GPL"),
        built(tokenizer=other),
        built(documents(train=4001)),
        built(shard_bytes=4096),
    }
    assert len(hashes) == 4  # everything is in one shard of either size
    assert built() == built(globs=("other",))


def test_tokens_are_as_wide_as_the_vocabulary_needs():
    assert [token_type(size) for size in (256, 257, 65536, 65537)] == ["u8", "u16", "u16", "u32"]


def test_a_wide_tokenizer_gives_wide_little_endian_tokens(store):
    class Wide(ByteTokenizer):
        vocabulary = 512

        def encode(self, text):
            return super().encode(text) + 256

    corpus = corpus_from_documents(documents(), section(), Wide(), store.write)
    tokens = np.frombuffer(text_of(corpus.manifest, "tuning", store), "<u2")
    assert corpus.manifest.token_dtype == "u16"
    assert bytes((tokens - 256).astype(np.uint8)) == documents()[1].text.encode()


def test_a_part_without_one_sample_is_refused(store):
    with pytest.raises(CorpusTooSmall, match="held-out part of the corpus has 16 tokens.*17"):
        corpus_from_documents(documents(held_out=16), section(), ByteTokenizer(), store.write)


def test_files_go_whole_into_one_split_each(tmp_path, store):
    write(tmp_path, 40)
    corpus = build_corpus(
        section(globs=("*.txt",), held_out_fraction=0.2, tuning_fraction=0.1),
        ByteTokenizer(),
        store.write,
        tmp_path,
    )
    everything = {path.read_bytes(): set() for path in tmp_path.iterdir()}
    for split in SPLITS:
        text = text_of(corpus.manifest, split, store)
        for data, owners in everything.items():
            if data in text:
                owners.add(split)
    assert all(len(owners) == 1 for owners in everything.values())
    total = sum(map(len, everything))
    assert 0.2 <= corpus.manifest.tokens("held_out") / total < 0.25
    assert 0.1 <= corpus.manifest.tokens("tuning") / total < 0.15


def test_names_and_places_of_files_do_not_matter(tmp_path, store):
    here, there = tmp_path / "here", tmp_path / "there" / "deep"
    here.mkdir()
    there.mkdir(parents=True)
    write(here, 8)
    for path in here.iterdir():
        (there / f"{9 - int(path.stem)}.txt").write_bytes(path.read_bytes())
    (there / "copy.txt").write_bytes((here / "0.txt").read_bytes())
    (there / "empty.txt").touch()
    first = build_corpus(section(globs=("*.txt",)), ByteTokenizer(), store.write, here)
    second = build_corpus(
        section(globs=("deep/*", "**/*.txt")), ByteTokenizer(), store.write, tmp_path / "there"
    )
    absolute = build_corpus(section(globs=(f"{here}/*.txt",)), ByteTokenizer(), store.write, tmp_path)
    assert first.blob == second.blob == absolute.blob


def test_three_files_are_enough_and_two_are_not(tmp_path, store):
    write(tmp_path, 3)
    corpus = build_corpus(
        section(globs=("*",), held_out_fraction=0.5, tuning_fraction=0.4),
        ByteTokenizer(),
        store.write,
        tmp_path,
    )
    assert all(corpus.manifest.tokens(split) > 0 for split in SPLITS)
    (tmp_path / "0.txt").write_bytes((tmp_path / "1.txt").read_bytes())
    (tmp_path / "empty.txt").touch()
    with pytest.raises(CorpusTooSmall, match="2 different"):
        build_corpus(section(globs=("*",)), ByteTokenizer(), store.write, tmp_path)


def test_globs_that_match_nothing_and_files_that_are_no_text_are_named(tmp_path, store):
    write(tmp_path, 3)
    with pytest.raises(NothingMatches, match=r'"\*\.md" matches no file'):
        build_corpus(section(globs=("*.txt", "*.md")), ByteTokenizer(), store.write, tmp_path)
    with pytest.raises(NothingMatches, match="globs is empty"):
        build_corpus(section(globs=()), ByteTokenizer(), store.write, tmp_path)
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG" * 50)
    with pytest.raises(NotText, match=r"picture\.txt"):
        build_corpus(section(globs=("*.txt",)), ByteTokenizer(), store.write, tmp_path)
