"""Packets: what one transport message carries."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.errors import (
    MalformedMessage,
    MessageTooLarge,
    NotCanonical,
)
from distrai.protocol.messages import (
    OBJECTS_PER_PACKET_MAX,
    PACKET_BYTES_MAX,
    Packet,
    decode_packet,
    encode_packet,
)
from helpers.messages import hashes
from helpers.msgpack import spellings


@given(
    st.lists(st.binary(max_size=20), max_size=5), st.lists(hashes, max_size=5), st.lists(hashes, max_size=5)
)
def test_packets_read_back(envelopes: list[bytes], blobs: list[bytes], endpoints: list[bytes]) -> None:
    packet = Packet(tuple(envelopes), tuple(blobs), tuple(endpoints))
    assert decode_packet(encode_packet(packet)) == packet


@pytest.mark.parametrize("name", Packet.__struct_fields__)
def test_packets_carry_so_many_objects(name: str) -> None:
    most = msgspec.structs.replace(Packet(()), **{name: (b"x",) * OBJECTS_PER_PACKET_MAX})
    assert decode_packet(encode_packet(most)) == most
    over = msgspec.structs.replace(Packet(()), **{name: (b"x",) * (OBJECTS_PER_PACKET_MAX + 1)})
    with pytest.raises(MessageTooLarge, match="objects"):
        decode_packet(encode_packet(over))


def test_the_largest_packet() -> None:
    assert PACKET_BYTES_MAX == 320 * 1024
    empty = len(encode_packet(Packet((b"x" * 70_000,))))
    full = Packet((b"x" * (70_000 + PACKET_BYTES_MAX - empty),))
    assert len(encode_packet(full)) == PACKET_BYTES_MAX
    assert decode_packet(encode_packet(full)) == full
    with pytest.raises(MessageTooLarge, match="bytes"):
        decode_packet(encode_packet(Packet((full.envelopes[0] + b"x",))))


def test_packets_have_one_spelling() -> None:
    raw = encode_packet(Packet((b"a", b"b"), (b"c",)))
    for other in [*spellings(msgspec.msgpack.decode(raw)), b"\x91\x90", b"\x92\x90\x90"]:
        with pytest.raises(NotCanonical):
            decode_packet(other)


@pytest.mark.parametrize(
    "data", [b"", b"\x90", b"\xc0", b"\x92\x90", b"\x93\x91\xa1x\x90\x90", b"\x94" + b"\x90" * 4]
)
def test_malformed_packets(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_packet(data)
