"""One peer's part in one run: what it starts from, how it becomes a member, the engine at work, and how it leaves."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distrai.ledger.client import LedgerClient
from distrai.ledger.errors import LedgerRefused, LedgerUnreachable, Reorganised, TooLittleGas
from distrai.ledger.gas import explain
from distrai.network.interface import Transport
from distrai.peer.bookkeeping import Bookkeeping, settle_s, work_kept
from distrai.peer.bootstrap import Bootstrap
from distrai.peer.circle import Circle, History, round_of
from distrai.peer.directory import Directory
from distrai.peer.engine import Engine
from distrai.peer.events import Effect
from distrai.peer.feed import LedgerFeed
from distrai.peer.guest import FellBehind, Guest, Pace
from distrai.peer.keyring import Keyring
from distrai.peer.leaving import Leaving
from distrai.peer.newcomer import Newcomer
from distrai.peer.options import PeerOptions
from distrai.peer.plan import Plan
from distrai.peer.reporting import FaultReporter
from distrai.peer.runtime import ReportFaults, Runtime
from distrai.peer.staking import check_gate, ensure_staked
from distrai.peer.store import PeerStore
from distrai.peer.telemetry import Telemetry
from distrai.peer.welcome import Welcome
from distrai.peer.worker import Worker
from distrai.protocol.errors import ReorgTooDeep
from distrai.protocol.ledger_events import Joined, LedgerEvent, RunOpened, Started
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.standing import Standing
from distrai.protocol.typed_data import Domain

STARTS_MAX = 4
"""How often a newer snapshot is taken before a peer gives up: rounds are then faster than its connection."""
LEDGER_RETRY_S = 1.0
JOINS_MAX = 3
"""How many invitations are tried: whoever gives wrong ones has to look again."""
T = TypeVar("T")


class TooSlow(ValueError):
    """This machine cannot keep up with the run."""


@dataclass
class Participation:
    """A peer with its store, keys, ledger and transport, taking part."""

    options: PeerOptions
    telemetry: Telemetry
    store: PeerStore
    keyring: Keyring
    address: Address
    """Of the key that the transport proves."""
    ledger: LedgerClient
    transport: Transport
    urls: tuple[str, ...]
    """Where others reach this peer, the first one before all."""
    invitations: asyncio.Queue[bytes]
    leaving: asyncio.Event
    fingerprint: bytes = b""
    """Of the own TLS certificate."""
    pace: Pace = field(default_factory=Pace)
    engine: Engine | None = None
    member: MemberId | None = None
    invitation: bytes = b""
    _feed: LedgerFeed | None = None
    _events: list[LedgerEvent] = field(default_factory=list)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Take part until cancelled, or until this peer has left. Raises what makes that impossible."""
        history = await self._history()
        opened = next((event for event in history.events if isinstance(event, RunOpened)), None)
        if opened is None:
            raise ValueError(f"there is no run {self.options.link.run} on this ledger: check the link")
        link = self.options.link
        if link.genesis is not None and opened.genesis.head != link.genesis:
            raise ValueError(
                f"run {link.run} on this ledger begins with another head than the link says: it is another run, or the "
                "ledger lies"
            )
        domain = Domain(link.chain_id, link.registry)
        circle = Circle(self.transport, domain, link.run, self.address)
        circle.introduce(history.endpoints())
        circle.learn(self.store.endpoints(), history.roster())
        if self.options.snapshot:
            self.telemetry.emit("connecting", what="peers", known=len(circle.endpoints))
            await circle.ask(history.roster())
        bootstrap = Bootstrap(self.store.blobs, self.transport, tuple(circle.endpoints.values()))
        plan = await bootstrap.plan(opened.genesis)
        if plan.resolved.recipe.stake is not None:
            history = await self._with_stakes(plan)
        self.telemetry.emit("downloading", what="data", holders=len(circle.endpoints))
        corpus = await bootstrap.corpus(plan)
        frozen = await bootstrap.frozen(plan, self.store.home, self.telemetry.emit)
        self.member = member = await self._registered(history, plan)
        if self.options.snapshot and _is_closed(plan) and member not in history.roster():
            self.telemetry.emit("invitation-needed", member=member.hex())
        is_late = self.options.snapshot and any(isinstance(event, Started) for event in history.events)
        secret = self.keyring.first.secret("sealing")
        worker = (
            await asyncio.to_thread(  # before joining, which may cost stake: a model may be of no use here
                Worker, plan, corpus, self.store, member, secret, self.options.device, frozen
            )
        )
        if not is_late:
            await self._join(plan, history)
        newcomer = Newcomer(circle, self.store.blobs, plan.rules.run, plan.state_bytes, self.telemetry.emit)
        await self._live(opened, plan, worker, bootstrap, newcomer if is_late else None)

    async def _live(
        self, opened: RunOpened, plan: Plan, worker: Worker, bootstrap: Bootstrap, newcomer: Newcomer | None
    ) -> None:
        """Take part; where the thread is lost begin again from a newer snapshot."""
        for attempt in range(STARTS_MAX):
            history = await self._history()
            self.pace = Pace() if attempt > 0 else self.pace
            self.pace.saw(history.round)
            if newcomer is not None and (attempt > 0 or self.store.checkpoints()[-1].standing is None):
                await self._begin(plan, history, newcomer)
            try:
                return await self._work(opened, plan, worker, bootstrap, newcomer)
            except (FellBehind, ReorgTooDeep) as error:
                if newcomer is None:
                    raise
                self.telemetry.emit("beginning-again", why=str(error) or "too far behind")
        raise TooSlow(
            f"{STARTS_MAX} snapshots were out of date before this machine had caught up: it, or its connection, is too "
            "slow for this run"
        )

    async def _begin(self, plan: Plan, history: History, newcomer: Newcomer) -> None:
        """Adopt a snapshot, unless the run is so young that it can be followed from its first round."""
        start = await newcomer.start(history)
        if start is None:
            return
        standing = start.checkpoint.standing
        assert standing is not None
        history = await self._history()
        self.pace.saw(history.round)
        adopting = asyncio.to_thread(self.store.adopt, start.checkpoint, start.blob, start.lists)
        is_ready = not _is_closed(plan) or bool(self.invitation) or not self.invitations.empty()
        if is_ready and self.pace.is_near(history.round - standing.round):
            await asyncio.gather(adopting, self._join(plan, history))
        else:
            await adopting
        newest = (await self._history()).round
        self.telemetry.emit("snapshot", round=standing.round, newest=newest)

    async def _work(
        self, opened: RunOpened, plan: Plan, worker: Worker, bootstrap: Bootstrap, newcomer: Newcomer | None
    ) -> None:
        """The engine at work, from the newest checkpoint on."""
        run, member = self.options.link.run, self.member
        assert member is not None
        domain = Domain(self.options.link.chain_id, self.options.link.registry)
        key = (await self._answer(lambda: self.ledger.member(member))).key
        identity = self.keyring.identity(member, key, domain)
        kept = self.store.checkpoints()
        standing = kept[-1].standing
        engine = Engine(identity, plan.rules, kept, (run, opened.genesis.head, opened.genesis.state_root))
        directory = Directory(identity, run, lambda: engine.following.keys, self.store.save_endpoints)
        earlier = self.store.endpoints()
        for record in earlier:
            directory.learn(record)
        directory.announce_self(time.time_ns(), self.urls, self.fingerprint, earlier)
        if self.options.archive:
            await self._answer(lambda: self.ledger.announce(run, member, self.urls[0]))
        if standing is None:
            await bootstrap.initial_state(plan)
        first = self._resume(engine, worker, standing)
        for endpoint in bootstrap.holders if newcomer is None else newcomer.circle.endpoints.values():
            directory.introduce(endpoint)
        number = standing.round if standing else 0
        self.telemetry.emit(
            "ready",
            member=member.hex(),
            url=self.urls[0],
            device=str(worker.device),
            params=plan.layout.numel,
            round=number,
            rounds=plan.rules.rounds,
            settle_s=settle_s(plan),
        )
        feed = LedgerFeed(self.ledger, run, kept[-1].at)
        runtime = Runtime(
            engine,
            worker,
            self.store,
            self.transport,
            self.ledger,
            self.keyring.key,
            feed,
            directory,
            self.telemetry,
            self._reports(plan, engine),
        )
        if self.options.archive:
            runtime.watcher.publish((await self._history()).events)  # the last time may have ended in between
        beside: list[Coroutine[Any, Any, None]] = [Welcome(self.store, self.transport, directory, run).run()]
        if newcomer is not None:
            beside.append(self._guest(engine, newcomer, directory, runtime, plan).run())
        self.engine = engine
        leaving = Leaving(engine, self.ledger, plan, self.telemetry)
        living = runtime.run(first, standing.head if standing else None)
        with ExitStack() as stack:
            if plan.resolved.recipe.rewards is not None:
                books = self._bookkeeping(opened, plan, engine, directory)
                beside.append(books.run(stack.enter_context(work_kept(self.store))))
            await together(living, *beside, leaving.when(self.leaving))

    def _reports(self, plan: Plan, engine: Engine) -> ReportFaults | None:
        """How faults are told to the ledger: peers take turns by their place among the trainers."""
        contracts = plan.resolved.contracts
        if plan.resolved.recipe.stake is None or contracts is None:
            return None

        def turn() -> float:
            members = () if engine.standing is None else engine.standing.trainer_members
            place = members.index(self.member) if self.member in members else len(members)
            return place * plan.rules.timing.d0_s

        key = self.keyring.first
        return FaultReporter(self.options.link, contracts.stakes, key, turn, self.telemetry).report

    def _bookkeeping(
        self, opened: RunOpened, plan: Plan, engine: Engine, directory: Directory
    ) -> Bookkeeping:
        return Bookkeeping(
            plan,
            self.options.link,
            opened,
            engine,
            self.keyring,
            self.store,
            self.transport,
            directory,
            self._history,
            self.telemetry,
            self.address,
        )

    def _guest(
        self, engine: Engine, newcomer: Newcomer, directory: Directory, runtime: Runtime, plan: Plan
    ) -> Guest:
        async def join() -> None:
            await self._join(plan, await self._history())

        return Guest(
            engine, self.store, newcomer, directory, self.pace, runtime.events.put, join, self.telemetry.emit
        )

    def _resume(self, engine: Engine, worker: Worker, standing: Standing | None) -> list[Effect]:
        """Load the state of the checkpoint, and take back what this peer had said."""
        worker.load(standing, worker.state_bytes(standing))
        records = self.store.own_records()
        held = [blob.hash for blob in self.store.blobs.refs()]
        silent_through = self.store.silent_through()
        if standing is None and silent_through:
            self.telemetry.emit("silent", through=silent_through)
        return engine.resume(records, held, time.monotonic(), silent_through)

    # Membership

    async def _history(self) -> History:
        """All that the ledger says of the run until now. It is waited for."""
        async with self._reading:
            while True:
                try:
                    if self._feed is None:
                        self._feed, self._events = LedgerFeed(self.ledger, self.options.link.run), []
                    self._events = [*self._events, *await self._feed.next()]
                except Reorganised:
                    self._feed = None
                except LedgerUnreachable as error:
                    self.telemetry.emit("ledger", why=str(error))
                    await asyncio.sleep(LEDGER_RETRY_S)
                else:
                    return History(self._events)

    async def _with_stakes(self, plan: Plan) -> History:
        """The history anew, with whose stake counts no more."""
        contracts = plan.resolved.contracts
        assert contracts is not None
        self.ledger.watch_stakes(contracts.stakes)
        self._feed = None
        return await self._history()

    async def _registered(self, history: History, plan: Plan) -> MemberId:
        """The own member id, after registering where that has not happened yet."""
        first = self.keyring.first
        member = await self._answer(lambda: self.ledger.member_of_key(first.address))
        if member is None:
            member = await self._answer(lambda: self.ledger.register(first, first.address, first.address))
        self.telemetry.emit("member", member=member.hex(), address=first.address.hex())
        rewards = plan.resolved.recipe.rewards
        hidden = 0 if rewards is None else rewards.finality_blocks
        self.store.begin(member, _round_after_loss(history.events, member, hidden))
        return member

    async def _join(self, plan: Plan, history: History) -> None:
        """Join on the ledger, unless that is done."""
        run, member = self.options.link.run, self.member
        assert member is not None
        if member in history.roster():
            return
        if history.round >= plan.rules.rounds:
            raise ValueError("the run has done all its rounds: there is nothing to join any more")
        key = self.keyring.key((await self._answer(lambda: self.ledger.member(member))).key)
        if plan.resolved.recipe.stake is not None:
            await self._come_back(member)
        for attempt in range(JOINS_MAX):
            if _is_closed(plan) and not self.invitation:
                self.invitation = await self.invitations.get()  # kept: joining may be begun again
            await self._answer(lambda: check_gate(self.ledger, run, plan.resolved))
            await ensure_staked(
                plan, self.options.link, member, self.keyring.first, self._answer, self.telemetry.emit
            )
            try:
                await self._answer(lambda: self.ledger.join(run, member, key, self.invitation))
            except LedgerRefused as refusal:
                if member in (await self._history()).roster():
                    break  # an earlier try was taken after all
                if not _is_closed(plan) or attempt == JOINS_MAX - 1:
                    raise
                self.invitation = b""
                self.telemetry.emit("ledger", why=f"the invitation is not taken: {refusal}")
                self.telemetry.emit("invitation-needed", member=member.hex())
            else:
                break
        self.telemetry.emit("joined", member=member.hex(), round=history.round)

    async def _come_back(self, member: MemberId) -> None:
        """Leave a run in which this member stands, and counts no more since its stake does not: to join it anew."""
        run = self.options.link.run
        membership = await self._answer(lambda: self.ledger.membership(run, member))
        if membership.joined and member not in (await self._history()).roster():
            self.telemetry.emit("stake-inactive", member=member.hex())
            await self._answer(lambda: self.ledger.leave(run, member))

    async def _answer(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the ledger answers; while it is away, or there is nothing to pay it with, it is waited for."""
        while True:
            try:
                return await ask()
            except LedgerUnreachable as error:
                self.telemetry.emit("ledger", why=str(error))
            except TooLittleGas as error:
                self.telemetry.emit("gas-needed", address=error.account.hex(), why=explain(error))
            await asyncio.sleep(LEDGER_RETRY_S)


def _is_closed(plan: Plan) -> bool:
    """Whether one joins by invitation."""
    return plan.resolved.recipe.membership.admission == "invitation"


def _round_after_loss(history: Sequence[LedgerEvent], member: MemberId, hidden: int) -> int:
    """The newest round in which this member may have spoken already, as far as the ledger knows; 0 if none.

    A reorg may just now hide up to ``hidden`` blocks, each with a head under which it spoke, and which lands again: to
    speak anew under one of them would cost stake.
    """
    joined = any(isinstance(event, Joined) and event.member == member for event in history)
    started = any(isinstance(event, Started) for event in history)
    return max(map(round_of, history), default=0) + 1 + hidden if joined and started else 0


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Run several things beside each other until one ends, which ends them all. Raises what it raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        with suppress(asyncio.CancelledError):
            await task
