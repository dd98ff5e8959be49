"""What a certificate certifies, and the chain of heads that the ledger records."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
from eth_abi.abi import encode

from distrai.protocol.errors import MalformedMessage, UnsortedList
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import ADDRESS_SIZE, HASH_SIZE, ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.typed_data import struct_hash, type_hash

CERTIFICATE_HEAD = 1
ROLL_CALL_HEAD = 2
CHANGES_MAX = 32
"""Promotions, and drops, that one body may carry."""

_PROMOTION = "Promotion(bytes32 member,address key)"
_PROMOTION_TYPE = type_hash(_PROMOTION)
_BODY_TYPE = type_hash(
    "Body(uint64 run,uint64 round,bytes32 previousHead,bytes32 updatesRoot,bytes32 stateRoot,"
    "bytes32 trainersRoot,Promotion[] promotions,bytes32[] drops)" + _PROMOTION
)
_HEAD_TYPES = [
    "bytes32",
    "uint8",
    "uint64",
    "bytes32",
    "bytes32",
    "bytes32",
    "(bytes32,address)[]",
    "bytes32[]",
]


class Promotion(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, order=True):
    """A trainer that gets a seat, or a seat that gets a new key."""

    member: MemberId
    key: Address


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the seats sign about a round: which updates, which state they lead to, who is in and out from now on.

    ``updates_root`` zero means an empty round, whose ``state_root`` is the one before.
    """

    run: int
    round: int
    previous_head: Hash
    updates_root: Hash
    state_root: Hash
    trainers_root: Hash
    promotions: tuple[Promotion, ...] = ()
    drops: tuple[MemberId, ...] = ()

    @property
    def id(self) -> Hash:
        """The EIP-712 struct hash; seats sign the digest of it in the run's domain."""
        promotions = keccak(b"".join(_promotion_hash(item) for item in self.promotions))
        values: list[object] = [self.run, self.round, self.previous_head, self.updates_root]
        values += [self.state_root, self.trainers_root, promotions, keccak(b"".join(self.drops))]
        return struct_hash(_BODY_TYPE, ["uint64", "uint64", *["bytes32"] * 6], values)

    @property
    def head(self) -> Hash:
        """The head that the ledger records when this body is certified."""
        values = [self.previous_head, CERTIFICATE_HEAD, self.round, self.updates_root, self.state_root]
        changes = [(item.member, item.key) for item in self.promotions]
        return keccak(encode(_HEAD_TYPES, [*values, self.trainers_root, changes, list(self.drops)]))

    @property
    def is_empty(self) -> bool:
        """Whether the round ended without any update."""
        return self.updates_root == ZERO_HASH


def _promotion_hash(promotion: Promotion) -> Hash:
    return struct_hash(_PROMOTION_TYPE, ["bytes32", "address"], [promotion.member, promotion.key])


def roll_call_head(previous: Hash, round_number: int, state_root: Hash, drops: Sequence[MemberId]) -> Hash:
    """The head that a closed roll call makes: an empty round without those who did not check in."""
    values = [previous, ROLL_CALL_HEAD, round_number, ZERO_HASH, state_root, ZERO_HASH, [], list(drops)]
    return keccak(encode(_HEAD_TYPES, values))


class Genesis(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything that the first link of a run's chain commits to; ``parent_*`` are zero for a run of its own."""

    chain_id: int
    registry: Address
    run: int
    recipe_hash: Hash
    state_root: Hash
    data_hash: Hash
    tokenizer_hash: Hash
    parent_run: int = 0
    parent_round: int = 0
    parent_head: Hash = ZERO_HASH

    @property
    def head(self) -> Hash:
        """The genesis head, as the contract computes it."""
        types = ["string", "uint256", "address", "uint64", *["bytes32"] * 4, "uint64", "uint64", "bytes32"]
        return keccak(
            encode(types, ["distrai/genesis/1", *(getattr(self, name) for name in self.__struct_fields__)])
        )


def start_head(genesis_head: Hash, seats: Sequence[tuple[MemberId, Address]]) -> Hash:
    """The first head: ``seats`` are (member, key), sorted by member."""
    types = ["bytes32", "string", "bytes32[]", "address[]"]
    members, keys = [member for member, _ in seats], [key for _, key in seats]
    return keccak(encode(types, [genesis_head, "distrai/start/1", members, keys]))


def has_quorum(signatures: int, seats: int) -> bool:
    """Whether so many signatures certify: the same expression as in the contract."""
    return seats >= 1 and 3 * signatures >= 2 * seats


def quorum(seats: int) -> int:
    """The smallest number of seats that is a quorum: ceil(2/3 seats), at least one."""
    return max(1, -(-2 * seats // 3))


def check_body(body: Body) -> None:
    """Raise if the fields of a body that came from outside have wrong sizes, or its lists are not sorted sets."""
    hashes = (body.previous_head, body.updates_root, body.state_root, body.trainers_root, *body.drops)
    if (
        any(len(item) != HASH_SIZE for item in hashes)
        or not 0 < body.round < 1 << 64
        or not 0 <= body.run < 1 << 64
    ):
        raise MalformedMessage("a body has hashes of 32 bytes, and a run and round of 64 bits")
    if any(len(item.member) != HASH_SIZE or len(item.key) != ADDRESS_SIZE for item in body.promotions):
        raise MalformedMessage("a promotion is a member of 32 bytes and a key of 20")
    if max(len(body.promotions), len(body.drops)) > CHANGES_MAX:
        raise MalformedMessage(f"a body promotes and drops at most {CHANGES_MAX} members")
    promoted = [item.member for item in body.promotions]
    for members in (promoted, list(body.drops)):
        if any(first >= second for first, second in pairwise(members)):
            raise UnsortedList("promotions and drops are sorted by member, each once")
