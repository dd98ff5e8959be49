"""Which objects go into the one packet that answers a digest."""

from collections.abc import Iterable, Sequence

from distrai.protocol.messages import OBJECTS_PER_PACKET_MAX, PACKET_BYTES_MAX

ANSWER_BYTES_MAX = PACKET_BYTES_MAX - (96 << 10)
"""Bytes of the objects of an answer: the packet has records of endpoints too."""


def choose_answer(lacking: Sequence[bytes], chance: int) -> list[bytes]:
    """As many of ``lacking`` as one packet carries, in their order.

    Half of it are the first ones, the rest starts anywhere (``chance`` says where): liars could fill the whole with
    what the asker will never keep, or with objects so large that few of them fit.
    """
    count, size = OBJECTS_PER_PACKET_MAX, ANSWER_BYTES_MAX
    everything = range(len(lacking))
    chosen = _fitting(lacking, everything, count, size)
    if len(chosen) < len(lacking):
        chosen = _fitting(lacking, everything, count // 2, size // 2)
        rest = [index for index in everything if index not in chosen]
        start = chance % len(rest)
        chosen |= _fitting(lacking, rest[start:] + rest[:start], count // 2, size // 2)
    return [lacking[index] for index in sorted(chosen)]


def _fitting(raws: Sequence[bytes], order: Iterable[int], count: int, size: int) -> set[int]:
    """The first indices of ``order`` whose objects fit."""
    chosen: set[int] = set()
    for index in order:
        if len(chosen) == count:
            break
        if len(raws[index]) <= size:
            chosen.add(index)
            size -= len(raws[index])
    return chosen
