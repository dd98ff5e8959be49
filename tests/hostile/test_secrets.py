"""No private key and no password is in anything that a run leaves behind, says, or is started with.

Real processes, started as a user starts them; what they write is searched for every key of the run in all the ways in
which a program might have written it down.
"""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distrai.ledger.keys import NodeKey, load_key
from helpers.local_runs import DEADLINE_S
from processes.test_paying import write_recipe

pytestmark = pytest.mark.processes
PASSWORD = "correct-Horse9 battery"
OTHER_PASSWORD = "a wrong one, Tr0ub4dor"
TYPED = "7b" * 31 + "11"
"""A private key that a user types in where it does not belong."""


def spellings(secret: bytes) -> set[bytes]:
    """What one might find instead of 32 bytes."""
    text = secret.hex()
    spelled = {text, text.upper(), str(int.from_bytes(secret, "big")), str(int.from_bytes(secret, "little"))}
    for encoded in (base64.b64encode(secret), base64.urlsafe_b64encode(secret), base64.b32encode(secret)):
        spelled.add(encoded.decode().rstrip("=")[:-1])  # the last digit depends on what follows
    spelled.add(str(list(secret)))
    spelled.add(repr(secret)[2:-1])
    return {each.encode() for each in spelled} | {secret, secret[::-1]}


def words(password: str) -> set[bytes]:
    raw = password.encode()
    return {raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"=")[:-1]}


class Arguments:
    """The command lines of all processes of this machine, seen again and again."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def _look(self) -> None:
        while not self.over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue  # it has ended
            self.over.wait(0.02)

    def stop(self) -> None:
        self.over.set()
        self.thread.join()


@pytest.fixture(scope="module")
def arguments() -> Iterator[Arguments]:
    watching = Arguments()
    yield watching
    watching.stop()


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


def keystores(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and "crypto" in content:
            yield path


def found(needles: dict[str, set[bytes]], places: dict[str, bytes]) -> list[str]:
    """Which secret is where."""
    return [
        f"{secret} in {place}"
        for place, content in places.items()
        for secret, ways in needles.items()
        if any(way in content for way in ways)
    ]


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_search_finds_what_it_is_for() -> None:
    secret = NodeKey.generate()._key.secret
    for way in spellings(secret):
        assert found({"key": spellings(secret)}, {"log": b"said " + way + b"=."}) == ["key in log"]
    for way in words(PASSWORD):
        assert found({"password": words(PASSWORD)}, {"log": b"x" + way}) == ["password in log"]
    assert not found({"key": spellings(secret)}, {"log": NodeKey(secret).address.hex().encode()})


def test_a_run_that_pays_tells_no_key(new_folder: Callable[[str], Path], arguments: Arguments) -> None:
    base = new_folder("secrets")
    folder = base / "run"
    code, said = distrai(
        "run",
        write_recipe(base),
        "--out",
        folder,
        "--peers",
        "2",
        "--rounds",
        "3",
        "--json",
        "--device",
        "cpu",
    )
    assert code == 0, said.decode()
    stores = list(keystores(folder))
    assert {path.parent.name for path in stores} >= {"run", "peer-0", "peer-1"}
    needles = {}
    for path in stores:
        assert path.stat().st_mode & 0o077 == 0
        key = load_key(path)
        name = str(path.relative_to(folder))
        needles[name] = spellings(key._key.secret)
        needles[f"sealing secret of {name}"] = spellings(key.secret("sealing"))
    _, status = distrai("earnings", folder, "--json")
    _, checked = distrai("ledger", "verify", folder, "--json")
    places = files_below(base) | {"what run says": said, "earnings": status, "verify": checked}
    assert len(places) > 30
    assert not found(needles, places)
    assert not found(needles, {"arguments": b"\n".join(arguments.seen)})
    assert any(b"distrai.peer" in line for line in arguments.seen), "it saw processes at all"


@pytest.mark.parametrize("of_file", [False, True])
def test_a_wallet_tells_neither_key_nor_password(
    tmp_path: Path, arguments: Arguments, *, of_file: bool
) -> None:
    file = tmp_path / "wallet.json"
    words_file = tmp_path / "secret words"
    words_file.write_text(PASSWORD + "\n")
    with_password = ("--password-file", words_file) if of_file else ()
    environment = {"XDG_CONFIG_HOME": str(tmp_path)} | ({} if of_file else {"DISTRAI_PASSWORD": PASSWORD})
    wrong = {"XDG_CONFIG_HOME": str(tmp_path), "DISTRAI_PASSWORD": OTHER_PASSWORD}
    said = [
        distrai("wallet", "new", "--file", file, *with_password, **environment),
        distrai("wallet", "show", "--file", file, "--check", *with_password, "--json", **environment),
        distrai("wallet", "show", "--file", file, "--check", **wrong),
        distrai(
            "wallet", "import", "--file", tmp_path / "typed.json", *with_password, stdin=TYPED, **environment
        ),
        distrai(
            "wallet",
            "import",
            "--file",
            tmp_path / "bad.json",
            *with_password,
            stdin=TYPED[:-1] + "g\n",
            **environment,
        ),
        distrai("wallet", "import", file, "--file", tmp_path / "again.json", **wrong),
    ]
    assert [code for code, _ in said] == [0, 0, 2, 0, 2, 2], said
    needles = {
        "key": spellings(load_key(file, PASSWORD)._key.secret),
        "typed key": spellings(load_key(tmp_path / "typed.json", PASSWORD)._key.secret)
        | {TYPED[:-1].encode()},
        "password": words(PASSWORD),
        "wrong password": words(OTHER_PASSWORD),
    }
    places = {name: content for name, content in files_below(tmp_path).items() if name != words_file.name}
    assert not found(needles, places | {f"command {number}": text for number, (_, text) in enumerate(said)})
    assert not found(needles, {"arguments": b"\n".join(arguments.seen)})


@pytest.mark.parametrize(
    "before", [("wallet", "import"), ("wallet", "show", "--file"), ("wallet", "new", "--file")]
)
def test_a_key_that_is_typed_as_an_argument_is_not_repeated(before: tuple[str, ...], tmp_path: Path) -> None:
    """It is in the shell's history already: in a log it would be read by more."""
    code, said = distrai(*before, "0x" + TYPED, XDG_CONFIG_HOME=str(tmp_path), DISTRAI_PASSWORD=PASSWORD)
    assert code == 2 and b"arguments" in said
    assert not found({"key": spellings(bytes.fromhex(TYPED))}, {"said": said} | files_below(tmp_path))
    assert not list(tmp_path.rglob(f"*{TYPED}*"))
