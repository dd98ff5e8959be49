"""A keyed permutation of the sample indices: everybody reads the data in the same shuffled order, without a table.

A balanced Feistel network over the next even power of two, walked until it lands inside (Black and Rogaway, "Ciphers
with arbitrary finite domains", 2002). The round function is keyed BLAKE3.
"""

from blake3 import blake3

from distrai.protocol.primitives import Hash

_ROUNDS = 6


def _mix(key: Hash, tweak: int, step: int, value: int) -> int:
    data = tweak.to_bytes(8, "little") + step.to_bytes(1, "little") + value.to_bytes(8, "little")
    return int.from_bytes(blake3(data, key=key).digest(8), "little")


def permute(index: int, size: int, key: Hash, tweak: int) -> int:
    """Where ``index`` (below ``size``) goes in the permutation named by ``key`` and ``tweak`` (the pass)."""
    assert 0 <= index < size
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for step in range(_ROUNDS):
            left, right = right, left ^ (_mix(key, tweak, step, right) & mask)
        index = left << half | right
        if index < size:
            return index
