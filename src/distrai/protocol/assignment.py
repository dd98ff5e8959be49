"""Who trains on what: a pure function of the head. Nobody chooses; no sample is read twice in a pass."""

from collections.abc import Sequence
from dataclasses import dataclass

from distrai.protocol.keccak import keccak
from distrai.protocol.permutation import permute
from distrai.protocol.primitives import Hash, MemberId


@dataclass(frozen=True)
class DataOrder:
    """The order in which a run reads its data: ``samples`` in the data set, shuffled anew in every pass by ``key``."""

    samples: int
    key: Hash

    def sample_at(self, position: int) -> int:
        """The sample index at a global position of the run's cursor."""
        turn, index = divmod(position, self.samples)
        return permute(index, self.samples, self.key, turn)


@dataclass(frozen=True)
class Block:
    """The consecutive positions of the cursor that one trainer reads in one round, in samples."""

    start: int
    length: int

    def step_positions(self, step: int, samples_per_step: int) -> range:
        """The positions of inner step ``step`` (from 0)."""
        first = self.start + step * samples_per_step
        assert step >= 0 and first + samples_per_step <= self.start + self.length
        return range(first, first + samples_per_step)


def slots(trainers: Sequence[MemberId], head: Hash) -> dict[MemberId, int]:
    """Which block each trainer gets: the order is drawn by the head that the round follows."""
    drawn = sorted(trainers, key=lambda member: keccak(head + member))
    return {member: slot for slot, member in enumerate(drawn)}


def assigned_block(
    member: MemberId, trainers: Sequence[MemberId], head: Hash, cursor: int, block_samples: int
) -> Block:
    """The block of ``member`` in the round that follows ``head``, where the cursor stands at ``cursor``."""
    return Block(cursor + slots(trainers, head)[member] * block_samples, block_samples)


def next_cursor(cursor: int, trainers: int, block_samples: int) -> int:
    """Where the cursor stands after a round, an empty one too."""
    return cursor + trainers * block_samples


def proposer(seats: Sequence[MemberId], round_number: int, attempt: int) -> MemberId:
    """Whose turn it is to propose in an attempt; ``seats`` are sorted."""
    return seats[(round_number + attempt) % len(seats)]
