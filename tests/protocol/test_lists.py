"""The list behind a certificate: what it commits to, and what is refused of one that came from outside."""

from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey

from distrai.protocol.canonical import encode_canonical
from distrai.protocol.errors import (
    BadSignature,
    MalformedMessage,
    NotCanonical,
    UnsortedList,
    WrongTrainersRoot,
    WrongUpdatesRoot,
)
from distrai.protocol.lists import CertifiedList, Entry, check_list, check_signatures, decode_list
from distrai.protocol.messages import Envelope, Have, Update, decode_body
from distrai.protocol.primitives import ZERO_HASH, Address, SignatureBytes
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from helpers.messages import DOMAIN, Author, named
from helpers.reference import keccak256, standard_root, word
from helpers.rounds import RULES, authors, list_of, next_body, roster_of, secret_of, started, update_of

FOUR = authors(4)
STANDING = started(FOUR)
LIST = list_of(FOUR[:3], STANDING)
BODY = next_body(STANDING, updates_root=LIST.updates_root)
KEYS = roster_of(FOUR)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def with_(**changes: Any) -> CertifiedList:
    return msgspec.structs.replace(LIST, **changes)


def test_a_list_reads_back_and_belongs_to_its_body() -> None:
    assert decode_list(LIST.to_bytes()) == LIST
    check_list(LIST, BODY)
    check_signatures(LIST, KEYS, DOMAIN, recover)


def test_the_roots_of_a_list() -> None:
    updates = [update_of(author, STANDING).identity(b"") for author in FOUR[:3]]
    rows = [word(i) + name + secret_of(FOUR[i]) for i, name in enumerate(updates)]
    assert LIST.updates_root == standard_root(rows)
    trainers = [word(author.member) + word(author.address) for author in FOUR]
    assert LIST.trainers_root == standard_root([*trainers, word(4 * RULES.block_samples)])


def test_a_list_of_nothing() -> None:
    nothing = with_(entries=())
    assert decode_list(nothing.to_bytes()) == nothing
    assert nothing.updates_root == ZERO_HASH
    check_list(nothing, next_body(STANDING, updates_root=ZERO_HASH))
    check_signatures(nothing, {}, DOMAIN, recover)


def signed_otherwise(author: Author, digest: bytes, nonce: int) -> SignatureBytes:
    """Another valid signature of the same digest by the same key: ECDSA with a nonce of one's choice."""
    secret = int.from_bytes(author.private_key.secret, "big")
    point = PrivateKey(nonce.to_bytes(32, "big")).public_key.point()
    r, odd = point[0] % ORDER, point[1] & 1
    s = pow(nonce, -1, ORDER) * (int.from_bytes(digest, "big") + r * secret) % ORDER
    if s > ORDER // 2:
        s, odd = ORDER - s, 1 - odd
    return SignatureBytes(r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + odd]))


def test_other_signatures_of_the_same_updates_give_the_same_root() -> None:
    # Else an author could send every seat a signature of its own, and no two seats would ever sign the same body.
    author = FOUR[0]
    signed = author.seal(update_of(author, STANDING))
    digest = signed.message.digest(b"", DOMAIN)
    variants = []
    for nonce in (5, 6, 7):
        signature = signed_otherwise(author, digest, nonce)
        assert recover(digest, signature) == author.address
        raw = encode_canonical(Envelope("update", signed.envelope.body, signature))
        variants.append(with_(entries=(Entry(raw, secret_of(author)), *LIST.entries[1:])))
    assert len({variant.to_bytes() for variant in variants} | {LIST.to_bytes()}) == 4
    for variant in variants:
        assert decode_list(variant.to_bytes()).updates_root == LIST.updates_root
        check_list(variant, BODY)
        check_signatures(variant, KEYS, DOMAIN, recover)


@pytest.mark.parametrize(
    "entries",
    [
        LIST.entries[1:],
        LIST.entries[::-1],
        (*LIST.entries, LIST.entries[0]),
        (Entry(LIST.entries[0].update, named("other key")), *LIST.entries[1:]),
        (),
    ],
)
def test_other_entries_are_another_list(entries: tuple[Entry, ...]) -> None:
    with pytest.raises(WrongUpdatesRoot):
        check_list(with_(entries=entries), BODY)


@pytest.mark.parametrize(
    "changes", [{"cursor": 0}, {"cursor": 41}, {"trainers": LIST.trainers[1:]}, {"trainers": ()}]
)
def test_other_trainers_or_another_cursor_are_another_list(changes: dict[str, Any]) -> None:
    with pytest.raises(WrongTrainersRoot):
        check_list(with_(**changes), BODY)


def test_every_update_is_signed_by_its_member() -> None:
    forged = STRANGER.seal(update_of(FOUR[0], STANDING)).raw
    with pytest.raises(BadSignature):
        check_signatures(
            with_(entries=(Entry(forged, secret_of(FOUR[0])), *LIST.entries[1:])), KEYS, DOMAIN, recover
        )
    with pytest.raises(BadSignature):
        check_signatures(LIST, roster_of(FOUR[1:]), DOMAIN, recover)
    with pytest.raises(BadSignature):
        check_signatures(LIST, KEYS, Domain(1, DOMAIN.registry), recover)
    with pytest.raises(BadSignature):
        check_signatures(LIST, KEYS | {FOUR[2].member: STRANGER.address}, DOMAIN, recover)


STRANGER = Author(9)
SHORT_TRAINER = msgspec.structs.replace(LIST.trainers[0], member=b"short")
SHORT_KEY = msgspec.structs.replace(LIST.trainers[0], key=Address(b"short"))
HAVE = FOUR[0].seal(Have(run=1, round=1, previous_head=named("head"), member=FOUR[0].member, updates=())).raw


@pytest.mark.parametrize(
    "changes",
    [
        {"trainers": (SHORT_TRAINER,)},
        {"trainers": (SHORT_KEY,)},
        {"entries": (Entry(LIST.entries[0].update, b"short"),)},
        {"entries": (Entry(b"", named("key")),)},
        {"entries": (Entry(b"\x93", named("key")),)},
        {"entries": (Entry(HAVE, named("key")),)},
        {"cursor": -1},
    ],
)
def test_malformed_lists(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        decode_list(with_(**changes).to_bytes())


@pytest.mark.parametrize("name", ["trainers", "entries"])
def test_lists_are_sorted_by_member(name: str) -> None:
    items = getattr(LIST, name)
    for wrong in (items[::-1], (items[0], items[0]), (items[0], items[2], items[1])):
        with pytest.raises(UnsortedList):
            decode_list(with_(**{name: wrong}).to_bytes())


def test_an_update_of_another_size_is_refused_inside_a_list_too() -> None:
    update = update_of(FOUR[0], STANDING, key_hash=b"short")
    raw = encode_canonical(["update", encode_canonical(update), bytes(65)])
    with pytest.raises(MalformedMessage):
        decode_list(with_(entries=(Entry(raw, named("key")),)).to_bytes())


@pytest.mark.parametrize(
    "data", [b"", b"\x93", b"\x90", b"\xc0", LIST.to_bytes()[:-1], LIST.to_bytes() + b"\0"]
)
def test_no_list_at_all(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_list(data)


def test_another_spelling_of_a_list() -> None:
    data = LIST.to_bytes()
    assert data[:2] == b"\x93\x28"  # three parts, the first the cursor of 40
    with pytest.raises(NotCanonical):
        decode_list(b"\x93\xcc\x28" + data[2:])
    with pytest.raises(NotCanonical):
        decode_list(b"\xdc\x00\x03" + data[1:])


def test_what_the_entries_say() -> None:
    assert LIST.updates == tuple(update_of(author, STANDING) for author in FOUR[:3])
    envelope = msgspec.msgpack.decode(LIST.entries[0].update, type=Envelope)
    assert isinstance(decode_body("update", envelope.body), Update)
    assert keccak256(LIST.entries[0].update) not in {update.identity(b"") for update in LIST.updates}
