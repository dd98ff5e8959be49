"""``distrai run``: train with peers on this machine, from a recipe or going on with a run."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

INTERRUPTED = 130


def run(
    recipe: Path,
    /,
    *,
    out: Path | None = None,
    peers: int | None = None,
    rounds: int | None = None,
    device: str = "auto",
    listen: str = "127.0.0.1",
    advertise: str = "",
    port: int = 0,
    rpc: str = "",
    deployment: Path | None = None,
    wallet: Path | None = None,
    password_file: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,  # noqa: A002  # what users type
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Train a whole local network: a ledger and peers on this machine. On an unfinished run it goes on with that.

    It says at the start with which command others join.

    Parameters
    ----------
    recipe
        A recipe (TOML), or the folder of a run to go on with.
    out
        Folder of the run; runs/NAME, or the next that is free, if not given.
    peers
        How many peers, instead of what the recipe says.
    rounds
        How many rounds, instead of what the recipe says.
    device
        auto, cpu or cuda.
    listen
        An IP address of this machine under which others join, or 0.0.0.0 for all; without it nobody else can.
    advertise
        The host that others see, if it is not the address to listen on.
    port
        The ledger's port, and the next ones for the peers; any that are free if not given.
    rpc
        URL of a node of a chain that is there, to open the run on instead of a chain of its own. Where gas costs
        something, the opener sends the peers what they need for it. A run goes on there without saying so again.
    deployment
        With --rpc: the file of the contracts on that chain, as `distrai ledger deploy` wrote it.
    wallet
        With --rpc: the keystore of who opens and pays the run; the password is asked for, or taken from
        DISTRAI_PASSWORD. Without it: the key in the run's folder, which must be given gas and tokens first.
    password_file
        With --wallet: a file whose first line is the password.
    set
        Another value for a key of the recipe, like algorithm.inner_steps=20 or algorithm={preset="demo"} for the whole
        table; may be given several times.
    json
        Print events and summary as JSON lines, as is done anyway where the output is no terminal.
    """
    from rich.console import Console

    from distrai.runs.chain import choose_chain
    from distrai.runs.display import JsonLines, display_for
    from distrai.runs.listening import Listening
    from distrai.runs.session import choose, run_session
    from distrai.runs.telling import summary_text
    from distrai.runs.wallet import Wallet

    target = choose(recipe, out, peers, rounds, set or ())
    purse = None if wallet is None else Wallet.at(wallet, password_file)
    chain = choose_chain(rpc, deployment, purse, target.folder)
    display = display_for(Console(), sys.stdout, json_lines=json)
    outcome = run_session(target, device, display, Listening(listen, advertise, port), chain)
    where = outcome.folder.path
    if outcome.summary is None:
        why = "stopped before the first round; the same command begins again"
        print(f"distrai: {why} ({where})", file=sys.stderr)
    elif isinstance(display, JsonLines):
        display.report({"event": "summary", "folder": str(where), **outcome.summary.to_json()})
    else:
        print(summary_text(outcome.summary.to_json(), where))
    return 0 if outcome.finished else INTERRUPTED
