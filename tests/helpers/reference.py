"""Second, deliberately plain implementations of what the ledger hashes: written from the specifications, word by word.

Nothing here comes from ``distrai`` or from eth_abi, so that an error there cannot hide in both.
"""

from collections.abc import Sequence
from typing import Any

from Crypto.Hash import keccak as _keccak


def keccak256(data: bytes) -> bytes:
    return _keccak.new(digest_bits=256, data=data).digest()


def word(value: int | bytes) -> bytes:
    """One word of the ABI: integers and addresses to the right, 32 bytes as they are."""
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    assert len(value) in (20, 32)
    return value.rjust(32, b"\0")


def array(words: Sequence[bytes], items: int) -> bytes:
    return word(items) + b"".join(words)


def text(value: str) -> bytes:
    raw = value.encode()
    return word(len(raw)) + raw + b"\0" * (-len(raw) % 32)


def abi(*parts: bytes | tuple[bytes]) -> bytes:
    """``abi.encode``: a static part is its word, a dynamic one is the tail in a tuple of one."""
    head, tail = b"", b""
    for part in parts:
        if isinstance(part, tuple):
            head += word(32 * len(parts) + len(tail))
            tail += part[0]
        else:
            head += part
    return head + tail


def genesis_head(genesis: dict[str, Any]) -> bytes:
    names = ["chain_id", "registry", "run", "recipe_hash", "state_root", "data_hash", "tokenizer_hash"]
    names += ["parent_run", "parent_round", "parent_head"]
    return keccak256(abi((text("distrai/genesis/1"),), *(word(genesis[name]) for name in names)))


def start_head(genesis: bytes, seats: Sequence[tuple[bytes, bytes]]) -> bytes:
    members = array([word(member) for member, _ in seats], len(seats))
    keys = array([word(key) for _, key in seats], len(seats))
    return keccak256(abi(word(genesis), (text("distrai/start/1"),), (members,), (keys,)))


def body_head(kind: int, body: dict[str, Any]) -> bytes:
    """The head of a certificate (kind 1) or of a roll call (kind 2)."""
    promoted = [word(member) + word(key) for member, key in body["promotions"]]
    static = [word(body["previous_head"]), word(kind), word(body["round"])]
    static += [word(body[name]) for name in ("updates_root", "state_root", "trainers_root")]
    drops = [word(member) for member in body["drops"]]
    return keccak256(abi(*static, (array(promoted, len(promoted)),), (array(drops, len(drops)),)))


def standard_root(leaves: Sequence[bytes]) -> bytes:
    """The root of a StandardMerkleTree, by recursion on the shape instead of an array.

    A node of the complete tree over n leaves has 2n - 1 nodes below and including it; leaves are sorted, and fill the
    array from its end.
    """
    ordered = sorted(keccak256(keccak256(leaf)) for leaf in leaves)
    last = 2 * len(ordered) - 2

    def node(place: int) -> bytes:
        if 2 * place + 1 > last:
            return ordered[last - place]
        return keccak256(b"".join(sorted([node(2 * place + 1), node(2 * place + 2)])))

    return node(0) if ordered else bytes(32)


_WORDS_OF_UPDATE = {
    "version": "uint16",
    "run": "uint64",
    "round": "uint64",
    "previousHead": "bytes32",
    "member": "bytes32",
    "baseRound": "uint64",
    "baseStateRoot": "bytes32",
    "fragment": "uint32",
    "tau": "uint32",
    "innerSteps": "uint32",
    "tokens": "uint64",
    "codec": "string",
    "blobHash": "bytes32",
    "blobSize": "uint64",
    "keyHash": "bytes32",
    "traceRoot": "bytes32",
}
_WORDS_OF_BODY = {
    "run": "uint64",
    "round": "uint64",
    "previousHead": "bytes32",
    "updatesRoot": "bytes32",
    "stateRoot": "bytes32",
    "trainersRoot": "bytes32",
    "promotions": "Promotion[]",
    "drops": "bytes32[]",
}
_DOMAIN = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}


def snake(name: str) -> str:
    """``previousHead`` of the typed data is ``previous_head`` in Python."""
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)


def typed_data(kind: str, value: Any, chain_id: int, registry: bytes) -> dict[str, Any]:
    """The full EIP-712 document of an Update or a Body, for ``eth_account.messages.encode_typed_data``."""
    fields = _WORDS_OF_UPDATE if kind == "Update" else _WORDS_OF_BODY
    message = {name: getattr(value, snake(name)) for name in fields}
    types = {
        "EIP712Domain": _members(_DOMAIN),
        kind: _members(fields),
    }
    if kind == "Body":
        types["Promotion"] = _members({"member": "bytes32", "key": "address"})
        message["promotions"] = [
            {"member": item.member, "key": "0x" + item.key.hex()} for item in value.promotions
        ]
        message["drops"] = list(value.drops)
    return {
        "types": types,
        "primaryType": kind,
        "domain": {
            "name": "DisTrAI",
            "version": "1",
            "chainId": chain_id,
            "verifyingContract": "0x" + registry.hex(),
        },
        "message": message,
    }


def _members(fields: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in fields.items()]
