"""Where a member says it can be reached: a short record signed by its node key, which peers pass on.

Of two records of one member the one with the greater sequence number counts; no clock is involved. The ledger
holds only a run's first addresses, so nobody's address stays public for ever.

A record counts on one registry of one chain alone: that is part of what is signed. It also certifies the member's TLS
key, so that whoever has the record accepts no other certificate at these URLs.
"""

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from distrai.network.interface import Endpoint
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.errors import MalformedMessage, MessageTooLarge
from distrai.protocol.keccak import tagged_hash
from distrai.protocol.primitives import HASH_SIZE, Address, Hash, MemberId, SignatureBytes
from distrai.protocol.typed_data import Domain

RECORD_BYTES_MAX = 2 << 10
URLS_MAX = 4
URL_CHARACTERS_MAX = 256
_KIND = "endpoint"


class EndpointRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The addresses of one member in one run. ``sequence`` grows with every new record of that member.

    ``fingerprint``: SHA-256 of the TLS certificate (DER) behind its https URLs; empty only where there is none of them,
    as in a run that stays on one machine. URLs of other kinds, such as buckets', may stand beside.
    """

    run: int
    member: MemberId
    sequence: int
    urls: tuple[str, ...]
    fingerprint: bytes = b""

    def endpoint(self, signer: Address) -> Endpoint:
        """The endpoint that this record describes, once its signer is known to be the member's node key."""
        return Endpoint(self.member, signer, self.urls, self.fingerprint)


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    body: bytes
    signature: SignatureBytes


def seal_record(record: EndpointRecord, domain: Domain, sign: Callable[[Hash], SignatureBytes]) -> bytes:
    """Encode and sign a record. Raises MalformedMessage if nobody would accept it."""
    _check(record)
    body = encode_canonical(record)
    return encode_canonical(_Envelope(body, sign(_digest(domain, body))))


def open_record(
    raw: bytes, domain: Domain, recover: Callable[[Hash, bytes], Address]
) -> tuple[EndpointRecord, Address]:
    """A record and who signed it; whether that is the member's node key is for the caller to check.

    Raises MessageTooLarge, MalformedMessage, NotCanonical or BadSignature.
    """
    if len(raw) > RECORD_BYTES_MAX:
        raise MessageTooLarge(f"a record of endpoints has at most {RECORD_BYTES_MAX} bytes, not {len(raw)}")
    envelope = decode_canonical(raw, _Envelope)
    record = decode_canonical(envelope.body, EndpointRecord)
    _check(record)
    return record, recover(_digest(domain, envelope.body), envelope.signature)


def _digest(domain: Domain, body: bytes) -> Hash:
    """What is signed: under the domain of another registry or chain somebody else seems to have signed it."""
    return domain.digest(tagged_hash(_KIND, body))


def _check(record: EndpointRecord) -> None:
    if len(record.member) != HASH_SIZE:
        raise MalformedMessage(f"a member is named by {HASH_SIZE} bytes, not {len(record.member)}")
    if not (0 <= record.run < 2**64 and 0 <= record.sequence < 2**64):
        raise MalformedMessage("run and sequence number are integers of 64 bits")
    if len(record.urls) > URLS_MAX or any(not 0 < len(url) <= URL_CHARACTERS_MAX for url in record.urls):
        raise MalformedMessage(f"a member has at most {URLS_MAX} URLs of {URL_CHARACTERS_MAX} characters")
    if len(record.fingerprint) not in (0, HASH_SIZE):
        raise MalformedMessage(f"a fingerprint has {HASH_SIZE} bytes, not {len(record.fingerprint)}")
    for url in record.urls:
        _check_url(url, record.fingerprint)


def _check_url(url: str, fingerprint: bytes) -> None:
    """What leads to a peer over the network is certified; other kinds of URLs are not this module's affair."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise MalformedMessage(f"{url!r} is no URL") from None
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        address = None
    if parts.scheme == "https" and not fingerprint:
        raise MalformedMessage(f"{url!r} needs the fingerprint of its certificate beside it")
    if parts.scheme == "http" and not (address.is_loopback if address else host == "localhost"):
        raise MalformedMessage(f"{url!r} is plain HTTP to another machine")
    if address is not None and address.is_unspecified:
        raise MalformedMessage(f"{url!r} is no address that anybody could reach")
