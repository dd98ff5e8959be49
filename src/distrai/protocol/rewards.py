"""What members earn: a pure function of certified lists and of what the ledger says about a run's pot.

A fixed price for each accepted token, at most a cap for each member and round. Amounts are kept in millionths of a base
unit, so that nothing is lost to rounding however rounds are cut into epochs; leaves are whole base units. Every peer
computes the same before it signs; ``contracts/src/RewardsDistributor.sol`` checks what it can.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

import msgspec
from eth_abi.abi import encode

from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.errors import MalformedMessage, UnsortedList
from distrai.protocol.lists import CertifiedList
from distrai.protocol.merkle import leaf_hash, merkle_proof, merkle_root
from distrai.protocol.primitives import HASH_SIZE, Hash, MemberId
from distrai.protocol.typed_data import Domain, struct_hash, type_hash

MILLION = 1_000_000
TABLE_BYTES_MAX = 16 << 20
"""Longest table that is read: about 300,000 members."""
AMOUNT_BITS = 160
"""Room for the millionths of what a contract can hold (128 bits)."""
_EARNED_END = MILLION << 128
"""So many millionths are more than a leaf can say."""
_LEAF_TYPES = ["uint256", "address", "uint64", "bytes32", "uint128"]
_EPOCH_TYPE = type_hash(
    "Epoch(uint64 run,uint32 epoch,uint64 lastRound,bytes32 head,bytes32 root,uint128 total,bytes32 dataHash,"
    "bytes32 previousRoot,uint32 kills)"
)
_EPOCH_WORDS = ["uint64", "uint32", "uint64", "bytes32", "bytes32", "uint128", "bytes32", "bytes32", "uint32"]


@dataclass(frozen=True)
class RewardTerms:
    """What a run pays: ``price`` base units for a million tokens, ``cap`` for a member and round at most.

    ``max_members`` may earn in one round; rounds faster than ``min_round_seconds`` do not raise what may be earned.
    """

    price: int
    cap: int
    max_members: int
    min_round_seconds: int

    @property
    def rate(self) -> int:
        """What a round costs at most."""
        return self.cap * self.max_members


@dataclass(frozen=True)
class HeadMark:
    """Where an epoch may end: a round, how many non-empty ones there were until then, the time of its head's block."""

    round: int
    worked: int
    time: int


@dataclass(frozen=True)
class Closing:
    """How a pot was closed: when, the last round that is paid, and its number among the non-empty ones at most."""

    time: int
    last_round: int
    worked_max: int


@dataclass(frozen=True)
class Allowance:
    """The rounds in which the run's owner lets a member earn; ``last_round`` None as long as it does."""

    member: MemberId
    first_round: int
    last_round: int | None = None

    def covers(self, round_number: int) -> bool:
        """Whether the member may earn in a round."""
        return self.first_round <= round_number and (
            self.last_round is None or round_number <= self.last_round
        )


@dataclass(frozen=True)
class WorkedRound:
    """A non-empty round, and the tokens that its certified list accepts from each member."""

    round: int
    tokens: Mapping[MemberId, int]


@dataclass(frozen=True)
class Earnings:
    """What each member earned since the pot was opened, in millionths of a base unit."""

    millionths: Mapping[MemberId, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def amounts(self) -> dict[MemberId, int]:
        """Whole base units of all that earned one, by member. They never fall from epoch to epoch."""
        whole = {member: self.millionths[member] // MILLION for member in sorted(self.millionths)}
        return {member: amount for member, amount in whole.items() if amount}

    @property
    def total(self) -> int:
        """The sum of all amounts: what an epoch's root declares."""
        return sum(self.amounts.values())


class Epoch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the seats sign about rewards; the distributor's address and chain are the domain.

    ``kills`` is how often epochs of the run were killed: what was signed before the last kill counts no more.
    """

    run: int
    epoch: int
    last_round: int
    head: Hash
    root: Hash
    total: int
    data_hash: Hash
    previous_root: Hash
    kills: int

    @property
    def id(self) -> Hash:
        """The EIP-712 struct hash."""
        return struct_hash(
            _EPOCH_TYPE, _EPOCH_WORDS, [getattr(self, name) for name in self.__struct_fields__]
        )


def accepted_tokens(certified: CertifiedList) -> dict[MemberId, int]:
    """The tokens of each member in a certified list; a member may have several updates in one.

    Those that checks relative to others give no weight are among them: such a check alone is no reason not to pay.
    """
    tokens: dict[MemberId, int] = {}
    for update in certified.updates:
        tokens[update.member] = tokens.get(update.member, 0) + update.tokens
    return tokens


def paid_rounds(terms: RewardTerms, since: HeadMark, until: HeadMark, closing: Closing | None = None) -> int:
    """How many of the non-empty rounds of an epoch are paid: as many as the contract allows the rate for."""
    worked, time = until.worked, until.time
    if closing is not None:
        worked = min(worked, closing.worked_max)
        time = min(time, closing.time + terms.min_round_seconds)
    return max(0, min(worked - since.worked, (time - since.time) // terms.min_round_seconds))


def settle(
    before: Earnings,
    rounds: Sequence[WorkedRound],
    terms: RewardTerms,
    *,
    paid: int,
    escrow: int,
    allowances: Sequence[Allowance],
    closing: Closing | None = None,
    forfeited: Collection[tuple[int, MemberId]] = (),
) -> Earnings:
    """The earnings after an epoch, from those before it.

    ``rounds`` are the epoch's non-empty rounds in order, of which the first ``paid`` count (``paid_rounds``).
    ``escrow`` is all that came into the pot less what went back, as of the epoch's last head: a round whose whole rate
    is not there earns nothing. ``forfeited`` are (round, member) that verdicts leave unpaid. Raises UnsortedList.
    """
    if any(first.round >= second.round for first, second in pairwise(rounds)):
        raise UnsortedList("the rounds of an epoch are in order, each once")
    earned = dict(before.millionths)
    spent = sum(earned.values())
    for work in rounds[:paid]:
        is_over = closing is not None and work.round > closing.last_round
        if is_over or spent + terms.rate * MILLION > escrow * MILLION:
            break
        for member in _earning(work, allowances):
            if (work.round, member) in forfeited:
                continue
            wage = min(work.tokens[member] * terms.price, terms.cap * MILLION)
            earned[member] = earned.get(member, 0) + wage
            spent += wage
    return Earnings(MappingProxyType(earned))


def _earning(work: WorkedRound, allowances: Sequence[Allowance]) -> list[MemberId]:
    """Who worked in a round and may earn in it."""
    allowed = {entry.member for entry in allowances if entry.covers(work.round)}
    return sorted(allowed & work.tokens.keys())


def reward_leaf(domain: Domain, run: int, member: MemberId, amount: int) -> Hash:
    """The leaf of a member with its cumulative amount; ``domain`` is the distributor's."""
    return leaf_hash(encode(_LEAF_TYPES, [domain.chain_id, domain.registry, run, member, amount]))


def rewards_root(domain: Domain, run: int, amounts: Mapping[MemberId, int]) -> Hash:
    """The root over all cumulative amounts; zero if nobody has earned anything."""
    return merkle_root(_leaves(domain, run, amounts))


def rewards_proof(
    domain: Domain, run: int, amounts: Mapping[MemberId, int], member: MemberId
) -> tuple[Hash, ...]:
    """What a member claims with. Raises ValueError if it has no amount."""
    if member not in amounts:
        raise ValueError(f"member {member.hex()[:12]} has earned nothing in this epoch")
    leaf = reward_leaf(domain, run, member, amounts[member])
    return merkle_proof(_leaves(domain, run, amounts), leaf)


def _leaves(domain: Domain, run: int, amounts: Mapping[MemberId, int]) -> list[Hash]:
    return [reward_leaf(domain, run, member, amount) for member, amount in amounts.items()]


class RewardTable(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What everybody earned until the end of an epoch, published: whoever lost everything can still claim with it.

    ``amounts`` are millionths of a base unit, of 20 bytes each, big-endian: who was not there before goes on from them,
    and the leaves are their whole base units.
    """

    run: int
    epoch: int
    members: tuple[MemberId, ...]
    amounts: tuple[bytes, ...]

    @property
    def earnings(self) -> Earnings:
        """What each member earned since the pot was opened."""
        pairs = zip(self.members, self.amounts, strict=True)
        return Earnings(MappingProxyType({member: int.from_bytes(amount, "big") for member, amount in pairs}))

    @property
    def blob(self) -> BlobRef:
        """Name and size of the bytes; the hash is the epoch's data hash."""
        return blob_ref(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The bytes of the blob."""
        return encode_canonical(self)


def reward_table(run: int, epoch: int, earnings: Earnings) -> RewardTable:
    """The table of these earnings, without those who earned nothing."""
    members = tuple(sorted(member for member, earned in earnings.millionths.items() if earned))
    amounts = tuple(earnings.millionths[member].to_bytes(AMOUNT_BITS // 8, "big") for member in members)
    return RewardTable(run, epoch, members, amounts)


def decode_reward_table(data: bytes) -> RewardTable:
    """Decode a table that came from outside. Raises MalformedMessage, NotCanonical or UnsortedList."""
    table = decode_canonical(data, RewardTable)
    is_sized = all(len(member) == HASH_SIZE for member in table.members) and all(
        len(amount) == AMOUNT_BITS // 8 and 0 < int.from_bytes(amount, "big") < _EARNED_END
        for amount in table.amounts
    )
    if not is_sized or len(table.members) != len(table.amounts):
        raise MalformedMessage(
            "a table of rewards has members of 32 bytes with amounts of 20, above zero and of no more than the ledger "
            "can pay"
        )
    if any(first >= second for first, second in pairwise(table.members)):
        raise UnsortedList("the members of a table of rewards are sorted, each once")
    return table
