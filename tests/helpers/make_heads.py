"""Makes tests/vectors/heads.json: ``PYTHONPATH=src:tests python -m helpers.make_heads``.

From ``helpers.reference`` and eth_account alone; the protocol and the contract are both tested against the file.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eth_account.messages import encode_typed_data

from helpers import reference
from helpers.reference import keccak256

PATH = Path(__file__).parents[1] / "vectors" / "heads.json"
CHAIN_ID, REGISTRY = 31337, keccak256(b"registry")[:20]
U64_MAX = (1 << 64) - 1
ZERO, ONES = bytes(32), b"\xff" * 32


def _hash(name: str) -> bytes:
    return keccak256(name.encode())


def _people(first: int, count: int) -> list[tuple[bytes, bytes]]:
    """Sorted (member, key) pairs."""
    return sorted((_hash(f"member {i}"), _hash(f"key {i}")[:20]) for i in range(first, first + count))


def _members(first: int, count: int) -> list[bytes]:
    return [member for member, _ in _people(first, count)]


def genesis(**changes: Any) -> dict[str, Any]:
    names = ("recipe_hash", "state_root", "data_hash", "tokenizer_hash")
    fields = {"chain_id": CHAIN_ID, "registry": REGISTRY, "run": 7, **{name: _hash(name) for name in names}}
    fields |= {"parent_run": 0, "parent_round": 0, "parent_head": ZERO} | changes
    return fields | {"head": reference.genesis_head(fields)}


def start(genesis_head: bytes, seats: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"genesis_head": genesis_head, "seats": seats, "head": reference.start_head(genesis_head, seats)}


def body(previous: bytes, number: int, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"run": 7, "round": number, "previous_head": previous}
    fields |= {name: _hash(f"{name} {number}") for name in ("updates_root", "state_root", "trainers_root")}
    fields |= {"promotions": [], "drops": []} | changes
    pairs = [SimpleNamespace(member=member, key=key) for member, key in fields["promotions"]]
    document = reference.typed_data(
        "Body", SimpleNamespace(**fields | {"promotions": pairs}), CHAIN_ID, REGISTRY
    )
    signable = encode_typed_data(full_message=document)
    digest = keccak256(b"\x19\x01" + signable.header + signable.body)
    return fields | {"id": signable.body, "digest": digest, "head": reference.body_head(1, fields)}


def roll_call(previous: bytes, number: int, state_root: bytes, drops: list[bytes]) -> dict[str, Any]:
    fields = {"previous_head": previous, "round": number, "state_root": state_root, "drops": drops}
    full = fields | {"updates_root": ZERO, "trainers_root": ZERO, "promotions": []}
    return fields | {"head": reference.body_head(2, full)}


def vectors() -> dict[str, Any]:
    first = genesis()
    parent = {"parent_run": 7, "parent_round": 12, "parent_head": _hash("parent")}
    extreme = {"chain_id": (1 << 256) - 1, "registry": b"\xff" * 20, "run": U64_MAX, "parent_run": U64_MAX}
    starts = [start(first["head"], _people(0, count)) for count in (4, 1, 64)]
    # A chain: a plain round, one that promotes and drops, an empty one, then a roll call and the round after it.
    chain = [body(starts[0]["head"], 1)]
    chain.append(body(chain[-1]["head"], 2, promotions=_people(4, 2), drops=_members(0, 1)))
    chain.append(body(chain[-1]["head"], 3, updates_root=ZERO, state_root=chain[-1]["state_root"]))
    called = roll_call(chain[-1]["head"], 4, chain[-1]["state_root"], _members(1, 2))
    chain.append(body(called["head"], 5, promotions=_people(3, 1)))
    chain.append(body(chain[-1]["head"], 6, drops=_members(0, 3)))
    everything = {"promotions": _people(100, 32), "drops": _members(200, 32)}
    chain.append(body(ONES, U64_MAX, run=U64_MAX, state_root=ONES, **everything))
    chain.append(body(ZERO, 1, run=0, state_root=ZERO, updates_root=ZERO, trainers_root=ZERO))
    calls = [called, roll_call(ZERO, 1, ZERO, []), roll_call(ONES, U64_MAX, ONES, _members(0, 63))]
    return {
        "domain": {"chain_id": CHAIN_ID, "registry": REGISTRY},
        "genesis": [first, genesis(run=8, **parent), genesis(**extreme)],
        "starts": starts,
        "bodies": chain,
        "roll_calls": calls,
    }


def to_json(value: Any) -> Any:
    """Bytes as 0x hex, and integers as decimal text, which is safe for every reader of JSON."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    return [to_json(item) for item in value]


def from_json(value: Any) -> Any:
    """The inverse of ``to_json``, with tuples for lists."""
    if isinstance(value, str):
        return bytes.fromhex(value[2:]) if value.startswith("0x") else int(value)
    if isinstance(value, dict):
        return {name: from_json(item) for name, item in value.items()}
    return tuple(from_json(item) for item in value)


if __name__ == "__main__":
    PATH.write_text(json.dumps(to_json(vectors()), indent=1) + "\n")
