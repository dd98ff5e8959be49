"""From documents to a corpus: tokens, cut into shards, and the manifest over them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.recipe import DataSection
from distrai.training.data.documents import SPLITS, Document, Split
from distrai.training.data.files import files_documents
from distrai.training.data.manifest import (
    TOKEN_BYTES,
    CorpusManifest,
    Shard,
    Splits,
    TokenType,
    check_manifest_rules,
)
from distrai.training.data.python_stdlib import python_stdlib_documents
from distrai.training.errors import CorpusTooSmall
from distrai.training.tokenizer import Tokenizer

WriteBlob = Callable[[bytes], BlobRef]
"""Stores bytes and says under what name."""


@dataclass(frozen=True)
class Corpus:
    """A manifest, and its own name: the corpus hash."""

    manifest: CorpusManifest
    blob: BlobRef


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

    Raises NothingMatches, NotText, CorpusTooSmall.
    """
    return corpus_from_documents(section_documents(section, base), section, tokenizer, write)


def section_documents(section: DataSection, base: Path) -> Iterable[Document]:
    """The documents that a recipe names."""
    if section.source == "python-stdlib":
        return python_stdlib_documents()
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
