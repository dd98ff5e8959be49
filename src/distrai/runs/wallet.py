"""The user's wallet: one key in an encrypted keystore file, to which rewards go and from which stakes come.

A password comes from a prompt, a file, the environment or the system's keyring; never from an argument, which every
other user of the machine can read. A key comes from a keystore file, a prompt or standard input.
"""

import getpass
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.ledger.keys import BadKeystore, KeyExists, NodeKey, NoSuchKey, load_key, read_password, save_key
from distrai.protocol.primitives import ADDRESS_SIZE, Address

PASSWORD_VARIABLE = "DISTRAI_PASSWORD"  # noqa: S105  # the name of one
PASSWORD_MIN = 8
KEYRING_SERVICE = "distrai"
_KEY = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1: keys are numbers from 1 up to the one below it."""


class WalletError(ValueError):
    """The wallet cannot be used like this; the message says what to do."""


class NoPassword(WalletError):
    """Nothing gives the wallet's password."""


class BadPassword(WalletError):
    """A new password that protects nothing."""


class BadAddress(WalletError):
    """What was given is no address."""


class NoKeyring(WalletError):
    """This machine has no keyring to ask."""


class KeyInArguments(WalletError):
    """A private key was given where every program of this machine can read it."""


def default_wallet(environment: Mapping[str, str] | None = None) -> Path:
    """Where the wallet is if nobody says otherwise: ``distrai/wallet.json`` in the user's folder of settings."""
    environment = os.environ if environment is None else environment
    base = environment.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base else Path.home() / ".config") / "distrai" / "wallet.json"


@dataclass(frozen=True)
class Wallet:
    """A wallet's file, and where its password comes from. ``use_keyring``: from the system's, and kept there if new."""

    path: Path
    password_file: Path | None = None
    use_keyring: bool = False

    @classmethod
    def at(
        cls, path: Path | None, password_file: Path | None = None, *, use_keyring: bool = False
    ) -> "Wallet":
        """The wallet in a file, or the default one. Raises KeyInArguments."""
        if path is not None:
            refuse_key(path.name)
        return cls(default_wallet() if path is None else path, password_file, use_keyring)

    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    def address(self) -> Address:
        """Its address, as the file says; no password is asked for. Raises NoSuchKey or BadKeystore."""
        try:
            content = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            raise self._missing() from None
        except ValueError:
            raise BadKeystore(f"{self.path} is no keystore: choose another --file") from None
        said = content.get("address") if isinstance(content, dict) else None
        try:
            return parse_address(f"0x{str(said).removeprefix('0x')}".lower())
        except BadAddress:
            raise BadKeystore(
                f"{self.path} does not say which address it is: choose another --file, or import it anew"
            ) from None

    def open(self) -> NodeKey:
        """Its key. Raises NoSuchKey, WrongPassword or another KeyFileError, NoPassword, NoKeyring."""
        if not self.exists():
            raise self._missing()
        key = load_key(self.path, self.password())
        if key.address != self.address():
            raise BadKeystore(f"{self.path} names another address than its key has: it was changed")
        return key

    def new(self) -> NodeKey:
        """Make one with a new key. Raises KeyExists, NoPassword, BadPassword, NoKeyring."""
        return self.keep(NodeKey.generate())

    def keep(self, key: NodeKey, password: str | None = None) -> NodeKey:
        """Make one with this key; ``password`` None asks for a new one. Raises as ``new``."""
        self.check_free()
        chosen = self.new_password() if password is None else password
        check_password(chosen)
        store = _keyring() if self.use_keyring else None
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        save_key(key, self.path, chosen)
        if store is not None:
            store.set_password(KEYRING_SERVICE, self._entry, chosen)
        return key

    def check_free(self) -> None:
        """Raise KeyExists if there is a wallet already."""
        if self.exists():
            raise KeyExists(
                f"{self.path} is a wallet already, and is not overwritten: use it, or choose another --file"
            )

    def password(self) -> str:
        """The password of a wallet that exists. Raises NoPassword or NoKeyring."""
        given = self._given()
        if given is not None:
            return given
        if self.use_keyring:
            kept: str | None = _keyring().get_password(KEYRING_SERVICE, self._entry)
            if kept is None:
                raise NoPassword(
                    f"the system's keyring has no password of {self.path}: leave out --keyring to be asked for it"
                )
            return kept
        return _ask(f"Password of {self.path}: ")

    def new_password(self) -> str:
        """A password for a new wallet; typed twice where it is typed. Raises NoPassword or BadPassword."""
        given = self._given()
        if given is None:
            given = _ask(f"New password for {self.path} (at least {PASSWORD_MIN} characters): ")
            if given != _ask("The same again: "):
                raise BadPassword("the two passwords differ: try again")
        check_password(given)
        return given

    def _given(self) -> str | None:
        if self.password_file is not None:
            return read_password(self.password_file)
        return os.environ.get(PASSWORD_VARIABLE)

    @property
    def _entry(self) -> str:
        return str(self.path.absolute())

    def _missing(self) -> NoSuchKey:
        return NoSuchKey(
            f"there is no wallet at {self.path}: make one with `distrai wallet new`, or name another with --file "
            "(--wallet for other commands)"
        )


def check_password(password: str) -> None:
    """Raise BadPassword for one that protects nothing."""
    if len(password) < PASSWORD_MIN:
        raise BadPassword(f"the password is too short: give at least {PASSWORD_MIN} characters")


def import_keystore(wallet: Wallet, source: Path) -> NodeKey:
    """Take the key of a keystore file into a wallet; it keeps its password. Raises as ``Wallet.open`` and ``new``."""
    wallet.check_free()
    from_file = Wallet(source, wallet.password_file)
    password = from_file.password()
    return wallet.keep(load_key(source, password), password)


def read_secret_key() -> NodeKey:
    """A private key that somebody types or that comes from standard input. Raises WalletError.

    What was read is in no message: whoever sees the error shall not see the key.
    """
    if sys.stdin.isatty():
        text = getpass.getpass("Private key (64 hexadecimal digits; nothing is shown): ")
    else:
        text = sys.stdin.readline(4096)
    text = text.strip()
    if not _KEY.fullmatch(text):
        raise WalletError(
            "that is no private key: type it, or give it on standard input, as 64 hexadecimal digits with or without "
            "0x; or name a keystore file"
        )
    secret = bytes.fromhex(text.removeprefix("0x"))
    if not 0 < int.from_bytes(secret, "big") < _ORDER:
        raise WalletError("that number is no private key of secp256k1: check what was copied")
    return NodeKey(secret)


def refuse_key(argument: str) -> None:
    """Raise KeyInArguments if a private key was typed as an argument; it is not repeated."""
    if _KEY.fullmatch(argument.strip()):
        raise KeyInArguments(
            "this looks like a private key, and arguments can be read by others and stay in the shell's history: "
            "consider that key as known, and leave the argument out to type a key that is not"
        )


def parse_address(text: str) -> Address:
    """An address as people pass it on; where it has capitals they are its check sum. Raises BadAddress."""
    text = text.strip()
    refuse_key(text)
    if not _ADDRESS.fullmatch(text):
        raise BadAddress(f"{text[:50]!r} is no address: it is 0x and {2 * ADDRESS_SIZE} hexadecimal digits")
    address = Address(bytes.fromhex(text[2:]))
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and show_address(address) != text:
        raise BadAddress(f"{text} is mistyped: its capitals are a check sum, which is wrong; copy it again")
    return address


def show_address(address: Address) -> str:
    """An address as people pass it on (EIP-55)."""
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(address))


def _ask(prompt: str) -> str:
    if not sys.stdin.isatty():
        raise NoPassword(
            f"no password is given, and nobody is at a terminal to type it: set {PASSWORD_VARIABLE}, or name a file "
            "with --password-file"
        )
    return getpass.getpass(prompt)


def _keyring() -> Any:
    """The ``keyring`` package with a back end that keeps things. Raises NoKeyring."""
    try:
        import keyring
        from keyring.backends.fail import Keyring as NoBackend
    except ImportError:
        raise NoKeyring(
            "--keyring needs the package `keyring`: pip install 'distrai[keyring]', or use --password-file"
        ) from None
    if isinstance(keyring.get_keyring(), NoBackend):
        raise NoKeyring(
            "this machine has no keyring that is unlocked: use --password-file or type the password"
        )
    return keyring
