"""Merkle trees in the layout of OpenZeppelin's ``StandardMerkleTree``, and the roots that the protocol takes with them.

Leaves are ``keccak(keccak(abi.encode(...)))`` (hashed twice, so that no inner node passes for a leaf), sorted; the
tree is a complete binary tree in an array, and a node is the keccak of its two children in ascending order. As
sorting forgets the order, leaves whose place matters carry their index.
"""

from collections.abc import Sequence

from blake3 import blake3
from eth_abi.abi import encode

from distrai.protocol.blobs import chunks
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId


def leaf_hash(encoded: bytes) -> Hash:
    """The leaf for a value that is already ``abi.encode``\\ d."""
    return keccak(keccak(encoded))


def _parent(left: Hash, right: Hash) -> Hash:
    return keccak(left + right if left < right else right + left)


def _tree(leaves: Sequence[Hash]) -> list[Hash]:
    """The array form: the root first, the sorted leaves at the end in reverse."""
    ordered = sorted(leaves, reverse=True)
    nodes = [ZERO_HASH] * (len(ordered) - 1) + ordered
    for index in range(len(ordered) - 2, -1, -1):
        nodes[index] = _parent(nodes[2 * index + 1], nodes[2 * index + 2])
    return nodes


def merkle_root(leaves: Sequence[Hash]) -> Hash:
    """The root over hashed ``leaves``; the root of nothing is zero."""
    return _tree(leaves)[0] if leaves else ZERO_HASH


def merkle_proof(leaves: Sequence[Hash], leaf: Hash) -> tuple[Hash, ...]:
    """The siblings from ``leaf`` up to the root. Raises ValueError if the leaf is not in the tree."""
    nodes = _tree(leaves)
    index = nodes.index(leaf, len(leaves) - 1)
    proof = []
    while index > 0:
        proof.append(nodes[index + 1 if index % 2 else index - 1])
        index = (index - 1) // 2
    return tuple(proof)


def proof_root(leaf: Hash, proof: Sequence[Hash]) -> Hash:
    """The root that ``leaf`` and its ``proof`` lead to."""
    node = leaf
    for sibling in proof:
        node = _parent(node, sibling)
    return node


def state_root(state: bytes | memoryview) -> Hash:
    """The root over the 1 MiB chunks of a state's bytes: leaf = (index, BLAKE3 of the chunk)."""
    hashes = (blake3(chunk).digest() for chunk in chunks(state))
    return merkle_root([leaf_hash(encode(["uint256", "bytes32"], [i, h])) for i, h in enumerate(hashes)])


def updates_root(entries: Sequence[tuple[Hash, bytes]]) -> Hash:
    """The root over a certified list: leaf = (index, struct hash of the Update, its key).

    The update's signature is in no hash: ECDSA has many valid signatures for one message, so an author could send each
    seat another and no two of them would agree. Whoever decodes the list checks it.
    """
    kinds = ["uint256", "bytes32", "bytes32"]
    return merkle_root(
        [leaf_hash(encode(kinds, [i, digest, key])) for i, (digest, key) in enumerate(entries)]
    )


def trainers_root(cursor: int, trainers: Sequence[tuple[MemberId, Address]]) -> Hash:
    """The root over who trains in a round, with which keys, and where the data cursor stands then.

    Leaves: (member id, key) of every trainer, and (cursor): their lengths differ, so neither passes for the other.
    """
    kinds = ["bytes32", "address"]
    leaves = [leaf_hash(encode(kinds, [member, key])) for member, key in trainers]
    return merkle_root([*leaves, leaf_hash(encode(["uint256"], [cursor]))])
