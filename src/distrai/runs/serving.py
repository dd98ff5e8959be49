"""The embedded chain as a server for other tools, until somebody stops it."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.runs.anchor import SERVED
from distrai.runs.folder import RunFolder
from distrai.runs.listening import Listening

Report = Callable[[dict[str, Any]], None]
NO_CONSENSUS = (
    "this chain has one operator, whoever runs this command, and is no consensus: trust it as you trust them"
)


class NoChain(ValueError):
    """A folder holds something else than a chain."""


@dataclass(frozen=True)
class Serving:
    """Which chain is served, and where."""

    folder: Path
    listening: Listening

    @classmethod
    def of(cls, folder: Path, address: str, port: int, name: str = "") -> "Serving":
        """The chain in a folder, or that of the run in it; an empty or new folder gets a new chain.

        Raises NoChain or CannotListen.
        """
        run = RunFolder(folder)
        if run.exists():
            if not run.ledger.is_dir():
                raise NoChain(f"the run in {folder} is on a chain of its own, which is served elsewhere")
            folder = run.ledger
        is_chain = (folder / "chain.sqlite").exists()
        if folder.exists() and not is_chain and (not folder.is_dir() or any(folder.iterdir())):
            raise NoChain(f"{folder} holds no chain: give the folder of one, of a run, or a new one")
        return cls(folder, Listening(address, name, port))

    async def run(self, report: Report, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set. Raises InUse, or OSError if the port is taken."""
        names = [self.listening.advertise] if self.listening.advertise else []
        chain = EmbeddedChain.open(self.folder)
        try:
            async with serve(chain, self.listening.address, self.listening.port, names) as url:
                (self.folder / SERVED).write_text(f"{os.getpid()} {url}")
                report(
                    {
                        "event": "ready",
                        "url": url,
                        "chain_id": chain.chain_id,
                        "block": chain.block_number,
                        "folder": str(self.folder),
                        "open": self.listening.is_open,
                        "note": NO_CONSENSUS,
                    }
                )
                await stop.wait()
            report({"event": "stopped", "block": chain.block_number})
        finally:
            chain.close()


def serve_until_stopped(serving: Serving, report: Report) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises as ``Serving.run``."""

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await serving.run(report, stop)

    asyncio.run(run())
