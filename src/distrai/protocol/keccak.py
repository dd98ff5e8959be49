"""Keccak-256, the hash of the ledger."""

from eth_hash.auto import keccak as _keccak

from distrai.protocol.primitives import Hash


def keccak(data: bytes) -> Hash:
    """Keccak-256 of ``data``."""
    return Hash(_keccak(data))


def tagged_hash(kind: str, data: bytes) -> Hash:
    """The hash of a message of ``kind``: keccak over the tag and the received bytes."""
    return keccak(f"distrai/{kind}/1".encode() + data)
