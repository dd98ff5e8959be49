from functools import partial

import pytest
from coincurve import PrivateKey

from distrai.network.records import RECORD_BYTES_MAX, EndpointRecord, open_record, seal_record
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.errors import BadSignature, MalformedMessage, MessageTooLarge, NotCanonical
from distrai.protocol.primitives import MemberId
from distrai.protocol.signatures import address_of, recover, sign

KEY = PrivateKey((7).to_bytes(32, "big"))
RECORD = EndpointRecord(run=3, member=MemberId(b"m" * 32), sequence=5, urls=("http://192.0.2.1:8000",))


def test_a_record_comes_back_with_its_signer() -> None:
    raw = seal_record(RECORD, partial(sign, KEY))
    record, signer = open_record(raw, recover)
    assert (record, signer) == (RECORD, address_of(KEY.public_key))
    assert record.endpoint(signer).urls == RECORD.urls


def test_any_changed_bit_changes_signer_or_is_refused() -> None:
    raw = seal_record(RECORD, partial(sign, KEY))
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        try:
            _, signer = open_record(changed, recover)
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
        EndpointRecord(run=-1, member=MemberId(b"m" * 32), sequence=1, urls=()),
        EndpointRecord(run=1, member=MemberId(b"m" * 32), sequence=-1, urls=()),
    ],
)
def test_records_that_make_no_sense_are_refused_on_both_sides(record: EndpointRecord) -> None:
    with pytest.raises(MalformedMessage):
        seal_record(record, partial(sign, KEY))
    with pytest.raises(MalformedMessage):
        open_record(encode_canonical([encode_canonical(record), bytes(65)]), recover)


def test_a_record_is_small() -> None:
    with pytest.raises(MessageTooLarge):
        open_record(bytes(RECORD_BYTES_MAX + 1), recover)
