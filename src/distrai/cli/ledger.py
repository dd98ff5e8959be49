"""``distrai ledger``: the embedded chain for other tools, contracts on any chain, and whether it all adds up."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from distrai.cli.output import tell
from distrai.cli.wallet import AnyWallet

Json = Annotated[bool, Parameter(negative=())]

ledger = App(
    name="ledger", help="The ledger: serve the embedded chain, deploy contracts, verify what adds up."
)


@ledger.command
def serve(
    folder: Path, /, *, listen: str = "127.0.0.1", port: int = 8545, advertise: str = "", json: Json = False
) -> int:
    """Serve an embedded chain as JSON-RPC for other tools (cast, web3, wallets), until Ctrl-C. Gas costs nothing.

    The chain has one operator, whoever serves it, and is no consensus.

    Parameters
    ----------
    folder
        The folder of a chain or of a run; a new chain begins in a new folder.
    listen
        The IP address to listen on; 0.0.0.0 for all, with --advertise.
    port
        The port; 0 takes any that is free.
    advertise
        The host that others see, if it is not the address to listen on.
    json
        Print events as JSON lines.
    """
    from distrai.runs.display import JsonLines
    from distrai.runs.serving import Serving, serve_until_stopped

    def say(event: dict[str, Any]) -> None:
        if event["event"] == "ready":
            print(
                f"chain {event['chain_id']} at {event['url']}, block {event['block']}, from {event['folder']}"
            )
            print(f"Note: {event['note']}. Ctrl-C ends it.", flush=True)
        else:
            print(f"stopped at block {event['block']}")

    serving = Serving.of(folder, listen, port, advertise)
    serve_until_stopped(serving, JsonLines(sys.stdout).report if json else say)
    return 0


@ledger.command
def deploy(
    *,
    rpc: str,
    settings: Path | None = None,
    out: Path = Path("deployments"),
    options: AnyWallet | None = None,
    json: Json = False,
) -> int:
    """Put all contracts on a chain, hand over the roles, check every one, and write the addresses down.

    Parameters
    ----------
    rpc
        The address of a node of that chain.
    settings
        Windows, roles and token (TOML); the values for production if not given.
    out
        The folder for CHAIN_ID.json.
    json
        Print one JSON object.
    """
    from distrai.runs.deploying import deploy_contracts, deployment_text

    told = deploy_contracts(rpc, settings, out, (options or AnyWallet()).chosen())
    tell(told, deployment_text(told), as_json=json)
    return 0 if told["ok"] else 1


@ledger.command
def verify(folder: Path, /, *, json: Json = False) -> int:
    """Recompute every certificate, root and record of a run from the ledger's events. Exits with 1 if one is wrong.

    Parameters
    ----------
    folder
        The folder of a run.
    json
        Print one JSON object.
    """
    from distrai.runs.folder import RunFolder
    from distrai.runs.ledger_verify import ledger_verify, ledger_verify_text

    told = ledger_verify(RunFolder(folder))
    tell(told, ledger_verify_text(told), as_json=json)
    return 0 if told["ok"] else 1
