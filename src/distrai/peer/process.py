"""A peer as a process: it finds its run on the ledger, gets what that starts from, joins and takes part.

Whoever starts it reads its standard output (one JSON event a line) and may write to its standard input: an invitation,
as one JSON line. The end of its input means "stop".
"""

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.ledger.client import LedgerClient
from distrai.ledger.errors import LedgerError
from distrai.ledger.keys import NodeKey, create_key, key_lock, load_key
from distrai.ledger.locks import FileLock
from distrai.network.http import HttpTransport
from distrai.network.interface import Endpoint, NetworkError
from distrai.peer.bootstrap import Bootstrap
from distrai.peer.directory import Directory
from distrai.peer.engine import Engine
from distrai.peer.events import Effect
from distrai.peer.feed import LedgerFeed
from distrai.peer.identity import Identity
from distrai.peer.link import Link
from distrai.peer.plan import Plan
from distrai.peer.runtime import Runtime
from distrai.peer.store import PeerStore
from distrai.peer.telemetry import Telemetry
from distrai.peer.worker import Worker
from distrai.protocol.ledger_events import (
    Announced,
    Certified,
    Joined,
    KeyChanged,
    LedgerEvent,
    RunOpened,
    Started,
)
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.signatures import recover
from distrai.protocol.standing import Standing
from distrai.protocol.typed_data import Domain


@dataclass(frozen=True)
class PeerOptions:
    """How to run a peer. ``archive``: keep everything, publish certificates, be a bootstrap address of the run."""

    home: Path
    link: Link
    archive: bool = False
    device: str = "auto"
    host: str = "127.0.0.1"


class PeerProcess:
    """One peer, from its home folder to its part in the run."""

    def __init__(self, options: PeerOptions, telemetry: Telemetry) -> None:
        self.options, self.telemetry = options, telemetry
        self.stopping = asyncio.Event()
        self.invitations: asyncio.Queue[bytes] = asyncio.Queue(16)

    async def run(self) -> None:
        """Take part until ``stopping`` is set. Raises what makes that impossible."""
        options = self.options
        options.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(options.home / "peer.lock", "this peer's home"), key_lock(options.home / "node.json"):
            store = PeerStore(options.home, archive=options.archive)
            if store.damaged_log is not None:
                self.telemetry.emit("damaged-log", kept=str(store.damaged_log))
            key = _node_key(options.home / "node.json")
            ledger = await LedgerClient.connect(
                options.link.rpc, options.link.registry, options.link.chain_id, key
            )
            transport = HttpTransport(
                store.blobs,
                host=options.host,
                port=0,
                address=key.address,
                sign=key.sign,
                recover=recover,
                local=True,
                rng=random.Random(),  # noqa: S311
            )
            try:
                url = await transport.start()
                await self._take_part(store, key, ledger, transport, url)
            finally:
                await transport.close()
                await ledger.close()
                store.close()

    async def _take_part(
        self, store: PeerStore, key: NodeKey, ledger: LedgerClient, transport: HttpTransport, url: str
    ) -> None:
        run = self.options.link.run
        history = await LedgerFeed(ledger, run).next()
        opened = next((event for event in history if isinstance(event, RunOpened)), None)
        if opened is None:
            raise ValueError(f"there is no run {run} on this ledger: check the link")
        bootstrap = Bootstrap(store.blobs, transport, _bootstrap_endpoints(history))
        plan = await bootstrap.plan(opened.genesis)
        initial = await bootstrap.initial_state(plan)
        corpus = await bootstrap.corpus(plan)
        member = await self._membership(store, ledger, key, history, plan)
        domain = Domain(self.options.link.chain_id, self.options.link.registry)
        identity = Identity(member, key.address, domain, key.sign, recover)
        secret = key.secret("sealing")
        worker = await asyncio.to_thread(Worker, plan, corpus, store, member, secret, self.options.device)
        kept = store.checkpoints()
        checkpoint = kept[-1]
        genesis = (run, opened.genesis.head, opened.genesis.state_root)
        engine = Engine(identity, plan.rules, kept, genesis)
        directory = Directory(identity, run, lambda: _keys(engine), store.save_endpoints)
        for record in store.endpoints():
            directory.learn(record)
        directory.announce_self(time.time_ns(), (url,))  # two starts may fall into one second
        if self.options.archive:
            await ledger.announce(run, member, url)
        first = self._resume(engine, store, worker, checkpoint.standing, initial)
        for endpoint in bootstrap.holders:
            directory.introduce(endpoint)
        self.telemetry.emit(
            "ready",
            member=member.hex(),
            url=url,
            device=str(worker.device),
            params=plan.layout.numel,
            round=checkpoint.standing.round if checkpoint.standing else 0,
        )
        runtime = Runtime(
            engine,
            worker,
            store,
            transport,
            ledger,
            key,
            LedgerFeed(ledger, run, checkpoint.at),
            directory,
            self.telemetry,
        )
        await _until(
            self.stopping, runtime.run(first, checkpoint.standing.head if checkpoint.standing else None)
        )

    def _resume(
        self, engine: Engine, store: PeerStore, worker: Worker, standing: Standing | None, initial: bytes
    ) -> list[Effect]:
        """Load the state of the checkpoint, and take back what this peer had said."""
        state = initial if standing is None else store.state_after(standing.round, initial)
        worker.load(standing, state)
        records = store.own_records()
        held = [blob.hash for blob in store.blobs.refs()]
        silent_through = store.silent_through()
        if standing is None and silent_through:
            self.telemetry.emit("silent", through=silent_through)
        return engine.resume(records, held, time.monotonic(), silent_through)

    async def _membership(
        self, store: PeerStore, ledger: LedgerClient, key: NodeKey, history: list[LedgerEvent], plan: Plan
    ) -> MemberId:
        """The own member id, after registering and joining where that has not happened yet."""
        run = self.options.link.run
        member = await ledger.member_of_key(key.address)
        if member is None:
            member = await ledger.register(key, key.address, key.address)
        self.telemetry.emit("member", member=member.hex(), address=key.address.hex())
        store.begin(member, _round_after_loss(history, member))
        if any(isinstance(event, Joined) and event.member == member for event in history):
            return member
        invitation = b""
        if plan.resolved.recipe.membership.admission == "invitation":
            invitation = await self.invitations.get()
        await ledger.join(run, member, key, invitation)
        self.telemetry.emit("joined", member=member.hex())
        return member


def _round_after_loss(history: list[LedgerEvent], member: MemberId) -> int:
    """The newest round in which this member may have spoken already, as far as the ledger knows; 0 if none."""
    joined = any(isinstance(event, Joined) and event.member == member for event in history)
    started = any(isinstance(event, Started) for event in history)
    rounds = max((event.body.round for event in history if isinstance(event, Certified)), default=0)
    return rounds + 1 if joined and started else 0


def _node_key(path: Path) -> NodeKey:
    return load_key(path) if path.exists() else create_key(path)


def _keys(engine: Engine) -> dict[Address, MemberId]:
    """Whose key each is: a seat has its old one until it is promoted with the new one."""
    return engine.following.keys


def _bootstrap_endpoints(history: list[LedgerEvent]) -> list[Endpoint]:
    """The addresses that the ledger names, the newest of each member."""
    keys: dict[MemberId, Address] = {}
    urls: dict[MemberId, str] = {}
    for event in history:
        if isinstance(event, Joined | KeyChanged):
            keys[event.member] = event.key
        elif isinstance(event, Announced):
            urls[event.member] = event.endpoint
    return [Endpoint(member, keys[member], (url,)) for member, url in urls.items()]


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
    """Take invitations from standard input; its end means stop."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        if "invitation" in command:
            process.invitations.put_nowait(bytes.fromhex(command["invitation"]))
    process.stopping.set()


async def main(options: PeerOptions) -> int:
    """Run a peer until its standard input ends or it is told to stop; 0, or 1 with the reason as an event."""
    telemetry = Telemetry()
    process = PeerProcess(options, telemetry)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stopping.set)
    commands = asyncio.create_task(_read_commands(process))
    try:
        await _until(process.stopping, process.run())
    except (ValueError, OSError, NetworkError, LedgerError) as error:
        telemetry.emit("failed", error=type(error).__name__, why=str(error))
        return 1
    finally:
        commands.cancel()
    return 0
