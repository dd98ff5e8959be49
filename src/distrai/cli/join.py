"""``distrai join`` and ``distrai invite``: take part in a run that others opened."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distrai.cli.output import tell
from distrai.cli.wallet import AnyWallet

Json = Annotated[bool, Parameter(negative=())]


def join(
    run: str,
    /,
    *,
    home: Path | None = None,
    host: str = "",
    port: int = 0,
    advertise: str = "",
    device: str = "auto",
    invitation: str = "",
    leave: bool = True,
    payout: str = "",
    json: Json = False,
) -> int:
    """Contribute this machine to a run that is under way. Ctrl-C leaves it in order; a second one ends at once.

    Where the run pays, it first says what that may bring; where it asks for a stake, `distrai stake` comes first.

    Parameters
    ----------
    run
        The folder of a run on this machine, or the link that `distrai run` printed.
    home
        Where this peer keeps its key, log and blobs. A home that exists goes on where it stopped.
    host
        The address to listen on; if not given, the one of this machine that faces the ledger.
    port
        The port to listen on; any that is free if not given.
    advertise
        Where others reach this peer (host, host:port or URL), if that is not where it listens.
    device
        auto, cpu or cuda.
    invitation
        What the owner's `distrai invite` printed, if the run is by invitation. It can be typed later, too.
    leave
        Whether Ctrl-C and SIGTERM leave the run; with --no-leave the same command goes on later.
    payout
        The address to which stake and rewards go; the wallet's if there is one, else this peer's own.
    json
        Print events as JSON lines, as is done anyway where the output is no terminal.
    """
    from distrai.runs.display import JsonLines
    from distrai.runs.join_text import JoinText
    from distrai.runs.joining import JoinOptions, choose_join, read_invitation, run_join
    from distrai.runs.membership import payout_of, prepare_join

    target = choose_join(run, home)
    goes_to = payout_of(payout, AnyWallet().chosen())
    code = read_invitation(invitation) if invitation else b""
    as_json = json or not sys.stdout.isatty()
    report = JsonLines(sys.stdout).report if as_json else JoinText(target.home, sys.stdout).report
    reach = [("--host", host), ("--port", str(port or "")), ("--advertise", advertise)]
    arguments = tuple(part for flag, value in reach if value for part in (flag, value))
    pays = prepare_join(run, home, goes_to, report)
    done = run_join(target, JoinOptions(device, leave, code, arguments, pays), report)
    ending = "finished" if done.finished else "left" if done.left else "stopped"
    report({"event": "over", "how": ending, "home": str(target.home)})
    return 0


def invite(folder: Path, member: str, /, *, pay: Json = False, json: Json = False) -> int:
    """Let a member into a run that was opened on this machine: prints what it gives to `distrai join --invitation`.

    Parameters
    ----------
    folder
        The folder of the run.
    member
        The id that the other's `distrai join` printed.
    pay
        Also let it earn, from the next round on: without audits a run pays only whom its owner names.
    json
        Print one JSON object.
    """
    from distrai.runs.folder import RunFolder
    from distrai.runs.joining import invite as invite_member
    from distrai.runs.joining import read_member

    code = "0x" + invite_member(RunFolder(folder), read_member(member)).hex()
    if pay:
        from distrai.runs.membership import allow_member

        allow_member(RunFolder(folder), read_member(member))
    text = f"{code}\nIt may earn from the next round on." if pay else code
    tell({"ok": True, "member": member, "invitation": code, "pay": pay}, text, as_json=json)
    return 0
