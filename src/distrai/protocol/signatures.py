"""secp256k1 signatures as the ledger checks them: recoverable, 65 bytes, low s."""

from coincurve import PrivateKey, PublicKey

from distrai.protocol.errors import BadSignature
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import SIGNATURE_SIZE, Address, Hash, SignatureBytes

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def address_of(public_key: PublicKey) -> Address:
    """The EVM address of a public key."""
    return Address(keccak(public_key.format(compressed=False)[1:])[12:])


def sign(private_key: PrivateKey, digest: Hash) -> SignatureBytes:
    """Sign ``digest`` (RFC 6979: the same key and digest always give the same bytes)."""
    raw = private_key.sign_recoverable(digest, hasher=None)
    return SignatureBytes(raw[:64] + bytes([27 + raw[64]]))


def recover(digest: Hash, signature: bytes) -> Address:
    """Whose signature this is. Raises BadSignature if it is nobody's, or not in its one accepted form."""
    if len(signature) != SIGNATURE_SIZE or signature[64] not in (27, 28):
        raise BadSignature("a signature is 65 bytes: r, s, and v of 27 or 28")
    if int.from_bytes(signature[32:64], "big") > _ORDER // 2:
        raise BadSignature("the signature's s is high: the same signature has another form, which is refused")
    try:
        public = PublicKey.from_signature_and_message(
            signature[:64] + bytes([signature[64] - 27]), digest, hasher=None
        )
    except Exception as error:  # coincurve raises bare Exception for what libsecp256k1 refuses
        raise BadSignature("the signature is not a point of secp256k1") from error
    return address_of(public)
