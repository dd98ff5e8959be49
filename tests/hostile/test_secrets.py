"""No private key and no password is in anything that the command line leaves behind, says, or is started with.

A whole run is searched in the same way in ``tests/processes/test_paying.py``.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distrai.ledger.keys import NodeKey, load_key
from distrai.runs.children import Child
from helpers.local_runs import DEADLINE_S
from helpers.secret_search import Arguments, files_below, found, spellings, words

pytestmark = pytest.mark.processes
PASSWORD = "correct-Horse9 battery"
OTHER_PASSWORD = "a wrong one, Tr0ub4dor"
TYPED = "7b" * 31 + "11"
"""A private key that a user types in where it does not belong."""


def distrai(*command: str | Path, stdin: str = "", **environment: str) -> tuple[int, bytes]:
    """What the command line says, on both ways."""
    ran = subprocess.run(
        [sys.executable, "-m", "distrai.cli", *map(str, command)],
        input=stdin.encode(),
        capture_output=True,
        check=False,
        timeout=2 * DEADLINE_S,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    return ran.returncode, ran.stdout + ran.stderr


def test_a_search_finds_what_it_is_for() -> None:
    secret = NodeKey.generate()._key.secret
    for way in spellings(secret):
        assert found({"key": spellings(secret)}, {"log": b"said " + way + b"=."}) == ["key in log"]
    for way in words(PASSWORD):
        assert found({"password": words(PASSWORD)}, {"log": b"x" + way}) == ["password in log"]
    assert not found({"key": spellings(secret)}, {"log": NodeKey(secret).address.hex().encode()})


def test_a_wallet_tells_neither_key_nor_password(tmp_path: Path) -> None:
    file, words_file = tmp_path / "wallet.json", tmp_path / "secret words"
    words_file.write_text(PASSWORD + "\n")
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    given, wrong = {"DISTRAI_PASSWORD": PASSWORD} | home, {"DISTRAI_PASSWORD": OTHER_PASSWORD} | home
    typed, bad = ("wallet", "import", "--file", tmp_path / "typed.json"), TYPED[:-1] + "g\n"
    with Arguments() as arguments:
        said = [
            distrai("wallet", "new", "--file", file, "--password-file", words_file, **home),
            distrai(*typed, stdin=bad, **given),
            distrai(*typed, stdin=TYPED, **given),
            distrai("wallet", "import", file, "--file", tmp_path / "again.json", **wrong),
        ]
    assert [code for code, _ in said] == [0, 2, 0, 2], said
    keys = [load_key(file, PASSWORD), load_key(tmp_path / "typed.json", PASSWORD)]
    needles = {str(key): spellings(key._key.secret) for key in keys}
    needles |= {
        "mistyped": {TYPED[:-1].encode()},
        "password": words(PASSWORD),
        "wrong": words(OTHER_PASSWORD),
    }
    places = {name: content for name, content in files_below(tmp_path).items() if name != words_file.name}
    places |= {f"command {number}": text for number, (_, text) in enumerate(said)}
    assert not found(needles, places | {"arguments": arguments.all})


@pytest.mark.parametrize("before", [("wallet", "import"), ("wallet", "new", "--file")])
def test_a_key_that_is_typed_as_an_argument_is_not_repeated(before: tuple[str, ...], tmp_path: Path) -> None:
    """It is in the shell's history already: in a log it would be read by more."""
    code, said = distrai(*before, "0x" + TYPED, XDG_CONFIG_HOME=str(tmp_path), DISTRAI_PASSWORD=PASSWORD)
    assert code == 2 and b"arguments" in said
    assert not found({"key": spellings(bytes.fromhex(TYPED))}, {"said": said} | files_below(tmp_path))
    assert not list(tmp_path.rglob(f"*{TYPED}*"))


def environment_of(process: int) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


async def test_peers_do_not_inherit_the_password_of_the_wallet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They listen to strangers, and may run as another user."""
    monkeypatch.setenv("DISTRAI_PASSWORD", PASSWORD)
    monkeypatch.setenv("DISTRAI_ELSE", "inherited")
    child = await Child.start("peer", ["asyncio"], tmp_path / "log", lambda _name, _event: None)
    try:
        content = environment_of(child.process.pid)
    finally:
        child.process.kill()
        await asyncio.wait_for(child.process.wait(), DEADLINE_S)
    assert b"DISTRAI_ELSE=inherited" in content
    assert not found({"password": words(PASSWORD)}, {"environment": content})
