"""The committed artifact belongs to the committed sources, and every error of the contract is tried."""

import hashlib
import json
import re
from importlib import resources
from pathlib import Path

CONTRACTS = Path(__file__).parents[2] / "contracts"
ARTIFACT = json.loads(resources.files("distrai.ledger").joinpath("artifacts", "RunRegistry.json").read_text())
CODE_BYTES_MAX = 24_576
OF_THE_CONSTRUCTOR = {"InvalidShortString", "StringTooLong"}
"""Of OpenZeppelin's EIP712, for names longer than ours."""


def test_the_artifact_is_of_these_sources():
    """Recompiling is ``node build.mjs --check``; this needs no compiler, and notices a forgotten build."""
    own = {name: said for name, said in ARTIFACT["sources"].items() if name.startswith("src/")}
    found = {
        path.relative_to(CONTRACTS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in CONTRACTS.joinpath("src").rglob("*.sol")
    }
    assert own == found


def test_the_artifact_says_how_it_was_made():
    compiler = ARTIFACT["compiler"]
    assert compiler["version"].startswith("0.8.")
    assert compiler["settings"]["evmVersion"] == "cancun"
    text = json.dumps(ARTIFACT["sources"], separators=(",", ":"))
    assert ARTIFACT["sourceHash"] == hashlib.sha256(text.encode()).hexdigest()


def test_the_code_can_be_deployed(world):
    code = bytes.fromhex(ARTIFACT["bytecode"][2:])
    assert len(code) < CODE_BYTES_MAX
    assert world.registry.deployment_gas < 1 << 24


def test_nothing_is_named_twice():
    names = [item["name"] for item in ARTIFACT["abi"] if item["type"] == "function"]
    assert len(names) == len(set(names))


def test_every_error_is_tried():
    errors = {item["name"] for item in ARTIFACT["abi"] if item["type"] == "error"} - OF_THE_CONSTRUCTOR
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    tried = {name for text in texts for name in re.findall(r'"([A-Z]\w+)"', text)}
    assert errors <= tried


def test_the_lock_file_names_no_registry():
    assert "resolved" not in json.loads((CONTRACTS / "package-lock.json").read_text())
    assert "://" not in re.sub(r'"funding": \[[^]]*\]', "", (CONTRACTS / "package-lock.json").read_text())
