"""``distrai wallet``: an encrypted file, a password that only its owner can give, and never a key in any output."""

import json
import os
import pty
from collections.abc import Callable
from pathlib import Path

import keyring
import pytest
from eth_account import Account
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring

from distrai.cli.main import main

PASSWORD = "correct horse"
OTHER = "battery staple"
SECRET = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
ADDRESS = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is not how long guessing takes."""
    monkeypatch.setattr("distrai.ledger.keys._STANDARD_SCRYPT_N", 1 << 12)


@pytest.fixture
def distrai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb with an own place for wallets; whatever it prints must not have the key in it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISTRAI_PASSWORD", raising=False)

    def run(*arguments: object, password: str | None = PASSWORD, stdin: str = "") -> tuple[int, str, str]:
        if password is None:
            monkeypatch.delenv("DISTRAI_PASSWORD", raising=False)
        else:
            monkeypatch.setenv("DISTRAI_PASSWORD", password)
        reading, writing = os.pipe()
        os.write(writing, stdin.encode())
        os.close(writing)
        with os.fdopen(reading) as given:
            monkeypatch.setattr("sys.stdin", given)
            code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        for text in (said.out, said.err):
            assert SECRET not in text.lower() and PASSWORD not in text
            assert bytes.fromhex(SECRET)[:16].hex() not in text.lower()
        return code, said.out, said.err

    return run


@pytest.fixture
def default(tmp_path: Path) -> Path:
    return tmp_path / "config" / "distrai" / "wallet.json"


def test_a_new_wallet_is_a_file_that_only_its_owner_can_read_and_other_tools_can_open(
    distrai: Run, default: Path
) -> None:
    code, out, _ = distrai("wallet", "new", "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["file"]) == (0, True, str(default))
    assert default.stat().st_mode & 0o777 == 0o600
    kept = json.loads(default.read_bytes())
    assert kept["crypto"]["kdf"] == "scrypt" and kept["crypto"]["kdfparams"]["n"] == 1 << 18
    secret = Account.decrypt(kept, PASSWORD)
    assert Account.from_key(secret).address == told["address"]
    assert secret.hex() not in out


def test_show_needs_no_password_and_check_opens_it(distrai: Run, default: Path, cheap: None) -> None:
    address = json.loads(distrai("wallet", "new", "--json")[1])["address"]
    code, out, _ = distrai("wallet", "show", password=None)
    assert code == 0 and out.splitlines()[0] == address
    assert distrai("wallet", "show", "--check")[0] == 0
    code, _, err = distrai("wallet", "show", "--check", password=OTHER)
    assert code == 2 and "the password does not open" in err
    code, _, err = distrai("wallet", "show", "--check", password=None)
    assert code == 2 and "DISTRAI_PASSWORD" in err and "--password-file" in err
    kept = json.loads(default.read_bytes())
    default.write_text(json.dumps(kept | {"address": ADDRESS[2:]}))
    code, _, err = distrai("wallet", "show", "--check")
    assert code == 2 and "names another address" in err


def test_a_wallet_that_is_there_is_not_overwritten(distrai: Run, default: Path, cheap: None) -> None:
    distrai("wallet", "new")
    before = default.read_bytes()
    for arguments in (["new"], ["import"]):
        code, _, err = distrai("wallet", *arguments, stdin=SECRET)
        assert code == 2 and "is not overwritten" in err
    assert default.read_bytes() == before
    assert list(default.parent.iterdir()) == [default]


def test_what_is_missing_is_said_with_what_to_do(distrai: Run, default: Path) -> None:
    code, _, err = distrai("wallet", "show")
    assert code == 2 and "distrai wallet new" in err
    code, _, err = distrai("wallet", "new", password="short")
    assert code == 2 and "at least 8" in err
    code, _, err = distrai("wallet", "new", password=None)
    assert code == 2 and "no password is given" in err
    assert not default.exists()


def test_a_key_comes_from_standard_input_or_a_keystore_and_never_from_an_argument(
    distrai: Run, tmp_path: Path, cheap: None
) -> None:
    code, out, _ = distrai("wallet", "import", "--json", stdin=f"0x{SECRET}\n")
    assert code == 0 and json.loads(out)["address"] == ADDRESS
    store = tmp_path / "foreign.json"
    store.write_text(json.dumps(Account.encrypt(SECRET, OTHER, kdf="pbkdf2", iterations=1000)))
    store.chmod(0o600)
    words = tmp_path / "password"
    words.write_text(f"{OTHER}\n")
    mine = tmp_path / "mine.json"
    arguments = ("--file", mine, "--password-file", words)
    assert distrai("wallet", "import", store, *arguments, password=None)[0] == 0
    assert Account.decrypt(json.loads(mine.read_bytes()), OTHER).hex() == SECRET
    for argument in (SECRET, "0x" + SECRET):
        code, _, err = distrai("wallet", "import", argument, "--file", tmp_path / "third.json")
        assert code == 2 and "shell's history" in err
    assert not (tmp_path / "third.json").exists()


@pytest.mark.parametrize("text", ["", "not a key", SECRET[:-1], "0" * 64, "f" * 64])
def test_what_is_no_key_is_refused_and_not_repeated(distrai: Run, text: str) -> None:
    code, _, err = distrai("wallet", "import", stdin=text)
    assert code == 2 and "private key" in err
    assert not text or text not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["wallet", "show", "--file", SECRET],
        ["wallet", "new", SECRET],
        ["wallet", SECRET],
        ["wallet", "new", f"--key={SECRET}"],
        ["wallet", "new", f"--secret=0x{SECRET}"],
        [SECRET],
        ["payout", "/", SECRET],
        ["payout", "/", "0x" + SECRET],
        ["join", "/", "--payout", SECRET],
        ["stake", "/", "--payout", SECRET],
        ["stake", "/", "--wallet", SECRET],
        ["records", "--sender", "0x" + SECRET],
    ],
)
def test_a_key_in_arguments_is_repeated_nowhere(distrai: Run, arguments: list[str]) -> None:
    code, _, err = distrai(*arguments)
    assert code == 2 and err.startswith("distrai: ")


def test_a_password_is_typed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distrai: Run, default: Path, cheap: None
) -> None:
    monkeypatch.delenv("DISTRAI_PASSWORD", raising=False)
    typed = iter([PASSWORD, OTHER, PASSWORD, PASSWORD, PASSWORD])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    _, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert main(["wallet", "new"]) == 2
        assert not default.exists()
        assert main(["wallet", "new"]) == 0
        assert main(["wallet", "show", "--check"]) == 0


class Drawer(KeyringBackend):
    """A keyring in memory."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


def test_the_systems_keyring_keeps_a_password(
    distrai: Run, default: Path, monkeypatch: pytest.MonkeyPatch, cheap: None
) -> None:
    drawer = Drawer()
    monkeypatch.setattr(keyring, "get_keyring", lambda: drawer)
    monkeypatch.setattr(keyring, "get_password", drawer.get_password)
    monkeypatch.setattr(keyring, "set_password", drawer.set_password)
    assert distrai("wallet", "new", "--keyring")[0] == 0
    assert drawer.kept == {("distrai", str(default)): PASSWORD}
    assert distrai("wallet", "show", "--check", "--keyring", password=None)[0] == 0
    drawer.kept.clear()
    code, _, err = distrai("wallet", "show", "--check", "--keyring", password=None)
    assert code == 2 and "leave out --keyring" in err


def test_a_machine_without_a_keyring_is_told_what_to_do(
    distrai: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "get_keyring", lambda: NoKeyring())
    code, _, err = distrai("wallet", "new", "--keyring")
    assert code == 2 and "no keyring" in err and "--password-file" in err
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    code, _, err = distrai("wallet", "new", "--keyring")
    assert code == 2 and "pip install 'distrai[keyring]'" in err
