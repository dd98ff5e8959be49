from dataclasses import replace
from functools import partial

import pytest
from coincurve import PrivateKey

from distrai.network.interface import Endpoint
from distrai.network.records import RECORD_BYTES_MAX, EndpointRecord, open_record, seal_record
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.errors import BadSignature, MalformedMessage, MessageTooLarge, NotCanonical
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.signatures import address_of, recover, sign
from distrai.protocol.typed_data import Domain

KEY = PrivateKey((7).to_bytes(32, "big"))
MEMBER = MemberId(b"m" * 32)
DOMAIN = Domain(31337, Address(b"r" * 20))
RECORD = EndpointRecord(
    run=3,
    member=MEMBER,
    sequence=5,
    urls=("https://192.0.2.1:8000", "https://peer.example:1", "s3+https://store.example/bucket"),
    fingerprint=b"f" * 32,
)


def test_a_record_comes_back_with_its_signer() -> None:
    raw = seal_record(RECORD, DOMAIN, partial(sign, KEY))
    record, signer = open_record(raw, DOMAIN, recover)
    assert (record, signer) == (RECORD, address_of(KEY.public_key))
    assert record.endpoint(signer) == Endpoint(MEMBER, signer, RECORD.urls, RECORD.fingerprint)


@pytest.mark.parametrize("other", [replace(DOMAIN, chain_id=1), replace(DOMAIN, registry=Address(b"s" * 20))])
def test_a_record_of_one_registry_and_chain_is_nobodys_on_another(other: Domain) -> None:
    """The same run number and the same member may be there: the signature is not that member's."""
    raw = seal_record(RECORD, DOMAIN, partial(sign, KEY))
    assert open_record(raw, other, recover)[1] != address_of(KEY.public_key)


def test_the_longest_record_is_within_the_limit() -> None:
    urls = tuple(f"https://{'h' * 240}.{n}:65535"[:256] for n in range(4))
    record = EndpointRecord(
        run=2**64 - 1, member=MEMBER, sequence=2**64 - 1, urls=urls, fingerprint=b"f" * 32
    )
    assert len(seal_record(record, DOMAIN, partial(sign, KEY))) <= RECORD_BYTES_MAX


def test_any_changed_bit_changes_signer_or_is_refused() -> None:
    raw = seal_record(RECORD, DOMAIN, partial(sign, KEY))
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        try:
            _, signer = open_record(changed, DOMAIN, recover)
        except (BadSignature, MalformedMessage, NotCanonical):
            continue
        assert signer != address_of(KEY.public_key)


@pytest.mark.parametrize(
    "record",
    [
        EndpointRecord(run=1, member=MemberId(b"short"), sequence=1, urls=()),
        EndpointRecord(run=1, member=MemberId(b"m" * 32), sequence=1, urls=("u",) * 5),
        EndpointRecord(run=1, member=MemberId(b"m" * 32), sequence=1, urls=("u" * 257,)),
        EndpointRecord(run=1, member=MemberId(b"m" * 32), sequence=1, urls=("",)),
        EndpointRecord(run=1, member=MEMBER, sequence=1, urls=(), fingerprint=b"short"),
        EndpointRecord(run=1, member=MEMBER, sequence=1, urls=("https://192.0.2.1:1",)),
        EndpointRecord(run=1, member=MEMBER, sequence=1, urls=("https://127.0.0.1:1",)),
        EndpointRecord(run=1, member=MEMBER, sequence=1, urls=("http://192.0.2.1:1",), fingerprint=b"f" * 32),
        EndpointRecord(run=1, member=MEMBER, sequence=1, urls=("http://10.0.0.1:1",)),
        EndpointRecord(run=1, member=MEMBER, sequence=1, urls=("http://peer.example:1",)),
        EndpointRecord(run=1, member=MEMBER, sequence=1, urls=("https://0.0.0.0:1",), fingerprint=b"f" * 32),
        EndpointRecord(run=1, member=MEMBER, sequence=1, urls=("https://[::]:1",), fingerprint=b"f" * 32),
        EndpointRecord(run=1, member=MEMBER, sequence=1, urls=("HTTP://192.0.2.1:1",)),
        EndpointRecord(run=1, member=MEMBER, sequence=1, urls=("http://[::1",)),
        EndpointRecord(run=-1, member=MemberId(b"m" * 32), sequence=1, urls=()),
        EndpointRecord(run=1, member=MemberId(b"m" * 32), sequence=-1, urls=()),
    ],
)
def test_records_that_make_no_sense_are_refused_on_both_sides(record: EndpointRecord) -> None:
    with pytest.raises(MalformedMessage):
        seal_record(record, DOMAIN, partial(sign, KEY))
    with pytest.raises(MalformedMessage):
        open_record(encode_canonical([encode_canonical(record), bytes(65)]), DOMAIN, recover)


def test_a_record_is_small() -> None:
    with pytest.raises(MessageTooLarge):
        open_record(bytes(RECORD_BYTES_MAX + 1), DOMAIN, recover)
