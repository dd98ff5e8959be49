"""Keccak-256, the hash of the ledger."""

from collections.abc import Callable

from eth_hash.auto import keccak as _keccak

from distrai.protocol.primitives import Hash

hash_bytes: Callable[[bytes], bytes] = _keccak
"""The hash function itself."""


def keccak(data: bytes) -> Hash:
    """Keccak-256 of ``data``."""
    return Hash(hash_bytes(data))


def tagged_hash(kind: str, data: bytes) -> Hash:
    """The hash of a message of ``kind``: keccak over the tag and the received bytes."""
    return keccak(f"distrai/{kind}/1".encode() + data)
