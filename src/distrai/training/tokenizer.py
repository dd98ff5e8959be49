"""Tokenizers: bytes, or a fast tokenizer of Hugging Face; named by the hash of their canonical bytes."""

import codecs
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers
from tokenizers.decoders import DecodeStream

from distrai.protocol.blobs import blob_ref
from distrai.protocol.canonical import canonical_json
from distrai.protocol.primitives import Hash
from distrai.training.errors import CannotLoadTokenizer

Tokens = NDArray[np.uint32]


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def vocabulary(self) -> int:
        """One more than the largest id."""

    @property
    def canonical(self) -> bytes:
        """Canonical bytes that say all that the ids depend on."""

    @property
    def hash(self) -> Hash:
        """Blob hash of ``canonical``: the tokenizer's name in recipe and corpus."""

    def encode(self, text: str) -> Tokens:
        """The ids of ``text``; no special tokens are added."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; what is no UTF-8 becomes the replacement character."""

    def byte_count(self, ids: Sequence[int]) -> int:
        """How many bytes of text the ids stand for."""

    def streamer(self) -> Callable[[int], str]:
        """A function that takes one id after the other and returns the text that became complete with it."""

    def to_fast(self) -> FastTokenizer:
        """The same as a fast tokenizer of Hugging Face."""


class ByteTokenizer:
    """256 ids: the bytes of the UTF-8 text."""

    vocabulary = 256

    @cached_property
    def canonical(self) -> bytes:
        """See ``Tokenizer``."""
        return canonical_json({"format": "distrai/tokenizer/1", "kind": "bytes", "vocabulary": 256})

    @cached_property
    def hash(self) -> Hash:
        """See ``Tokenizer``."""
        return blob_ref(self.canonical).hash

    def encode(self, text: str) -> Tokens:
        """See ``Tokenizer``."""
        return np.frombuffer(text.encode(), np.uint8).astype(np.uint32)

    def decode(self, ids: Sequence[int]) -> str:
        """See ``Tokenizer``."""
        return bytes(ids).decode(errors="replace")

    def byte_count(self, ids: Sequence[int]) -> int:
        """See ``Tokenizer``."""
        return len(ids)

    def streamer(self) -> Callable[[int], str]:
        """See ``Tokenizer``."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda token: decoder.decode(bytes([token]))

    def to_fast(self) -> FastTokenizer:
        """See ``Tokenizer``: byte-level BPE without a single merge, ids in the order of the bytes."""
        vocabulary = {char: byte for byte, char in _byte_characters().items()}
        fast = FastTokenizer(models.BPE(vocab=vocabulary, merges=[]))
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        fast.decoder = decoders.ByteLevel()
        return fast


class HuggingFaceTokenizer:
    """A fast tokenizer of Hugging Face, without its special tokens."""

    def __init__(self, fast: FastTokenizer) -> None:
        self._fast = fast
        fast.no_padding()
        fast.no_truncation()

    @cached_property
    def vocabulary(self) -> int:
        """See ``Tokenizer``."""
        return max(self._fast.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @cached_property
    def canonical(self) -> bytes:
        """See ``Tokenizer``: its ``tokenizer.json`` in canonical JSON."""
        return canonical_json(json.loads(self._fast.to_str()))

    @cached_property
    def hash(self) -> Hash:
        """See ``Tokenizer``."""
        return blob_ref(self.canonical).hash

    def encode(self, text: str) -> Tokens:
        """See ``Tokenizer``."""
        return np.asarray(self._fast.encode(text, add_special_tokens=False).ids, np.uint32)

    def decode(self, ids: Sequence[int]) -> str:
        """See ``Tokenizer``."""
        return str(self._fast.decode([int(item) for item in ids], skip_special_tokens=False))

    def byte_count(self, ids: Sequence[int]) -> int:
        """See ``Tokenizer``."""
        return len(self.decode(ids).encode())

    def streamer(self) -> Callable[[int], str]:
        """See ``Tokenizer``."""
        stream = DecodeStream(skip_special_tokens=False)
        return lambda token: stream.step(self._fast, int(token)) or ""

    def to_fast(self) -> FastTokenizer:
        """See ``Tokenizer``."""
        return self._fast


def load_tokenizer(name: str, base: Path | None = None) -> Tokenizer:
    """The tokenizer of a recipe: ``bytes``, a folder or file, or a hub id.

    A file is a ``tokenizer.json``; paths are relative to ``base``, else to here. Raises CannotLoadTokenizer.
    """
    if name == "bytes":
        return ByteTokenizer()
    path = (base or Path()) / name
    if not path.exists():
        path = Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        if file.is_file():
            return HuggingFaceTokenizer(FastTokenizer.from_file(str(file)))
        return HuggingFaceTokenizer(FastTokenizer.from_pretrained(name))
    except Exception as error:  # the Rust library raises Exception itself
        raise CannotLoadTokenizer(
            f'[data] tokenizer: cannot load "{name}" ({str(error).strip()[:200]}); '
            f'use "bytes", a folder with tokenizer.json, or a hub id'
        ) from error


def tokenizer_from_canonical(data: bytes) -> Tokenizer:
    """The tokenizer with these canonical bytes, such as a stranger sent. Raises CannotLoadTokenizer."""
    if data == ByteTokenizer().canonical:
        return ByteTokenizer()
    try:
        return HuggingFaceTokenizer(FastTokenizer.from_buffer(data))
    except Exception as error:  # the Rust library raises Exception itself
        raise CannotLoadTokenizer(f"these bytes are no tokenizer: {str(error).strip()[:200]}") from error


def _byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte (Radford et al. 2019, ``bytes_to_unicode``)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
