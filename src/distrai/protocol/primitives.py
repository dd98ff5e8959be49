"""The few byte-string types that every message, hash and event is made of."""

from typing import NewType

Hash = NewType("Hash", bytes)
"""32 bytes: a keccak-256 or BLAKE3 digest."""
Address = NewType("Address", bytes)
"""20 bytes: an EVM address, that is, the last bytes of the hash of a secp256k1 public key."""
MemberId = NewType("MemberId", bytes)
"""32 bytes: the permanent id of a member, given by the registry."""
SignatureBytes = NewType("SignatureBytes", bytes)
"""65 bytes: r, s (low) and v (27 or 28)."""

HASH_SIZE = 32
ADDRESS_SIZE = 20
SIGNATURE_SIZE = 65
ZERO_HASH = Hash(bytes(HASH_SIZE))
"""Stands for "nothing here": an empty list, no parent, tracing off."""
