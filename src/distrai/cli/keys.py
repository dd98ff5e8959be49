"""``distrai rotate-key``: sign with a new key."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distrai.cli.output import tell

Json = Annotated[bool, Parameter(negative=())]


def rotate_key(run: str, /, *, home: Path | None = None, json: Json = False) -> int:
    """Give the member of a stopped peer a new node key, on the ledger and in its home; then start the peer again.

    Parameters
    ----------
    run
        The folder of a run on this machine, or the link that `distrai run` printed.
    home
        The peer's home; the one that `distrai join` takes for this run, if not given.
    json
        Print one JSON object.
    """
    import asyncio

    from distrai.runs.joining import choose_join
    from distrai.runs.rotation import rotate

    target = choose_join(run, home)
    done = asyncio.run(rotate(target.home, target.link))
    member, key = "0x" + done.member.hex(), "0x" + done.key.hex()
    text = (
        f"Member {member[:14]} signs with key {key} from the next head on\n"
        "(a seat: once a certificate gave it that key).\n"
        f"Keep all {done.keys} keys of {target.home}, and start the peer again."
    )
    tell({"ok": True, "member": member, "key": key, "home": str(target.home)}, text, as_json=json)
    return 0
