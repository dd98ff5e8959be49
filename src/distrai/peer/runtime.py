"""The engine in the real world: asyncio around it, one thread that trains and one that computes what a round asks for.

Nothing is decided here. Events go in one after the other, effects are carried out in order, and whatever takes time runs
beside the loop and comes back as another event.
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event as ThreadEvent
from typing import Any

import msgspec

from distrai.ledger.errors import LedgerError, LedgerRefused
from distrai.ledger.interface import Ledger
from distrai.network.interface import NetworkError, Transport
from distrai.peer.directory import Directory
from distrai.peer.engine import Engine
from distrai.peer.events import (
    Apply,
    BlobFailed,
    BlobStored,
    Effect,
    Evaluate,
    Event,
    Fetch,
    FetchList,
    GossipDue,
    LedgerChanged,
    ListArrived,
    LookAtLedger,
    MessageReceived,
    Note,
    OfferList,
    Open,
    Persist,
    Send,
    StateApplied,
    StateComputed,
    StopTraining,
    Submit,
    Tick,
    Train,
    UpdateOpened,
    WakeAt,
)
from distrai.peer.feed import LedgerFeed
from distrai.peer.journal import Evaluated, Journal, Trained
from distrai.peer.records import CertificateRecord, GenesisRecord
from distrai.peer.store import PeerStore
from distrai.peer.telemetry import Telemetry
from distrai.peer.worker import Worker
from distrai.protocol.blobs import BlobRef
from distrai.protocol.canonical import canonical_json
from distrai.protocol.errors import ProtocolError
from distrai.protocol.ledger_events import Certified, LedgerEvent, RunOpened, Started
from distrai.protocol.lists import decode_list
from distrai.protocol.messages import (
    INLINE_BLOB_BYTES_MAX,
    SALT_SIZE,
    ListOffer,
    Packet,
    decode_packet,
    encode_packet,
)
from distrai.protocol.primitives import ZERO_HASH, Hash, MemberId

GOSSIP_PERIOD_S = 1.5
GOSSIP_PEERS = 2
QUIET_POLL_S = 1.0
BUSY_POLL_S = 0.1
SEND_DEADLINE_S = 10.0
FETCH_DEADLINE_S = 600.0
EVENTS_MAX = 10_000
STEP_REPORT_S = 1.0
"""Least time between two reports of inner steps."""


class Runtime:
    """One peer at work in one run, until ``run`` is cancelled or the engine finds something wrong."""

    def __init__(
        self,
        engine: Engine,
        worker: Worker,
        store: PeerStore,
        transport: Transport,
        ledger: Ledger,
        feed: LedgerFeed,
        directory: Directory,
        telemetry: Telemetry,
    ) -> None:
        self.engine, self.worker, self.store = engine, worker, store
        self.transport, self.directory, self.telemetry = transport, directory, telemetry
        self.ledger, self.feed = ledger, feed
        self.journal = Journal(store.log, transport.counters)
        self.events: asyncio.Queue[Event] = asyncio.Queue(EVENTS_MAX)
        self.compute = ThreadPoolExecutor(1, "compute")
        self.training = ThreadPoolExecutor(1, "training")
        self.stop_training = ThreadEvent()
        self.look = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.timer: asyncio.TimerHandle | None = None
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.random = random.SystemRandom()

    # Life

    async def run(self, first: list[Effect], resumed: Hash | None) -> None:
        """Carry out ``first`` (what resuming asked for), then live. Raises what made it impossible to go on.

        ``resumed`` is the head whose state is loaded already.
        """
        try:
            self.journal.running(self.worker.member)
            for effect in first:
                self._carry_out(effect)
            if resumed is not None:
                await self.events.put(StateApplied(resumed))
            self.look.set()
            for life in (self._drive(), self._follow_ledger(), self._receive(), self._gossip()):
                self._spawn(life)
            await self.failure
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop the threads and tasks."""
        self.stop_training.set()
        if self.timer is not None:
            self.timer.cancel()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pool in (self.training, self.compute):
            await asyncio.to_thread(pool.shutdown, True, cancel_futures=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the loop; an error nobody expected ends the peer, loudly."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self.failure.done():
            self.failure.set_exception(task.exception() or RuntimeError("unreachable"))

    async def _drive(self) -> None:
        while True:
            event = await self.events.get()
            for effect in self.engine.handle(event, time.monotonic()):
                self._carry_out(effect)

    # Effects

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Persist():
                self.store.persist(effect)
            case Send():
                self._send(effect)
            case Fetch(blob, holders):
                self._spawn(self._fetch(blob, holders))
            case FetchList(blob, holder):
                self._spawn(self._fetch_list(blob, holder))
            case OfferList():
                self._offer_list(effect)
            case Open(name, update, key):
                self._compute(
                    lambda: self.worker.aggregation.verdict(update, key),
                    lambda error: UpdateOpened(name, error),
                )
            case Evaluate(standing, certified):
                self._compute(
                    lambda: self.worker.evaluate_list(effect),
                    lambda root: StateComputed(standing.head, certified.updates_root, root),
                )
            case Apply():
                self._compute(lambda: self._apply(effect), lambda _: StateApplied(effect.standing.head))
            case Train():
                self.stop_training.clear()
                self._spawn(self._train(effect))
            case StopTraining():
                self.stop_training.set()
            case Submit():
                self._spawn(self._submit(effect))
            case WakeAt(at):
                self._wake_at(at)
            case LookAtLedger():
                self.look.set()
            case Note(what, facts):
                now = self.engine.standing
                place = (0, ZERO_HASH) if now is None else (now.round, now.head)
                self.store.log.append(what, *place, canonical_json(facts))
                self.telemetry.emit(what, **facts)
            case _:
                raise AssertionError(f"no way to carry out {type(effect).__name__}")

    def _wake_at(self, at: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        loop = asyncio.get_running_loop()
        delay = max(0.0, at - time.monotonic())
        self.timer = loop.call_later(delay, lambda: self._spawn(self.events.put(Tick())))

    def _compute(self, work: Callable[[], Any], event: Callable[[Any], Event]) -> None:
        self._spawn(self._in_thread(self.compute, work, event))

    async def _in_thread(
        self, pool: ThreadPoolExecutor, work: Callable[[], Any], event: Callable[[Any], Event]
    ) -> None:
        result = await asyncio.get_running_loop().run_in_executor(pool, work)
        await self.events.put(event(result))

    def _apply(self, effect: Apply) -> None:
        self.worker.apply(effect)
        standing, body = effect.standing, effect.body
        self.telemetry.emit(
            "applied",
            round=standing.round,
            head=standing.head,
            state_root=standing.state_root,
            previous_head=body.previous_head,
            members=[member.hex() for member in sorted(standing.recent[-1].members)]
            if not body.is_empty
            else [],
            drops=[member.hex() for member in body.drops],
            own=effect.own,
            bytes=self.journal.traffic(standing.round, standing.head),
        )

    async def _train(self, effect: Train) -> None:
        number = effect.standing.round + 1
        last, ended = 0.0, 0.0

        def on_step(step: int, loss: float) -> None:
            nonlocal last, ended
            ended = time.time()
            if time.monotonic() - last >= STEP_REPORT_S:
                last = time.monotonic()
                self.telemetry.emit("step", round=number, step=step, loss=loss)

        loop = asyncio.get_running_loop()
        stop = self.stop_training
        outcome = await loop.run_in_executor(
            self.training, lambda: self.worker.train(effect, stop.is_set, on_step)
        )
        if outcome is None:
            return
        done, report = outcome
        await self.events.put(done)
        trained = Trained(
            report.loss, report.steps, report.tokens, report.seconds, ended - report.seconds, ended
        )
        self.journal.trained(number, effect.standing.head, trained)
        self.telemetry.emit("trained", round=number, **msgspec.structs.asdict(trained))
        await self._look_at_model(effect)

    async def _look_at_model(self, effect: Train) -> None:
        """The held-out loss that this round started from, told by one peer a round, while it waits for the others."""
        members = effect.standing.trainer_members
        number = effect.standing.round
        if members[number % len(members)] != self.worker.member:
            return
        samples = self.worker.plan.resolved.recipe.evaluation.samples_round
        loop = asyncio.get_running_loop()
        seen = await loop.run_in_executor(self.training, lambda: self.worker.held_out(samples))
        if seen is None:
            return
        evaluated = Evaluated(seen.loss, seen.bits_per_byte, seen.samples)
        self.journal.evaluated(number, effect.standing.head, evaluated)
        self.telemetry.emit("evaluated", round=number, **msgspec.structs.asdict(evaluated))

    # The network

    def _send(self, effect: Send) -> None:
        blobs: tuple[bytes, ...] = ()
        if effect.blob is not None and effect.blob.size < INLINE_BLOB_BYTES_MAX:
            blobs = (self.store.blobs.read(effect.blob),)
        packet = encode_packet(Packet(effect.raws, blobs, self.directory.records_to_tell()))
        for member in effect.to:
            self._spawn(self._send_to(member, packet))

    async def _send_to(self, member: MemberId, packet: bytes) -> None:
        endpoint = self.directory.endpoint(member)
        if endpoint is None:
            return
        try:
            async with asyncio.timeout(SEND_DEADLINE_S):
                await self.transport.send(endpoint, packet)
        except (NetworkError, TimeoutError):
            pass  # normal life: the next digest brings it

    async def _receive(self) -> None:
        async for sender, raw in self.transport.received():
            try:
                packet = decode_packet(raw)
            except ProtocolError as error:
                facts = {"rule": type(error).__name__, "why": str(error), "sender": (sender or b"").hex()}
                self._carry_out(Note("refused", dict(facts)))
                continue
            for record in packet.endpoints:
                self.directory.learn(record)
            for envelope in packet.envelopes:
                await self.events.put(MessageReceived(envelope))
            for blob in packet.blobs:
                await self.events.put(BlobStored(self.store.blobs.put(blob).hash))

    async def _fetch(self, blob: BlobRef, holders: tuple[MemberId, ...]) -> None:
        endpoints = [endpoint for member in holders if (endpoint := self.directory.endpoint(member))]
        try:
            if not self.store.blobs.has(blob):
                await self.transport.fetch(blob, endpoints, FETCH_DEADLINE_S)
        except NetworkError as error:
            self._carry_out(Note("fetch-failed", {"blob": blob.hash.hex(), "why": str(error)}))
            await self.events.put(BlobFailed(blob.hash))
        else:
            await self.events.put(BlobStored(blob.hash))

    async def _fetch_list(self, blob: BlobRef, holder: MemberId) -> None:
        await self._fetch(blob, (holder,))
        if not self.store.blobs.has(blob):
            return
        try:
            certified = decode_list(self.store.blobs.read(blob))
        except ProtocolError as error:
            self._carry_out(Note("refused", {"rule": type(error).__name__, "member": holder.hex()}))
            return
        await self.events.put(ListArrived(certified))

    def _offer_list(self, effect: OfferList) -> None:
        data = self.store.list_bytes(effect.round)
        if data is None:
            return
        blob = self.store.blobs.put(data)
        standing = self.engine.standing
        assert standing is not None
        offer = ListOffer(
            run=standing.run,
            round=effect.round,
            previous_head=standing.head,
            member=self.engine.identity.member,
            updates_root=effect.updates_root,
            blob_hash=blob.hash,
            blob_size=blob.size,
        )
        self._send(Send((effect.to,), (self.engine.identity.seal(offer).raw,), blob))

    async def _gossip(self) -> None:
        while True:
            await asyncio.sleep(GOSSIP_PERIOD_S * self.random.uniform(0.75, 1.25))
            round_ = self.engine.round
            others = list(round_.everyone) if round_ is not None else []
            chosen = self.random.sample(others, min(GOSSIP_PEERS, len(others)))
            await self.events.put(GossipDue(tuple(chosen), os.urandom(SALT_SIZE)))

    # The ledger

    async def _follow_ledger(self) -> None:
        """Look for new events: often while a certificate is due, seldom else. An unreachable ledger only delays."""
        while True:
            round_ = self.engine.round
            due = round_ is not None and bool(round_.own.bodies)
            try:
                async with asyncio.timeout(BUSY_POLL_S if due else QUIET_POLL_S):
                    await self.look.wait()
            except TimeoutError:
                pass
            self.look.clear()
            await self._unless_unreachable(self._look_at_ledger())

    async def _look_at_ledger(self) -> None:
        events = await self.feed.next()
        if self.store.archive:
            for event in events:
                await self._publish(event)
        if events:
            await self.events.put(LedgerChanged(tuple(events)))

    async def _publish(self, event: LedgerEvent) -> None:
        """An archive writes down what a replay reads: how the run began, and every certificate."""
        match event:
            case RunOpened(genesis=genesis):
                self.store.save_genesis(GenesisRecord(genesis, ()))
            case Started(seats=seats):
                record = self.store.genesis()
                self.store.save_genesis(GenesisRecord(record.genesis, seats))
            case Certified(body=body, at=at):
                signatures = await self.ledger.attestations(body, at)
                self.store.save_certificate(CertificateRecord(body, signatures))

    async def _submit(self, effect: Submit) -> None:
        """Certify. A refusal is no harm: most often another seat was first, and the next look at the ledger shows it."""
        with suppress(LedgerRefused):
            await self._unless_unreachable(self.ledger.certify(effect.body, effect.signatures))
        self.look.set()

    async def _unless_unreachable(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except LedgerRefused:
            raise
        except LedgerError as error:
            self.telemetry.emit("ledger", why=str(error))
