"""Files encrypted to one secp256k1 key, the key of who had a model trained (docs/models.md has the format).

ECIES: an own key pair for each file, the secret that it shares with the owner's key, HKDF-SHA256 to a key of
AES-256-GCM, and blocks of 1 MiB whose nonces count them and mark the last one. The file's path is authenticated with
every block. So a file that was cut, reordered, put under another path or changed in any bit is refused.
"""

from collections.abc import Iterator
from typing import IO, Any

from coincurve import PrivateKey
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from distrai.ledger.keys import NodeKey

SEALED = ".sealed"
"""How the name of an encrypted file ends."""
MAGIC = b"DisTrAI sealed 1"
BLOCK = 1 << 20
_POINT, _TAG, _COUNTER = 33, 16, 11
_INFO = b"distrai/sealed/1"


class WrongKey(ValueError):
    """A file was encrypted to another key, or is not as it was encrypted."""


def seal(reading: Any, writing: IO[bytes], owner: bytes, name: str) -> None:
    """Encrypt a file to the public key ``owner`` (33 bytes, compressed); ``name`` is its path in the model."""
    own = PrivateKey()
    point = own.public_key.format(compressed=True)
    cipher = _cipher(own.ecdh(owner), point, owner)
    writing.write(MAGIC + point)
    for nonce, block in _numbered(_blocks(reading, BLOCK)):
        writing.write(cipher.encrypt(nonce, block, name.encode()))


def unseal(reading: Any, writing: Any, key: NodeKey, name: str, size_max: int) -> None:
    """Decrypt a file of at most ``size_max`` bytes. Raises WrongKey; what was written until then is worth nothing."""
    head = _exactly(reading, len(MAGIC) + _POINT)
    if not head.startswith(MAGIC) or len(head) != len(MAGIC) + _POINT:
        raise WrongKey(f"{name} is not encrypted as DisTrAI does it")
    point = head[len(MAGIC) :]
    try:
        secret = key.shared_secret(point)
    except ValueError:
        raise WrongKey(
            f"{name} is not encrypted as DisTrAI does it: it names no point of the curve"
        ) from None
    cipher, left = _cipher(secret, point, key.public_key), size_max
    for nonce, block in _numbered(_blocks(reading, BLOCK + _TAG)):
        try:
            plain = cipher.decrypt(nonce, block, name.encode())
        except InvalidTag:
            raise WrongKey(f"{name} was encrypted to another key, or was changed since") from None
        left -= len(plain)
        if left < 0:
            raise WrongKey(f"{name} is longer than it may be")
        writing.write(plain)


def _cipher(secret: bytes, point: bytes, owner: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt=point + owner, info=_INFO).derive(secret))


def _numbered(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Each block with its nonce: its number, and a last byte that is 1 for the last one."""
    number, block = 0, next(blocks, b"")
    for following in blocks:
        yield number.to_bytes(_COUNTER, "big") + b"\0", block
        number, block = number + 1, following
    yield number.to_bytes(_COUNTER, "big") + b"\1", block


def _blocks(reading: Any, size: int) -> Iterator[bytes]:
    while block := _exactly(reading, size):
        yield block


def _exactly(reading: Any, size: int) -> bytes:
    """So many bytes, or all that are left: some files give fewer than they are asked for."""
    found = b""
    while len(found) < size and (more := reading.read(size - len(found))):
        found += more
    return found
