"""Signing EIP-1559 transactions with a NodeKey, so that no other code ever holds the key."""

from dataclasses import dataclass

import rlp  # type: ignore[import-untyped]

from distrai.ledger.keys import NodeKey
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import Address, Hash

_TYPE = b"\x02"


@dataclass(frozen=True)
class Transaction:
    """A transaction before it is signed; ``to`` None creates a contract. Fees are in wei per gas."""

    chain_id: int
    nonce: int
    gas: int
    to: Address | None
    data: bytes
    fee_max: int = 0
    tip_max: int = 0
    value: int = 0

    def sign(self, key: NodeKey) -> tuple[bytes, Hash]:
        """(raw bytes, transaction hash)."""
        fields: list[object] = [self.chain_id, self.nonce, self.tip_max, self.fee_max, self.gas]
        fields += [self.to or b"", self.value, self.data, []]
        signature = key.sign(keccak(_TYPE + rlp.encode(fields)))
        r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
        raw = _TYPE + rlp.encode([*fields, signature[64] - 27, r, s])
        return raw, keccak(raw)
