"""Merkle roots and proofs: against OpenZeppelin's npm package (vectors), and against a second implementation."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.blobs import CHUNK_SIZE
from distrai.protocol.merkle import (
    leaf_hash,
    merkle_proof,
    merkle_root,
    proof_root,
    state_root,
    trainers_root,
    updates_root,
)
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from helpers.reference import standard_root, word

VECTORS: dict[str, list[str]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "merkle.json").read_text()
)
SIZES = range(1, 71)


def digest(what: str, row: int) -> Hash:
    return Hash(sha256(f"{what} {row}".encode()).digest())


ROWS: dict[str, Callable[[int], bytes]] = {
    "uint256,bytes32": lambda i: word(i) + digest("chunk", i),
    "uint256,bytes32,bytes32": lambda i: word(i) + digest("update", i) + digest("key", i),
    "bytes32,address": lambda i: digest("member", i) + word(digest("address", i)[:20]),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("size", SIZES)
def test_roots_and_proofs_are_those_of_openzeppelin(kind: str, size: int) -> None:
    leaves = [leaf_hash(ROWS[kind](i)) for i in range(size)]
    root = merkle_root(leaves)
    proofs = [merkle_proof(leaves, leaf) for leaf in leaves]
    all_proofs = sha256(b"".join(b"".join(proof) for proof in proofs)).hexdigest()
    assert root.hex() + all_proofs[:16] == VECTORS[kind][size - 1]
    assert all(proof_root(leaf, proof) == root for leaf, proof in zip(leaves, proofs, strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_the_roots_of_the_protocol_have_these_leaves(size: int) -> None:
    updates = [(digest("update", i), digest("key", i)) for i in range(size)]
    trainers = [(MemberId(digest("member", i)), Address(digest("address", i)[:20])) for i in range(size)]
    rows = [ROWS["bytes32,address"](i) for i in range(size)]
    assert updates_root(updates).hex() == VECTORS["uint256,bytes32,bytes32"][size - 1][:64]
    assert trainers_root(1000 + size, trainers) == standard_root([*rows, word(1000 + size)])


@given(st.lists(st.binary(max_size=100), max_size=90))
def test_roots_are_those_of_a_second_implementation(encoded: list[bytes]) -> None:
    leaves = [leaf_hash(item) for item in encoded]
    root = merkle_root(leaves)
    assert root == standard_root(encoded)
    for leaf in leaves:
        assert proof_root(leaf, merkle_proof(leaves, leaf)) == root


def test_the_root_of_nothing_is_zero() -> None:
    assert merkle_root([]) == updates_root([]) == state_root(b"") == ZERO_HASH


def test_a_proof_proves_nothing_else() -> None:
    leaves = [leaf_hash(bytes([i])) for i in range(7)]
    root, proof = merkle_root(leaves), merkle_proof(leaves, leaves[3])
    assert proof_root(leaves[2], proof) != root
    assert proof_root(leaves[3], proof[:-1]) != root
    assert proof_root(leaves[3], proof[::-1]) != root


def test_an_inner_node_is_no_leaf() -> None:
    # Its preimage is two words long, as a row of (member, address) is; hashing leaves twice keeps them apart.
    first, second = sorted(leaf_hash(bytes([i])) for i in range(2))
    assert merkle_root([first, second]) != leaf_hash(first + second)


def test_no_proof_of_what_is_not_there() -> None:
    leaves = [leaf_hash(bytes([i])) for i in range(4)]
    with pytest.raises(ValueError, match="not in"):
        merkle_proof(leaves, leaf_hash(b"x"))
    with pytest.raises(ValueError, match="not in"):
        merkle_proof(leaves, merkle_root(leaves))
    with pytest.raises(ValueError, match="not in"):
        merkle_proof([], leaves[0])


def test_order_matters_where_leaves_have_an_index() -> None:
    entries = [(digest("update", i), digest("key", i)) for i in range(3)]
    assert updates_root(entries) != updates_root(entries[::-1])
    trainers = [(MemberId(digest("member", i)), Address(bytes(20))) for i in range(3)]
    assert trainers_root(5, trainers) == trainers_root(5, trainers[::-1])


def test_a_trainers_root_tells_cursor_members_and_keys() -> None:
    member, other = MemberId(digest("member", 0)), MemberId(digest("member", 1))
    key = Address(bytes(20))
    roots = [trainers_root(0, []), trainers_root(1, []), trainers_root(0, [(member, key)])]
    roots += [trainers_root(0, [(other, key)]), trainers_root(0, [(member, Address(b"k" * 20))])]
    roots += [trainers_root(1, [(member, key)]), trainers_root(0, [(member, key), (other, key)])]
    assert len(set(roots)) == len(roots)


@pytest.mark.parametrize("size", [1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE])
def test_a_state_root_is_over_numbered_chunks(size: int) -> None:
    state = (b"a" * CHUNK_SIZE + b"b" * CHUNK_SIZE)[:size]
    parts = [state[at : at + CHUNK_SIZE] for at in range(0, size, CHUNK_SIZE)]
    rows = [word(i) + blake3(part).digest() for i, part in enumerate(parts)]
    assert state_root(state) == state_root(memoryview(state)) == standard_root(rows)


def test_a_state_root_tells_order_and_length() -> None:
    first, second = b"a" * CHUNK_SIZE, b"b" * CHUNK_SIZE
    roots = [state_root(first + second), state_root(second + first), state_root(first)]
    roots += [state_root(first + b"\0"), state_root(first + b"\0\0"), state_root(b"\0")]
    assert len(set(roots)) == len(roots)
