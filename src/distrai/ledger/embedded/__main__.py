"""``python -m distrai.ledger.embedded --dir DIR``: serve the chain in DIR until told to stop.

Prints one JSON line when ready: ``{"event": "ready", "url": ..., "chain_id": ...}``. The port is remembered in DIR, so
that a restart listens where clients look for it. With ``--parent-pipe`` it lives exactly as long as its standard input,
so that it never outlives who started it, and Ctrl-C is left to that process.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from contextlib import AsyncExitStack
from pathlib import Path

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.locks import InUse


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m distrai.ledger.embedded", description=__doc__.partition(":")[0]
    )
    parser.add_argument(
        "--dir", type=Path, required=True, help="folder of the chain; made if it is not there"
    )
    parser.add_argument("--port", type=int, default=0, help="port (default: the same as last time, or any)")
    parser.add_argument(
        "--listen", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="a name of this machine in the DNS under which others may ask; it can be given several times",
    )
    parser.add_argument("--parent-pipe", action="store_true", help="stop when standard input closes")
    return parser.parse_args()


async def _start(stack: AsyncExitStack, chain: EmbeddedChain, arguments: argparse.Namespace) -> str:
    """Listen on the port asked for, else on the one remembered if it is free, else on any."""
    memory = arguments.dir / "port"
    remembered = memory.read_text().strip() if memory.exists() else ""
    wanted = arguments.port or (int(remembered) if remembered.isdigit() else 0)
    try:
        url = await stack.enter_async_context(serve(chain, arguments.listen, wanted, arguments.name))
    except OSError:
        if arguments.port:
            raise
        url = await stack.enter_async_context(serve(chain, arguments.listen, 0, arguments.name))
    temporary = memory.with_suffix(".new")
    temporary.write_text(url.rpartition(":")[2])
    temporary.replace(memory)
    return url


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set ``stop`` when standard input ends. A thread, because not every kind of file can be polled."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True).start()


async def _run(arguments: argparse.Namespace) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if arguments.parent_pipe:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _watch_parent(loop, stop)
    else:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    chain = EmbeddedChain.open(arguments.dir)
    try:
        async with AsyncExitStack() as stack:
            url = await _start(stack, chain, arguments)
            print(json.dumps({"event": "ready", "url": url, "chain_id": chain.chain_id}), flush=True)
            await stop.wait()
    finally:
        chain.close()


def main() -> int:
    """Run until stopped; 0 if that was asked for, 2 if the folder or port is taken."""
    try:
        asyncio.run(_run(_arguments()))
    except (InUse, OSError) as error:
        print(json.dumps({"event": "error", "message": str(error)}), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
