"""Signatures: the same as eth_account's, and in one form only."""

from contextlib import suppress

import pytest
from coincurve import PrivateKey
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.errors import BadSignature
from distrai.protocol.primitives import Hash
from distrai.protocol.signatures import address_of, recover, sign
from helpers.messages import Author, hashes, named

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
AUTHOR = Author(1)
DIGEST = named("digest")
GOOD = AUTHOR.sign(DIGEST)


@given(st.integers(1, ORDER - 1), hashes)
def test_signatures_are_those_of_eth_account(secret: int, digest: Hash) -> None:
    account = Account.from_key(secret.to_bytes(32, "big"))
    key = PrivateKey(secret.to_bytes(32, "big"))
    signature = sign(key, digest)
    assert signature == account.unsafe_sign_hash(digest).signature
    assert recover(digest, signature) == address_of(key.public_key) == bytes.fromhex(account.address[2:])


@given(hashes, st.integers(0, 64 * 8 - 1))
def test_a_changed_signature_is_nobodys_or_anothers(digest: Hash, bit: int) -> None:
    signature = bytearray(AUTHOR.sign(digest))
    signature[bit // 8] ^= 1 << bit % 8
    with suppress(BadSignature):
        assert recover(digest, bytes(signature)) != AUTHOR.address


@given(hashes, hashes)
def test_a_signature_is_of_one_digest(first: Hash, second: Hash) -> None:
    signature = AUTHOR.sign(first)
    if first != second:
        assert recover(second, signature) != AUTHOR.address


def test_the_other_form_of_a_signature_is_refused() -> None:
    s = ORDER - int.from_bytes(GOOD[32:64], "big")
    malleated = GOOD[:32] + s.to_bytes(32, "big") + bytes([55 - GOOD[64]])
    with pytest.raises(BadSignature, match="high"):
        recover(DIGEST, malleated)


def test_half_of_the_order_is_the_largest_s() -> None:
    for s, refusal in [(ORDER // 2, None), (ORDER // 2 + 1, "high"), (ORDER - 1, "high"), (ORDER, "high")]:
        signature = GOOD[:32] + s.to_bytes(32, "big") + GOOD[64:]
        if refusal is None:
            assert recover(DIGEST, signature) != AUTHOR.address  # valid, somebody's
        else:
            with pytest.raises(BadSignature, match=refusal):
                recover(DIGEST, signature)


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 30, 31, 255])
def test_v_has_two_values(v: int) -> None:
    with pytest.raises(BadSignature, match="27 or 28"):
        recover(DIGEST, GOOD[:64] + bytes([v]))


@pytest.mark.parametrize("signature", [b"", GOOD[:64], GOOD + b"\0", GOOD[:63] + GOOD[64:]], ids=len)
def test_a_signature_has_65_bytes(signature: bytes) -> None:
    with pytest.raises(BadSignature, match="65 bytes"):
        recover(DIGEST, signature)


@pytest.mark.parametrize(
    ("r", "s"),
    [
        (0, 1),
        (1, 0),
        (0, 0),
        (ORDER, 1),
        (ORDER + 1, 1),
        ((1 << 256) - 1, 1),
        (5, 1),  # no point of the curve has this x
    ],
)
def test_what_is_no_point_is_refused(r: int, s: int) -> None:
    for v in (27, 28):
        with pytest.raises(BadSignature, match="no|not a point"):
            recover(DIGEST, r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v]))


def test_known_key() -> None:
    # The first account of every development chain: "test test ... junk" at m/44'/60'/0'/0/0.
    key = PrivateKey(bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"))
    assert address_of(key.public_key).hex() == "f39fd6e51aad88f6f4ce6ab8827279cfffb92266"
