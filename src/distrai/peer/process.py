"""A peer as a process: it finds its run on the ledger, gets what that starts from, joins and takes part.

Whoever starts it reads its standard output (one JSON event a line) and may write to its standard input: an invitation,
as one JSON line. The end of its input means "stop".
"""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from distrai.ledger.client import LedgerClient
from distrai.ledger.errors import LedgerError
from distrai.ledger.keys import NodeKey, key_lock
from distrai.ledger.locks import FileLock
from distrai.network.http import HttpTransport, TlsKey
from distrai.network.http.addresses import is_own
from distrai.network.http.tls import FILE as TLS_FILE
from distrai.network.interface import NetworkError
from distrai.network.objects import MixedTransport, find_settings
from distrai.peer.keyring import FIRST, Keyring
from distrai.peer.options import PeerOptions
from distrai.peer.participation import Participation
from distrai.peer.reach import is_private, own_address_towards
from distrai.peer.store import PeerStore
from distrai.peer.telemetry import Telemetry
from distrai.protocol.signatures import recover

__all__ = ["PeerOptions", "PeerProcess", "main"]


class PeerProcess:
    """One peer, from its home folder to its part in the run."""

    def __init__(self, options: PeerOptions, telemetry: Telemetry) -> None:
        self.options, self.telemetry = options, telemetry
        self.stopping = asyncio.Event()
        self.leaving = asyncio.Event()
        self.invitations: asyncio.Queue[bytes] = asyncio.Queue(16)
        self.participation: Participation | None = None

    async def run(self) -> None:
        """Take part until ``stopping`` is set. Raises what makes that impossible."""
        options = self.options
        options.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(options.home / "peer.lock", "this peer's home"), key_lock(options.home / FIRST):
            store = PeerStore(options.home, archive=options.archive)
            if store.damaged_log is not None:
                self.telemetry.emit("damaged-log", kept=str(store.damaged_log))
            keyring = Keyring.open(options.home)
            link = options.link
            ledger = await LedgerClient.connect(link.rpc, link.registry, link.chain_id, keyring.first)
            self.telemetry.emit("key", address=keyring.first.address.hex())
            try:
                await self._take_part(store, keyring, await _current_key(keyring, ledger), ledger)
            finally:
                await ledger.close()
                store.close()

    async def _take_part(
        self, store: PeerStore, keyring: Keyring, key: NodeKey, ledger: LedgerClient
    ) -> None:
        options = self.options
        settings = find_settings(options.home, os.environ)
        host = options.host or own_address_towards(options.link.rpc)
        has_tls = not (is_own(host) and is_own(options.advertise or host))
        http = HttpTransport(
            store.blobs,
            host=host,
            port=options.port,
            tls=has_tls and TlsKey.open(options.home / TLS_FILE),
            advertise=options.advertise,
            address=key.address,
            sign=key.sign,
            recover=recover,
            local=is_private(options.link.rpc) if options.local is None else options.local,
            rng=random.Random(),  # noqa: S311
        )
        transport = MixedTransport(
            http,
            None if settings is None else settings.access,
            listen=settings is None or settings.listen,
            places=options.home / "outboxes.json",
        )
        try:
            urls = await transport.start()
            self.participation = Participation(
                options,
                self.telemetry,
                store,
                keyring,
                key.address,
                ledger,
                transport,
                urls,
                self.invitations,
                self.leaving,
                http.fingerprint,
            )
            await self.participation.run()
        finally:
            await transport.close()

    def stop(self, *, leave: bool) -> None:
        """Stop; where that means to leave, the first time in order. Who has no part in the run yet just stops."""
        part = self.participation
        if leave and part is not None and part.engine is not None and not self.leaving.is_set():
            self.leaving.set()
        else:
            self.stopping.set()


async def _current_key(keyring: Keyring, ledger: LedgerClient) -> NodeKey:
    """The key that the ledger has for this member now."""
    member = await ledger.member_of_key(keyring.first.address)
    return keyring.first if member is None else keyring.key((await ledger.member(member)).key)


async def _until(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` until it ends or stopping is set. Raises what it raises."""
    task = asyncio.create_task(work)
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _read_commands(process: PeerProcess) -> None:
    """Take invitations, and the wish to leave, from standard input; its end means stop."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            with suppress(
                ValueError, KeyError, AttributeError, asyncio.QueueFull
            ):  # not for us, or too much of it
                command = json.loads(line)
                if "invitation" in command:
                    process.invitations.put_nowait(bytes.fromhex(command["invitation"]))
                if command.get("leave"):
                    process.stop(leave=True)
    finally:
        process.stopping.set()


async def main(options: PeerOptions) -> int:
    """Run a peer until its standard input ends or it is told to stop; 0, or 1 with the reason as an event."""
    telemetry = Telemetry()
    process = PeerProcess(options, telemetry)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: process.stop(leave=options.leave_on_stop))
    commands = asyncio.create_task(_read_commands(process))
    try:
        await _until(process.stopping, process.run())
    except (ValueError, OSError, NetworkError, LedgerError) as error:
        telemetry.emit("failed", error=type(error).__name__, why=str(error))
        return 1
    finally:
        commands.cancel()
    return 0
