"""How a node shows, over HTTP, that it holds its node key, and that a message is its own."""

import secrets
from collections import OrderedDict
from collections.abc import Callable

from distrai.protocol.blobs import chunk_hash
from distrai.protocol.errors import BadSignature
from distrai.protocol.keccak import tagged_hash
from distrai.protocol.primitives import ADDRESS_SIZE, SIGNATURE_SIZE, Address, Hash, SignatureBytes

Sign = Callable[[Hash], SignatureBytes]
Recover = Callable[[Hash, bytes], Address]

PURPOSE_HEADER = "X-Distrai-Purpose"
DELIVERY_HEADER = "X-Distrai-Delivery"
NONCE_SIZE = 16
_REMEMBERED = 8192
"""Deliveries that are remembered, so that nobody can deliver them again in their sender's name."""


def challenge_digest(nonce: bytes, address: Address, fingerprint: bytes = b"") -> Hash:
    """What a node signs to show that it holds the key of ``address``, and that a TLS certificate is its own.

    ``fingerprint`` is empty where there is no TLS. Whoever passes a challenge on gets an answer that names another
    certificate than its own, and cannot go on from there.
    """
    return tagged_hash("challenge", nonce + address + fingerprint)


def seal_delivery(message: bytes, sender: Address, receiver: Address, sign: Sign) -> str:
    """The header that goes with a message: nonce, sender, and a signature over nonce, receiver and message."""
    nonce = secrets.token_bytes(NONCE_SIZE)
    return (nonce + sender + sign(_digest(nonce, receiver, message))).hex()


class Deliveries:
    """Checks who delivers messages to one node, and that nothing is delivered twice."""

    def __init__(self, receiver: Address, recover: Recover) -> None:
        self._receiver, self._recover = receiver, recover
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def sender(self, header: str, message: bytes) -> Address:
        """Who delivers this message to us. Raises BadSignature."""
        try:
            raw = bytes.fromhex(header)
        except ValueError:
            raise BadSignature("the delivery header is no hex text") from None
        if len(raw) != NONCE_SIZE + ADDRESS_SIZE + SIGNATURE_SIZE:
            raise BadSignature("a delivery header is a nonce, an address and a signature")
        nonce, rest = raw[:NONCE_SIZE], raw[NONCE_SIZE:]
        claimed = Address(rest[:ADDRESS_SIZE])
        if self._recover(_digest(nonce, self._receiver, message), rest[ADDRESS_SIZE:]) != claimed:
            raise BadSignature("this delivery is not by the node that it names, or not for this node")
        key = nonce + claimed
        if key in self._seen:
            raise BadSignature("this message was delivered before")
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return claimed


def _digest(nonce: bytes, receiver: Address, message: bytes) -> Hash:
    return tagged_hash("delivery", nonce + receiver + chunk_hash(message))
