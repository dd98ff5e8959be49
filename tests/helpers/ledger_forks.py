"""The embedded chain as a process that starts in a tenth of a second, to be killed often: forked from one that has
imported py-evm already. It is ``python -m distrai.ledger.embedded`` otherwise.
"""

import json
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

START_S = 180.0
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["distrai.ledger.embedded.__main__"])


@dataclass
class LedgerProcess:
    """A chain that is served, once ``ready`` gave its address."""

    process: ForkServerProcess
    said: Connection

    def ready(self) -> tuple[str, int] | None:
        """(URL, chain id) once it listens; None if it died before."""
        assert self.said.poll(START_S)
        try:
            told = json.loads(os.read(self.said.fileno(), 4096) or "null")
        finally:
            self.said.close()
        return None if told is None else (told["url"], told["chain_id"])

    def kill(self) -> None:
        """End it with SIGKILL, if it did not end itself."""
        self.process.kill()
        self.process.join(START_S)
        assert self.process.exitcode == -signal.SIGKILL
        self.process.close()


def start(folder: Path, writes: int = 0) -> LedgerProcess:
    """Serve the chain in ``folder``. ``writes``: SIGKILL itself when SQLite begins this statement that writes."""
    receiver, teller = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_serve, args=(folder, teller, writes))
    process.start()
    teller.close()
    return LedgerProcess(process, receiver)


def _serve(folder: Path, teller: Connection, writes: int) -> None:
    from distrai.ledger.embedded import __main__ as embedded

    os.dup2(teller.fileno(), 1)
    teller.close()
    sys.stdout = os.fdopen(1, "w", closefd=False)
    if writes:
        _die_at(writes)
    sys.argv = ["distrai.ledger.embedded", "--dir", str(folder)]
    sys.exit(embedded.main())


def _die_at(writes: int) -> None:
    from distrai.ledger.embedded.store import ChainStore

    left = writes
    connect = ChainStore.__init__

    def count(statement: str) -> None:
        nonlocal left
        left -= not statement.startswith("SELECT")
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def connect_and_count(self: ChainStore, path: Path) -> None:
        connect(self, path)
        self._db.set_trace_callback(count)

    ChainStore.__init__ = connect_and_count  # type: ignore[method-assign]
