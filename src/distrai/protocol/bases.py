"""The heads that an update may start from, and what was listed already.

Where the recipe allows a staleness S, an update made from one certified state may be listed in any of the S + 1 rounds
after it, once. All of this follows from certified lists, never from what a peer happened to hear.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from distrai.protocol.lists import Trainer
from distrai.protocol.messages import Update
from distrai.protocol.primitives import Address, Hash, MemberId

Spent = frozenset[tuple[MemberId, int]]
"""Whose update of which base round was listed, as far as it could be listed again otherwise."""


@dataclass(frozen=True)
class Base:
    """A head with its state, and who trains from it. ``round`` is the number of rounds that were over."""

    round: int
    head: Hash
    state_root: Hash
    trainers: tuple[Trainer, ...]

    def trainer_key(self, member: MemberId) -> Address | None:
        """The key that signs the updates of ``member`` from here, or None if it is no trainer."""
        return next((trainer.key for trainer in self.trainers if trainer.member == member), None)


def younger(bases: Iterable[Base], number: int, staleness: int) -> tuple[Base, ...]:
    """Those of ``bases`` whose updates may be listed in the round after round ``number``, too."""
    return tuple(base for base in bases if base.round >= number - staleness)


def spent_after(spent: Spent, listed: Iterable[Update], number: int, staleness: int) -> Spent:
    """What may not be listed again once the list of round ``number`` landed; what is too old anyway is forgotten."""
    pairs = spent | {(update.member, update.base_round) for update in listed}
    return frozenset(pair for pair in pairs if pair[1] >= number - staleness)
