"""The engine in the real world: asyncio around it, one thread that trains and one that computes what a round asks for.

Nothing is decided here. Events go in one after the other, effects are carried out in order, and whatever takes time
runs beside the loop and comes back as another event.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event as ThreadEvent
from typing import Any, TypeVar

import msgspec

from distrai.ledger.interface import Ledger
from distrai.ledger.keys import NodeKey
from distrai.network.interface import Endpoint, Transport
from distrai.peer.courier import Courier
from distrai.peer.directory import Directory
from distrai.peer.engine import Engine
from distrai.peer.events import (
    Apply,
    CheckIn,
    CloseRollCall,
    Effect,
    Evaluate,
    Event,
    Fetch,
    FetchList,
    FinishTraining,
    GossipDue,
    LedgerChanged,
    LookAtLedger,
    Note,
    OfferList,
    Open,
    Persist,
    Refollow,
    ReportFault,
    Revert,
    Send,
    StateApplied,
    StateComputed,
    StopTraining,
    Submit,
    Tick,
    Train,
    TrainAhead,
    UpdateOpened,
    WakeAt,
)
from distrai.peer.feed import LedgerFeed
from distrai.peer.gossip import choose_listeners
from distrai.peer.journal import Evaluated, Journal, Trained
from distrai.peer.notes import NoteBudget
from distrai.peer.store import PeerStore
from distrai.peer.telemetry import Telemetry
from distrai.peer.watcher import LedgerWatcher
from distrai.peer.worker import Hooks, Worker
from distrai.protocol.canonical import canonical_json
from distrai.protocol.ledger_events import Announced, Deactivated, LedgerEvent
from distrai.protocol.messages import (
    SALT_SIZE,
)
from distrai.protocol.primitives import ZERO_HASH, Address, Hash
from distrai.training.errors import Diverged

T = TypeVar("T")
ReportFaults = Callable[[ReportFault], Coroutine[Any, Any, None]]
GOSSIP_PERIOD_S = 1.5
QUIET_POLL_S = 1.0
BUSY_POLL_S = 0.1
SEND_DEADLINE_S = 10.0
FETCH_DEADLINE_S = 600.0
EVENTS_MAX = 10_000
DIVERGED_ROUNDS_MAX = 2
"""Rounds in succession without an own update, since training diverged, after which this peer ends and says why."""
STEP_REPORT_S = 1.0
"""Least time between two reports of inner steps."""


class StepReports:
    """Tells of inner steps, not too often, and remembers when the last one ended."""

    def __init__(self, telemetry: Telemetry, round_number: int) -> None:
        self.telemetry, self.round = telemetry, round_number
        self.told, self.ended = 0.0, 0.0

    def done(self, step: int, loss: float) -> None:
        """A step ended now."""
        self.ended = time.time()
        if time.monotonic() - self.told >= STEP_REPORT_S:
            self.told = time.monotonic()
            self.telemetry.emit("step", round=self.round, step=step, loss=loss)


class Runtime:
    """One peer at work in one run, until ``run`` is cancelled or the engine finds something wrong."""

    def __init__(
        self,
        engine: Engine,
        worker: Worker,
        store: PeerStore,
        transport: Transport,
        ledger: Ledger,
        keys: Callable[[Address], NodeKey],
        feed: LedgerFeed,
        directory: Directory,
        telemetry: Telemetry,
        report_fault: ReportFaults | None = None,
    ) -> None:
        """``keys`` gives the own node key at an address; ``report_fault`` is None where nobody has a stake to lose."""
        self.engine, self.worker, self.store = engine, worker, store
        self.keys, self.report_fault = keys, report_fault
        self.telemetry = telemetry
        self.courier = Courier(
            engine.identity, transport, directory, store, self._post, self._note, self._spawn
        )
        self.directory = directory
        self.watcher = LedgerWatcher(ledger, feed, store, telemetry, self._post, self._is_certificate_due)
        self.journal = Journal(store.log, transport.counters)
        self.notes = NoteBudget()
        self.events: asyncio.Queue[Event] = asyncio.Queue(EVENTS_MAX)
        self.compute = ThreadPoolExecutor(1, "compute")
        self.training = ThreadPoolExecutor(1, "training")
        self.stop_training = ThreadEvent()
        self.finish_training = ThreadEvent()
        self.stop_ahead = ThreadEvent()
        self.ahead: TrainAhead | None = None
        self.diverged = 0
        """Rounds in succession in which the own training diverged."""
        self.model_cpu_s = 0.0
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
            self.watcher.look.set()
            for life in (self._drive(), self.watcher.follow(), self.courier.receive(), self._gossip()):
                self._spawn(life)
            await self.failure
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop the threads and tasks."""
        self.stop_training.set()
        self.stop_ahead.set()
        if self.timer is not None:
            self.timer.cancel()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.watcher.finish()
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

    async def _post(self, event: Event) -> None:
        await self.events.put(event)

    def _is_certificate_due(self) -> bool:
        return self.engine.round is not None and bool(self.engine.round.own.bodies)

    def _see_who_moved(self, events: Sequence[LedgerEvent]) -> None:
        """Who has a new address, once the engine knows these events: whose key that is they may tell as well."""
        for event in events:
            if isinstance(event, Announced) and (key := self.engine.following.newest_key(event.member)):
                self.directory.move(Endpoint(event.member, key, (event.endpoint,)))

    def _see_own_stake(self, events: Sequence[LedgerEvent]) -> None:
        """Tell when the own stake counts no more: from the next head on this peer trains and signs nothing."""
        for event in events:
            if isinstance(event, Deactivated) and event.member == self.worker.member:
                self.telemetry.emit("stake-inactive", member=event.member.hex())

    async def _drive(self) -> None:
        while True:
            event = await self.events.get()
            effects = self.engine.handle(event, time.monotonic())
            if isinstance(event, LedgerChanged):
                self._see_who_moved(event.events)
                self._see_own_stake(event.events)
            for effect in effects:
                self._carry_out(effect)

    # Effects

    def _carry_out(self, effect: Effect) -> None:
        """Start what an effect asks for; what has to be done before the next effect is done when this returns."""
        match effect:
            case Persist():
                self.store.persist(effect)
            case Open() | Evaluate() | Apply() | Revert():
                if isinstance(effect, Revert):
                    self.stop_ahead.set()
                self._compute(effect)
            case Train() | TrainAhead() | FinishTraining() | StopTraining():
                self._direct_training(effect)
            case WakeAt(at):
                self._wake_at(at)
            case Note():
                self._note(effect)
            case _:
                self._carry_outside(effect)

    def _direct_training(self, effect: Train | TrainAhead | FinishTraining | StopTraining) -> None:
        """Begin inner steps, or end them. Each time new events: who trains still has to see the old ones set."""
        match effect:
            case Train():
                if self.ahead is not None and not self.worker.is_ahead_of(self.ahead, effect):
                    self.stop_ahead.set()
                self.ahead = None
                self.stop_training, self.finish_training = ThreadEvent(), ThreadEvent()
                self._spawn(self._train(effect, self.stop_training, self.finish_training))
            case TrainAhead():
                self.stop_ahead.set()
                self.ahead, self.stop_ahead = effect, ThreadEvent()
                self._spawn(self._train_ahead(effect, self.stop_ahead))
            case FinishTraining():
                self.finish_training.set()
            case StopTraining():
                self.stop_training.set()

    def _carry_outside(self, effect: Effect) -> None:
        """The effects that reach other machines."""
        match effect:
            case Send():
                self.courier.send(effect)
            case Fetch():
                self._spawn(self.courier.fetch(effect))
            case FetchList():
                self._spawn(self.courier.fetch_list(effect))
            case OfferList():
                assert self.engine.standing is not None
                self.courier.offer_list(effect, self.engine.run, self.engine.standing.head)
            case Submit():
                self._spawn(self.watcher.submit(effect))
            case CheckIn():
                self._check_in()
            case CloseRollCall(absent):
                self._spawn(self.watcher.close_roll_call(absent))
            case Refollow(after):
                self.watcher.follow_from(after)
            case LookAtLedger():
                self.watcher.look.set()
            case ReportFault():
                if self.report_fault is not None:
                    self._spawn(self.report_fault(effect))
            case _:
                raise AssertionError(f"no way to carry out {type(effect).__name__}")

    def _check_in(self) -> None:
        """By the seat's own key, which may be an older one than the member's."""
        standing = self.engine.standing
        key = None if standing is None else standing.seat_key(self.engine.identity.member)
        assert key is not None
        self._spawn(self.watcher.check_in(self.keys(key)))

    def _note(self, note: Note) -> None:
        now = self.engine.standing
        place = (0, ZERO_HASH) if now is None else (now.round, now.head)
        facts = self.notes.take(note, place[1])
        if facts is not None:
            self.store.log.append(note.what, *place, canonical_json(facts))
            self.telemetry.emit(note.what, **facts)

    def _wake_at(self, at: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        loop = asyncio.get_running_loop()
        delay = max(0.0, at - time.monotonic())
        self.timer = loop.call_later(delay, lambda: self._spawn(self.events.put(Tick())))

    def _compute(self, effect: Open | Evaluate | Apply | Revert) -> None:
        """Give the thread that computes something to do; effects are computed in order."""
        self._spawn(self._computed(effect))

    async def _computed(self, effect: Open | Evaluate | Apply | Revert) -> None:
        event = await asyncio.get_running_loop().run_in_executor(self.compute, self._result, effect)
        await self.events.put(event)

    def _result(self, effect: Open | Evaluate | Apply | Revert) -> Event:
        match effect:
            case Open(name, update, key):
                return UpdateOpened(name, self.worker.aggregation.verdict(update, key))
            case Evaluate(standing, certified):
                return StateComputed(standing.head, certified.updates_root, self.worker.evaluate_list(effect))
            case Apply():
                self._apply(effect)
                return StateApplied(effect.standing.head)
            case Revert(standing):
                self.worker.revert(standing)
                back = (0, ZERO_HASH) if standing is None else (standing.round, standing.head)
                self.telemetry.emit("reverted", round=back[0], head=back[1])
                return StateApplied(back[1] if standing is not None else self.engine.following.genesis[1])

    def _apply(self, effect: Apply) -> None:
        self.worker.apply(effect)
        before, standing = effect.before, effect.standing
        listed = () if effect.certified is None else effect.certified.updates
        gone, came = {*before.seat_members}, {*standing.seat_members}
        self.telemetry.emit(
            "applied",
            round=standing.round,
            head=standing.head,
            state_root=standing.state_root,
            previous_head=before.head,
            members=[update.member.hex() for update in listed],
            drops=[member.hex() for member in sorted(gone - came)],
            promotions=[member.hex() for member in sorted(came - gone)],
            roll_call=effect.body is None,
            seats=len(standing.seats),
            own=effect.own,
            bytes=self.journal.traffic(standing.round, standing.head),
        )
        self.journal.spent(standing.round, standing.head, self.model_cpu_s)

    async def _train(self, effect: Train, stop: ThreadEvent, finish: ThreadEvent) -> None:
        number = effect.standing.round + 1
        steps = StepReports(self.telemetry, number)
        hooks = Hooks(stop.is_set, finish.is_set, steps.done)
        try:
            outcome = await self._with_model(lambda: self.worker.train(effect, hooks))
        except Diverged as error:
            self._diverged(number, error)
            return
        if outcome is None:
            return
        self.diverged = 0
        done, report = outcome
        await self.events.put(done)
        ended = steps.ended
        trained = Trained(
            report.loss, report.steps, report.tokens, report.seconds, ended - report.seconds, ended
        )
        self.journal.trained(number, effect.standing.head, trained)
        self.telemetry.emit("trained", round=number, **msgspec.structs.asdict(trained))
        await self._look_at_model(effect)

    def _diverged(self, number: int, error: Diverged) -> None:
        """A round without an own update: what it started from may be somebody's doing. Raises if it repeats."""
        self.diverged += 1
        if self.diverged >= DIVERGED_ROUNDS_MAX:
            raise error
        self.telemetry.emit("diverged", round=number, why=str(error))

    async def _train_ahead(self, effect: TrainAhead, stop: ThreadEvent) -> None:
        steps = StepReports(self.telemetry, effect.standing.round + 2)
        hooks = Hooks(stop.is_set, lambda: False, steps.done)
        with suppress(Diverged):  # then the round itself says so, when it is on
            await self._with_model(lambda: self.worker.train_ahead(effect, hooks))

    async def _with_model(self, work: Callable[[], T]) -> T:
        """Do something in the thread that trains, and count its CPU seconds apart from what rounds cost."""

        def counted() -> T:
            began = time.thread_time()
            try:
                return work()
            finally:
                self.model_cpu_s += time.thread_time() - began

        return await asyncio.get_running_loop().run_in_executor(self.training, counted)

    async def _look_at_model(self, effect: Train) -> None:
        """The held-out loss that this round started from, told by one peer a round, while it waits for the others."""
        members = effect.standing.trainer_members
        number = effect.standing.round
        if members[number % len(members)] != self.worker.member:
            return
        samples = self.worker.plan.resolved.recipe.evaluation.samples_round
        seen = await self._with_model(lambda: self.worker.held_out(samples))
        if seen is None:
            return
        evaluated = Evaluated(seen.loss, seen.bits_per_byte, seen.samples, seen.accuracy)
        self.journal.evaluated(number, effect.standing.head, evaluated)
        self.telemetry.emit("evaluated", round=number, **msgspec.structs.asdict(evaluated))

    async def _gossip(self) -> None:
        while True:
            await asyncio.sleep(GOSSIP_PERIOD_S * self.random.uniform(0.75, 1.25))
            round_ = self.engine.round
            others = (
                [] if round_ is None else [one for one in round_.everyone if self.directory.endpoint(one)]
            )
            seats = [] if round_ is None else [one for one in others if one in round_.standing.seat_members]
            listeners = choose_listeners(seats, others, self.random)
            await self.events.put(GossipDue(listeners, os.urandom(SALT_SIZE)))
