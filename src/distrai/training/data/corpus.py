"""From documents or conversations to a corpus: tokens, cut into shards, and the manifest over them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.recipe import DataSection
from distrai.training.data.chat import ChatRenderer, load_chat_template
from distrai.training.data.documents import SPLITS, Document, Split
from distrai.training.data.examples import Problems, hub_documents, section_examples
from distrai.training.data.files import files_documents
from distrai.training.data.formats import BadLine
from distrai.training.data.layouts import layout_of, sample_shape
from distrai.training.data.manifest import (
    ENTRY_BYTES,
    TOKEN_BYTES,
    CorpusManifest,
    Shard,
    Splits,
    TokenType,
    check_manifest_rules,
)
from distrai.training.data.python_stdlib import python_stdlib_documents
from distrai.training.data.rows import RowCounts, RowMaker, prompt_key
from distrai.training.data.spool import Spool
from distrai.training.errors import CorpusTooSmall
from distrai.training.tokenizer import Tokenizer

_ENTRY: TokenType = "u32"

WriteBlob = Callable[[bytes], BlobRef]
"""Stores bytes and says under what name."""


@dataclass(frozen=True)
class Corpus:
    """A manifest, and its own name: the corpus hash."""

    manifest: CorpusManifest
    blob: BlobRef
    counts: RowCounts | None = None
    """Of conversations: what became of those that were read."""


@dataclass
class _ShardWriter:
    """Collects the tokens of one split and stores every full shard at once: memory stays bounded."""

    write: WriteBlob
    dtype: TokenType
    shard_tokens: int
    shards: list[Shard] = field(default_factory=list)
    _parts: list[NDArray[np.uint32]] = field(default_factory=list)
    _pending: int = 0

    def add(self, tokens: NDArray[np.uint32]) -> None:
        self._parts.append(tokens)
        self._pending += len(tokens)
        if self._pending >= self.shard_tokens:
            joined = np.concatenate(self._parts)
            full = len(joined) - len(joined) % self.shard_tokens
            for start in range(0, full, self.shard_tokens):
                self._store(joined[start : start + self.shard_tokens])
            self._parts, self._pending = [joined[full:]], len(joined) - full

    def finish(self) -> tuple[Shard, ...]:
        if self._pending:
            self._store(np.concatenate(self._parts))
        return tuple(self.shards)

    def _store(self, tokens: NDArray[np.uint32]) -> None:
        data = tokens.astype(f"<u{TOKEN_BYTES[self.dtype]}").tobytes()
        blob = self.write(data)
        assert blob.size == len(data)
        self.shards.append(Shard(hash="0x" + blob.hash.hex(), size=blob.size, tokens=len(tokens)))


def build_corpus(section: DataSection, tokenizer: Tokenizer, write: WriteBlob, base: Path) -> Corpus:
    """Build the corpus of a recipe; shards and manifest go to ``write``. ``base`` is the recipe's folder.

    Raises NothingMatches, NotText, CorpusTooSmall; for conversations and data sets of the hub also BadSource,
    BadExamples, BadChatTemplate.
    """
    if layout_of(section) != "windows":
        return _corpus_of_conversations(section, tokenizer, write, base)
    return corpus_from_documents(section_documents(section, base), section, tokenizer, write)


def section_documents(section: DataSection, base: Path) -> Iterable[Document]:
    """The documents that a recipe names."""
    match section.source:
        case "python-stdlib":
            return python_stdlib_documents()
        case "hub":
            return hub_documents(section, base)
        case "files":
            return files_documents(section.globs, base, section.held_out_fraction, section.tuning_fraction)


def corpus_from_documents(
    documents: Iterable[Document], section: DataSection, tokenizer: Tokenizer, write: WriteBlob
) -> Corpus:
    """As ``build_corpus``, over given documents: a split is the tokens of its own, one after the other."""
    dtype = token_type(tokenizer.vocabulary)
    shard_tokens = section.shard_bytes // TOKEN_BYTES[dtype]
    writers: dict[Split, _ShardWriter] = {split: _ShardWriter(write, dtype, shard_tokens) for split in SPLITS}
    for document in documents:
        writers[document.split].add(tokenizer.encode(document.text))
    shards = {split: writer.finish() for split, writer in writers.items()}
    _check_sizes(shards, section)
    manifest = CorpusManifest(
        format="distrai/corpus/1",
        source=section.source,
        token_dtype=dtype,
        tokenizer_hash="0x" + tokenizer.hash.hex(),
        license=section.license,
        splits=Splits(**shards),
    )
    return _finished(manifest, write)


def _corpus_of_conversations(
    section: DataSection, tokenizer: Tokenizer, write: WriteBlob, base: Path
) -> Corpus:
    """Rows in the order of the hashes of their prompts; equal prompts are in one split, equal rows there once."""
    template = load_chat_template(section.tokenizer, base)
    called = f"the chat template of {section.tokenizer}"
    maker, problems = RowMaker(tokenizer, ChatRenderer(template, called), section.context), Problems()
    shape = sample_shape(layout_of(section), section.context)
    shard_rows = max(1, section.shard_bytes // ENTRY_BYTES // shape.width)
    writers: dict[Split, _ShardWriter] = {
        split: _ShardWriter(write, _ENTRY, shard_rows * shape.width) for split in SPLITS
    }
    with Spool() as spool:
        for where, example in section_examples(section, base, problems):
            try:
                row = maker.entries(example)
            except BadLine as error:
                problems.add(where, str(error))
                continue
            if row is not None:
                spool.add(prompt_key(example), row.astype("<u4").tobytes())
        problems.check()
        counts, fractions = maker.counts, (section.held_out_fraction, section.tuning_fraction)
        for split, data in spool.read(*fractions, "[data] has {} different prompts that something follows"):
            writers[split].add(np.frombuffer(data, "<u4"))
            counts.kept += 1
        counts.duplicates = len(spool) - counts.kept
    manifest = CorpusManifest(
        format="distrai/corpus/1",
        source=section.source,
        token_dtype=_ENTRY,
        tokenizer_hash="0x" + tokenizer.hash.hex(),
        license=section.license,
        splits=Splits(**{split: writer.finish() for split, writer in writers.items()}),
        layout=layout_of(section),
        chat=template,
    )
    return replace(_finished(manifest, write), counts=counts)


def _finished(manifest: CorpusManifest, write: WriteBlob) -> Corpus:
    check_manifest_rules(manifest)
    data = manifest.to_bytes()
    blob = write(data)
    assert blob == blob_ref(data)
    return Corpus(manifest, blob)


def token_type(vocabulary: int) -> TokenType:
    """The narrowest type that holds every id."""
    if vocabulary <= 1 << 8:
        return "u8"
    return "u16" if vocabulary <= 1 << 16 else "u32"


def _check_sizes(shards: dict[Split, tuple[Shard, ...]], section: DataSection) -> None:
    for split, parts in shards.items():
        tokens = sum(shard.tokens for shard in parts)
        if tokens <= section.context:  # a sample is context + 1 tokens
            raise CorpusTooSmall(
                f"the {split.replace('_', '-')} part of the corpus has {tokens} tokens, but one sample needs "
                f"{section.context + 1}; add text, or lower context in [data]"
            )
