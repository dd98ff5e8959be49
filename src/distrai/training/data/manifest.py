"""The manifest of a corpus: which shards there are, in canonical JSON; its blob hash is the corpus hash.

A manifest may come from a stranger. ``parse_manifest`` believes nothing: size first, then types and bounds,
then what must hold between fields, then that the bytes are the only spelling of what they say.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from distrai.protocol.blobs import BlobRef
from distrai.protocol.canonical import canonical_json
from distrai.protocol.primitives import Hash
from distrai.training.data.documents import SPLITS, Split
from distrai.training.data.layouts import Layout
from distrai.training.errors import (
    CorpusTooLarge,
    EmptySplit,
    MalformedManifest,
    ManifestNotCanonical,
    ManifestTooLarge,
    SharedShard,
    WrongShardSize,
)

MANIFEST_BYTES_MAX = 64 << 20
"""Longest manifest that is read: about half a million shards."""

SHARD_BYTES_MAX = 1 << 28
TOKENS_MAX = 1 << 44

SpecialToken = Literal[
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"
]
TokenType = Literal["u8", "u16", "u32"]
TOKEN_BYTES: dict[TokenType, int] = {"u8": 1, "u16": 2, "u32": 4}
"""Width of a token in a shard; always little-endian."""
ENTRY_BYTES = 4
"""Width where an entry also says whether it is scored."""

_Hex = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}\Z")]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
TEMPLATE_CHARACTERS_MAX = 1 << 18


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piece of the tokens of a split: a blob."""

    hash: _Hex
    size: Annotated[int, msgspec.Meta(ge=1, le=SHARD_BYTES_MAX)]
    tokens: Annotated[int, msgspec.Meta(ge=1, le=SHARD_BYTES_MAX)]

    @property
    def blob(self) -> BlobRef:
        """The blob to fetch."""
        return BlobRef(Hash(bytes.fromhex(self.hash[2:])), self.size)


class Splits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shards of every split, in order."""

    train: tuple[Shard, ...]
    tuning: tuple[Shard, ...]
    held_out: tuple[Shard, ...]


class ChatTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How conversations were written as text, for people who go on with the model; nobody needs it for training."""

    template: Annotated[str, msgspec.Meta(min_length=1, max_length=TEMPLATE_CHARACTERS_MAX)]
    """Jinja, as in ``chat_template`` of a Hugging Face tokenizer."""
    tokens: dict[SpecialToken, _Name] = msgspec.field(default_factory=dict)
    """Special tokens by the names that the template has for them."""


class CorpusManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a corpus consists of. What was added later is left out where it means nothing."""

    format: Literal["distrai/corpus/1"]
    source: _Text
    token_dtype: TokenType
    tokenizer_hash: _Hex
    license: _Text
    splits: Splits
    layout: Layout = "windows"
    chat: ChatTemplate | None = None
    """For layouts of conversations."""

    def shards(self, split: Split) -> tuple[Shard, ...]:
        """The shards of one split."""
        shards: tuple[Shard, ...] = getattr(self.splits, split)
        return shards

    def tokens(self, split: Split) -> int:
        """How many tokens a split has."""
        return sum(shard.tokens for shard in self.shards(split))

    def to_bytes(self) -> bytes:
        """The canonical JSON bytes; their blob hash is the corpus hash."""
        return canonical_json(msgspec.to_builtins(self))


def parse_manifest(data: bytes) -> CorpusManifest:
    """Read and check the bytes of a manifest.

    Raises ManifestTooLarge, MalformedManifest, WrongShardSize, CorpusTooLarge, EmptySplit, SharedShard or
    ManifestNotCanonical.
    """
    if len(data) > MANIFEST_BYTES_MAX:
        raise ManifestTooLarge(
            f"a corpus manifest has at most {MANIFEST_BYTES_MAX} bytes, this one {len(data)}"
        )
    try:
        manifest = msgspec.json.decode(data, type=CorpusManifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedManifest(f"these bytes are no corpus manifest: {error}") from None
    check_manifest_rules(manifest)
    if manifest.to_bytes() != data:
        raise ManifestNotCanonical(
            "this corpus manifest is not in canonical JSON; write it again with to_bytes()"
        )
    return manifest


def check_manifest_rules(manifest: CorpusManifest) -> None:
    """What must hold between the fields; raises as ``parse_manifest``."""
    width = TOKEN_BYTES[manifest.token_dtype]
    if manifest.layout != "windows" and width != ENTRY_BYTES:
        raise MalformedManifest(f"entries of {manifest.layout} have {ENTRY_BYTES} bytes, not {width}")
    for split in SPLITS:
        _check_shards(manifest.shards(split), width, split)
    if sum(manifest.tokens(split) for split in SPLITS) > TOKENS_MAX:
        raise CorpusTooLarge(f"a corpus has at most {TOKENS_MAX} tokens")
    if not manifest.splits.train or not manifest.splits.held_out:
        raise EmptySplit("a corpus needs something to train on and something held out")
    _check_disjoint(manifest)


def _check_shards(shards: Sequence[Shard], width: int, split: Split) -> None:
    for at, shard in enumerate(shards):
        if shard.size != shard.tokens * width:
            raise WrongShardSize(
                f"shard {at} of {split} has {shard.size} bytes, but {shard.tokens} tokens of {width} bytes"
            )


def _check_disjoint(manifest: CorpusManifest) -> None:
    owner: dict[str, Split] = {}
    for split in SPLITS:
        for shard in manifest.shards(split):
            if owner.setdefault(shard.hash, split) != split:
                raise SharedShard(f"shard {shard.hash[:14]} is in {owner[shard.hash]} and in {split}")
