"""``distrai wallet``: the key that rewards go to and stakes come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from distrai.cli.output import tell

if TYPE_CHECKING:
    from distrai.runs.wallet import Wallet

Json = Annotated[bool, Parameter(negative=())]

wallet = App(name="wallet", help="Your wallet: the key that rewards go to and stakes come from.")


@Parameter(name="*")
@dataclass(frozen=True)
class NewWallet:
    """The wallet of the verbs of ``distrai wallet``."""

    file: Path | None = None
    "The wallet; distrai/wallet.json in $XDG_CONFIG_HOME (~/.config) if not given."
    password_file: Path | None = None
    "A file whose first line is the password; else $DISTRAI_PASSWORD, else it is asked for."
    keyring: Json = False
    "Take the password from the system's keyring; a new one is kept there."

    def chosen(self) -> "Wallet":
        """The wallet."""
        from distrai.runs.wallet import Wallet

        return Wallet.at(self.file, self.password_file, use_keyring=self.keyring)


@Parameter(name="*")
@dataclass(frozen=True)
class AnyWallet:
    """The wallet of all other verbs."""

    wallet: Path | None = None
    "A wallet; the one that `distrai wallet new` made if not given."
    password_file: Path | None = None
    "A file whose first line is its password; else $DISTRAI_PASSWORD, else it is asked for."
    keyring: Json = False
    "Take its password from the system's keyring."

    def chosen(self) -> "Wallet":
        """The wallet."""
        from distrai.runs.wallet import Wallet

        return Wallet.at(self.wallet, self.password_file, use_keyring=self.keyring)


@wallet.command
def new(*, options: NewWallet | None = None, json: Json = False) -> int:
    """Make a wallet: a new key in an encrypted keystore file that only you can read.

    Keep a copy of the file and remember the password: nobody can bring back either.

    Parameters
    ----------
    json
        Print one JSON object.
    """
    from distrai.runs.wallet import show_address

    chosen = (options or NewWallet()).chosen()
    address = show_address(chosen.new().address)
    text = f"{address}\nThe wallet is {chosen.path}. Keep a copy of it: without file and password its tokens are lost."
    tell({"ok": True, "address": address, "file": str(chosen.path)}, text, as_json=json)
    return 0


@wallet.command
def show(
    run: str = "", /, *, options: NewWallet | None = None, check: Json = False, json: Json = False
) -> int:
    """Show the wallet's address, and what it has of a run's tokens. It never shows the key.

    Parameters
    ----------
    run
        The folder of a run on this machine, or its link.
    check
        Open it, to see that the password is right.
    json
        Print one JSON object.
    """
    from distrai.runs.wallet import show_address

    chosen = (options or NewWallet()).chosen()
    address = show_address(chosen.open().address if check else chosen.address())
    opens = ", and the password opens it" if check else ""
    told = {"ok": True, "address": address, "file": str(chosen.path), "opened": check}
    text = f"{address}\nThe wallet is {chosen.path}{opens}."
    if run:
        from distrai.runs.sending import balance_of

        told |= balance_of(run, chosen)
        text += f"\nIt has {told['balance']} {told['symbol']}."
    tell(told, text, as_json=json)
    return 0


@wallet.command(name="import")
def import_(source: str = "", /, *, options: NewWallet | None = None, json: Json = False) -> int:
    """Make a wallet with a key that exists: of a keystore file, else typed or given on standard input.

    Parameters
    ----------
    source
        A keystore file (version 3), whose password the wallet keeps. A key itself is never an argument.
    json
        Print one JSON object.
    """
    from distrai.runs.wallet import import_keystore, read_secret_key, refuse_key, show_address

    chosen = (options or NewWallet()).chosen()
    refuse_key(source)
    key = import_keystore(chosen, Path(source)) if source else chosen.keep(read_secret_key())
    address = show_address(key.address)
    text = f"{address}\nThe wallet is {chosen.path}."
    tell({"ok": True, "address": address, "file": str(chosen.path)}, text, as_json=json)
    return 0


@wallet.command
def send(run: str, to: str, amount: str, /, *, options: AnyWallet | None = None, json: Json = False) -> int:
    """Send tokens of a run to an address: from who opened it where that is this machine, else from the wallet.

    Parameters
    ----------
    run
        The folder of a run on this machine, or its link.
    to
        The address, like the one that `distrai wallet show` prints.
    amount
        How many tokens, like 12.5.
    json
        Print one JSON object.
    """
    from distrai.runs.sending import send_tokens

    options = options or AnyWallet()
    told = send_tokens(run, to, amount, options.chosen(), named=options.wallet is not None)
    text = (
        f"Sent {told['amount']} {told['symbol']} from {told['from']} to {told['to']}, and {told['left']} are left "
        f"(transaction {told['transaction']})."
    )
    tell(told, text, as_json=json)
    return 0
