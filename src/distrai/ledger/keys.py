"""Node keys: secp256k1, in encrypted keystore files (Web3 Secret Storage, version 3).

A key never leaves its ``NodeKey``: it signs digests, and agrees on a secret with another key. It has no text form,
cannot be copied into another process by pickling, and is written to disk only encrypted, readable by its owner alone.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any, NoReturn

from blake3 import blake3
from coincurve import PrivateKey

from distrai.ledger.locks import FileLock
from distrai.protocol.keccak import tagged_hash
from distrai.protocol.primitives import Address, Hash, SignatureBytes
from distrai.protocol.signatures import address_of, sign

_LIGHT_SCRYPT_N = 1 << 12
_STANDARD_SCRYPT_N = 1 << 18
_KEYSTORE_BYTES_MAX = 64 << 10
_OTHERS = 0o077
_SECRET_SIZE = 32


class KeyFileError(ValueError):
    """A keystore file cannot be used as it is; the message says what to do."""


class KeyExists(KeyFileError):
    """There is a keystore file at this path already, and it is not overwritten."""


class NoSuchKey(KeyFileError):
    """There is no keystore file at this path."""


class KeyReadableByOthers(KeyFileError):
    """A keystore file may be read by other users of this machine."""


class BadKeystore(KeyFileError):
    """The file is no keystore of version 3."""


class WrongPassword(KeyFileError):
    """The password does not open this keystore."""


class NodeKey:
    """A secp256k1 key that signs for a member."""

    __slots__ = ("_key", "address")

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)
        self.address: Address = address_of(self._key.public_key)

    @classmethod
    def generate(cls) -> "NodeKey":
        """A new key from the system's randomness."""
        return cls(PrivateKey().secret)

    def sign(self, digest: Hash) -> SignatureBytes:
        """65 bytes r, s (low), v (27 or 28) over a 32-byte digest."""
        return sign(self._key, digest)

    def secret(self, purpose: str) -> bytes:
        """32 bytes that only the holder of this key can make, the same every time.

        Made from a signature (RFC 6979: deterministic) of something that is signed for nobody, and that is never told.
        """
        return blake3(self.sign(tagged_hash("own-secret", purpose.encode()))).digest()

    @property
    def public_key(self) -> bytes:
        """The public key: 33 bytes, compressed."""
        return bytes(self._key.public_key.format(compressed=True))

    def shared_secret(self, public_key: bytes) -> bytes:
        """32 bytes that only this key and that of ``public_key`` can make. Raises ValueError for no point.

        SHA-256 of the compressed point that both keys give (ECDH as libsecp256k1 does it).
        """
        return bytes(self._key.ecdh(public_key))

    def keystore(self, password: str, *, light: bool) -> dict[str, Any]:
        """The key, encrypted with ``password``. ``light``: milliseconds to open, for keys that guard nothing."""
        from eth_keyfile.keyfile import create_keyfile_json

        work = _LIGHT_SCRYPT_N if light else _STANDARD_SCRYPT_N
        keystore: dict[str, Any] = create_keyfile_json(
            self._key.secret, password.encode(), kdf="scrypt", iterations=work
        )
        return keystore

    def __repr__(self) -> str:
        return f"NodeKey(0x{self.address.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a NodeKey stays in its process: give the other one the path of the keystore")


def create_key(path: Path, password: str = "") -> NodeKey:
    """Make a new key and its keystore file (0600). Raises KeyExists.

    An empty password means a throw-away key of this machine; it gets the light work factor.
    """
    key = NodeKey.generate()
    save_key(key, path, password)
    return key


def save_key(key: NodeKey, path: Path, password: str = "") -> None:
    """Write ``key`` to a new keystore file (0600), whole or not at all. Raises KeyExists."""
    content = json.dumps(key.keystore(password, light=not password)).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
        _sync_folder(path.parent)
    except FileExistsError:
        raise KeyExists(f"{path} exists: use that key, or choose another path") from None
    finally:
        temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """A key that signed something must not be lost with the power: the folder's entry has to be on disk as well."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_key(path: Path, password: str = "") -> NodeKey:
    """Open a keystore file. Raises a KeyFileError that says what is wrong and what to do."""
    from eth_keyfile.keyfile import decode_keyfile_json

    keystore = _read_keystore(path)
    try:
        secret = decode_keyfile_json(keystore, password.encode())
    except ValueError as error:
        if "mac" in str(error).lower():
            raise WrongPassword(f"the password does not open {path}") from None
        raise BadKeystore(f"{path} is not a keystore of version 3: {error}") from None
    except (KeyError, TypeError, NotImplementedError) as error:
        raise BadKeystore(f"{path} is not a keystore of version 3: {error!r}") from None
    if len(secret) != _SECRET_SIZE:
        raise BadKeystore(f"{path} does not hold a key of {_SECRET_SIZE} bytes")
    return NodeKey(secret)


def _read_keystore(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise KeyReadableByOthers(
                    f"other users may read {path}: chmod 600 it, and renew the key if they did"
                )
            content = file.read(_KEYSTORE_BYTES_MAX)
    except FileNotFoundError:
        raise NoSuchKey(f"there is no key at {path}: create one first") from None
    try:
        keystore = json.loads(content)
    except ValueError:
        raise BadKeystore(f"{path} is not JSON") from None
    if not isinstance(keystore, dict):
        raise BadKeystore(f"{path} is not a keystore of version 3")
    return keystore


def read_password(path: Path | None) -> str:
    """The first line of a password file; empty without one (a password is never an argument)."""
    if path is None:
        return ""
    return path.read_text().partition("\n")[0].rstrip("\r")


def key_lock(path: Path) -> FileLock:
    """The lock of a keystore file: whoever signs with the key holds it, so that no two processes do."""
    return FileLock(path.with_name(path.name + ".lock"), f"the key {path}")
