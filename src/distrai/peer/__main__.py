"""``python -m distrai.peer --home DIR --link LINK``: one peer as a process; see ``process.py``."""

import argparse
import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from distrai.peer.link import parse_link
from distrai.peer.process import PeerOptions, main


def options(arguments: list[str]) -> PeerOptions:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m distrai.peer", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of this peer alone")
    parser.add_argument("--link", type=parse_link, required=True, help="the run, as `distrai run` prints it")
    parser.add_argument("--archive", action="store_true", help="keep everything and be a bootstrap address")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--snapshot", action="store_true", help="begin from a snapshot where the run is under way"
    )
    parser.add_argument(
        "--leave-on-stop", action="store_true", help="SIGTERM and Ctrl-C leave the run; twice ends at once"
    )
    parser.add_argument(
        "--host", default="", help="the address to listen on (default: the one that faces the ledger)"
    )
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: any)")
    parser.add_argument(
        "--advertise", default="", help="host, host:port or URL for others, if not where it listens"
    )
    parser.add_argument(
        "--local",
        action=argparse.BooleanOptionalAction,
        help="whether other peers may be in private networks (default: if the ledger is)",
    )
    return PeerOptions(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    code = asyncio.run(main(options(sys.argv[1:])))
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever started this may be gone
            stream.flush()
    os._exit(code)  # all is closed and on disk: to take down torch in order costs a second more
