"""The committed artifacts belong to the committed sources, and every error of our contracts is tried."""

import hashlib
import json
import re
from importlib import resources
from pathlib import Path

import pytest

from contracts.support.money import NAMES

CONTRACTS = Path(__file__).parents[2] / "contracts"
FOLDER = resources.files("distrai.ledger").joinpath("artifacts")
ARTIFACTS = {name: json.loads(FOLDER.joinpath(f"{name}.json").read_text()) for name in NAMES}
CODE_BYTES_MAX = 24_576
OF_OPENZEPPELIN = {"InvalidShortString", "StringTooLong", "SafeERC20FailedOperation", "InvalidAccountNonce"}
OF_OPENZEPPELIN |= {f"ERC20Invalid{role}" for role in ("Sender", "Receiver", "Approver", "Spender")}
OF_OPENZEPPELIN |= {"ERC20InsufficientBalance", "ERC2612ExpiredSignature", "ERC2612InvalidSigner"}
"""Theirs to try: of its EIP712 (for names longer than ours) and of its token."""
EACH = pytest.mark.parametrize("artifact", ARTIFACTS.values(), ids=ARTIFACTS)


def test_the_artifacts_are_of_these_sources():
    """Recompiling is ``node build.mjs --check``; this needs no compiler, and notices a forgotten build."""
    own = {
        name: said
        for artifact in ARTIFACTS.values()
        for name, said in artifact["sources"].items()
        if name.startswith("src/")
    }
    found = {
        path.relative_to(CONTRACTS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in CONTRACTS.joinpath("src").rglob("*.sol")
    }
    assert own == found
    for artifact in ARTIFACTS.values():
        assert own.items() >= {item for item in artifact["sources"].items() if item[0].startswith("src/")}


@EACH
def test_the_artifact_says_how_it_was_made(artifact):
    compiler = artifact["compiler"]
    assert compiler["version"].startswith("0.8.")
    assert compiler["settings"]["evmVersion"] == "cancun"
    text = json.dumps(artifact["sources"], separators=(",", ":"))
    assert artifact["sourceHash"] == hashlib.sha256(text.encode()).hexdigest()


@EACH
def test_the_code_can_be_deployed(artifact):
    assert len(bytes.fromhex(artifact["bytecode"][2:])) < CODE_BYTES_MAX


def test_deploying_fits_into_a_transaction(economy):
    made = economy.contracts
    for contract in (made.registry, made.token, made.rewards, made.stakes, made.records):
        assert contract.deployment_gas < 1 << 24


@EACH
def test_nothing_is_named_twice(artifact):
    names = [item["name"] for item in artifact["abi"] if item["type"] == "function"]
    assert len(names) == len(set(names))


def test_every_error_is_tried():
    entries = [item for artifact in ARTIFACTS.values() for item in artifact["abi"]]
    errors = {item["name"] for item in entries if item["type"] == "error"} - OF_OPENZEPPELIN
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    tried = {name for text in texts for name in re.findall(r'"([A-Z]\w+)"', text)}
    assert errors - tried == set()


def test_the_lock_file_names_no_registry():
    assert "resolved" not in json.loads((CONTRACTS / "package-lock.json").read_text())
    text = (CONTRACTS / "package-lock.json").read_text()
    assert "://" not in re.sub(r'"funding": (\[[^]]*\]|\{[^}]*\})', "", text)
