"""The one fault that costs stake at once: two different Updates of a member where one may exist.

``StakeManager.slash`` decides the same from the same fields, so a peer that finds a pair knows beforehand what the
ledger will say. Who signed is not judged here: a message that was opened as the member's has a key of the member.
"""

from dataclasses import astuple, dataclass

from eth_abi.abi import encode

from distrai.protocol.keccak import keccak
from distrai.protocol.messages import Update
from distrai.protocol.primitives import Hash, MemberId

_PLACE_WORDS = ["uint64", "uint64", "bytes32", "bytes32", "uint64", "uint32"]


@dataclass(frozen=True)
class Place:
    """Where a member may sign one Update, in the order of the contract's struct.

    The head before is part of it: after a reorg an honest member trains, and signs, under the other head, too.
    """

    run: int
    round: int
    previous_head: Hash
    member: MemberId
    base_round: int
    fragment: int

    @property
    def id(self) -> Hash:
        """How the ledger names it: one place is punished once."""
        return keccak(encode(_PLACE_WORDS, astuple(self)))


def place_of(update: Update) -> Place:
    """Where an Update stands."""
    return Place(
        update.run, update.round, update.previous_head, update.member, update.base_round, update.fragment
    )


def is_fault(first: Update, second: Update) -> bool:
    """Whether two Updates, each signed by the member that it names, cost that member stake."""
    return place_of(first) == place_of(second) and first.identity(b"") != second.identity(b"")
