"""Local runs of real processes for tests: the smallest recipes, and a watcher that knows what everybody said."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from distrai.ledger.interface import RunState
from distrai.peer.feed import LedgerFeed
from distrai.peer.identity import Timing
from distrai.peer.log import EventLog
from distrai.peer.records import OWN, decode_own
from distrai.protocol.canonical import decode_canonical
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.messages import Envelope, Message, decode_body
from distrai.protocol.primitives import Hash
from distrai.protocol.recipe import Recipe, parse_recipe
from distrai.runs.anchor import open_ledger
from distrai.runs.chain import Chain
from distrai.runs.children import Child
from distrai.runs.folder import RunFolder
from distrai.runs.local import LocalRun
from helpers import failpoints, homes
from helpers.nursery import Nursery

DEADLINE_S = float(os.environ.get("DISTRAI_TEST_DEADLINE_S", "300"))
"""For anything that a test waits for: the machine may be busy with other things."""
FIRST_USER = 61000


def tiny_recipe(base: Path, **sections: dict[str, Any]) -> Recipe:
    """A recipe of seconds for text that is written to ``base``; ``sections`` replace keys of its tables."""
    for number in range(4):
        words = (f"{number} times {each} makes {number * each}." for each in range(400))
        (base / f"table-{number}.txt").write_text("\n".join(words))
    config = {
        "model_type": "granite",
        "vocab_size": 256,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 16,
        "tie_word_embeddings": True,
        "initializer_range": 0.1,
    }
    tables: dict[str, Any] = {
        "model": {"source": "config", "license": "MIT", "config": config},
        "data": {"source": "files", "globs": ["*.txt"], "context": 16, "license": "MIT", "shard_bytes": 4096},
        "algorithm": {
            "preset": "prime",
            "inner_steps": 2,
            "outer": "sgd",
            "outer_lr": 1.0,
            "outer_momentum": 0.0,
        },
        "training": {"batch": 2, "lr": 6e-3, "precision": "fp32"},
        "rounds": {"count": 6, "d0_s": 0.2, "cut_s": 100.0, "hard_s": 200.0, "stall_seconds": 400},
        "membership": {"peers": 2},
        "limits": {"norm_ceiling": 1000.0},
        "evaluation": {"samples_round": 2, "samples_final": 4},
    }
    for name, changes in sections.items():
        tables[name] = tables.get(name, {}) | changes
    return parse_recipe({"name": "test", "seed": 5, **tables})


def other_users(count: int) -> tuple[int, ...]:
    """System users to run peers as, if this machine lets them run our Python; else none."""
    if os.geteuid() != 0:
        return ()
    command = [sys.executable, "-c", "import distrai.peer.process"]
    try:
        subprocess.run(command, user=FIRST_USER, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(range(FIRST_USER, FIRST_USER + count))


@dataclass
class Observer:
    """All events of a run, in the order in which they came."""

    events: list[dict[str, Any]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self.news.set()

    def of(self, kind: str, *names: str) -> list[dict[str, Any]]:
        """The events of a kind; of these processes where given."""
        found = (event for event in self.events if event["event"] == kind)
        return [event for event in found if not names or event["from"] in names]

    async def until(
        self, condition: Callable[[], Any], what: str, driving: "asyncio.Task[bool] | None" = None
    ) -> None:
        """Wait for something that events bring about."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    if driving is not None and driving.done():
                        driving.result()
                        raise AssertionError(f"the run ended before {what}")
                    self.news.clear()
                    waiting = [asyncio.ensure_future(self.news.wait()), *([driving] if driving else [])]
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    waiting[0].cancel()
        except TimeoutError:
            telling = [
                event
                for event in self.events
                if event["event"] not in ("step", "trained", "evaluated", "applied")
            ]
            tail = "\n".join(str(event)[:300] for event in [*telling[-30:], *self.events[-8:]])
            raise AssertionError(f"waited in vain for {what}; the last events:\n{tail}") from None

    def newest_round(self, without: str = "") -> int:
        """The newest round that anybody (else) has applied."""
        return max((event["round"] for event in self.of("applied") if event["from"] != without), default=0)

    def states(self) -> dict[int, dict[str, tuple[str, str]]]:
        """Head and state root of every round, by who told them."""
        found: dict[int, dict[str, tuple[str, str]]] = defaultdict(dict)
        for event in self.of("applied"):
            told = (event["head"], event["state_root"])
            assert found[event["round"]].setdefault(event["from"], told) == told
        return found

    def final_root(self) -> str:
        """The state root that all agree on after the newest round."""
        roots = {root for _, root in self.states()[self.newest_round()].values()}
        assert len(roots) == 1
        return roots.pop()


@dataclass
class Death:
    """A peer that is to die at a point, once ``armed`` exists; what then happened to it."""

    name: str
    point: str
    armed: Path
    back_after: int | None = None
    """The newest round when it was started again."""


@dataclass
class Drive:
    """A local run in a nursery, with deaths that are arranged before and ordered when their time has come."""

    folder: RunFolder
    nursery: Nursery
    recipe: Recipe | None
    base: Path
    deaths: list[Death] = field(default_factory=list)
    users: tuple[int, ...] = ()
    held: dict[str, int] = field(default_factory=dict)
    """Processes that are not started (again) before the others have applied a round after this one."""
    held_for: dict[str, Callable[[], bool]] = field(default_factory=dict)
    """Processes that are not started again before something is the case."""
    pauses: dict[str, float] = field(default_factory=dict)
    """For how many seconds processes stay away when they are started again the next time: an outage has a length."""
    before_start: Callable[[str], None] = lambda name: None
    chain: Chain | None = None
    """The chain to be on, where that is there already."""
    environment: Callable[[str], dict[str, str]] = lambda name: {}
    """What to add to the environment of a process."""
    observer: Observer = field(default_factory=Observer)
    pids: dict[str, int] = field(default_factory=dict)
    dying: dict[str, Death] = field(default_factory=dict)
    run: LocalRun = field(init=False)
    task: "asyncio.Task[bool]" = field(init=False)

    def __post_init__(self) -> None:
        self.run = LocalRun(
            self.folder,
            self.observer.report,
            users=self.users,
            start=self._start,
            device="cpu",
            chain=self.chain,
        )

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.run.run(self.recipe, self.base))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()  # does nothing to a run that is over
        await asyncio.wait([self.task])

    async def finish(self) -> bool:
        async with asyncio.timeout(2 * DEADLINE_S):
            return await self.task

    async def stop(self) -> bool:
        self.run.stop()
        return await self.finish()

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for something; nobody may fail meanwhile."""
        await self.observer.until(lambda: self.failures() or condition(), what, self.task)
        if failed := self.failures():
            raise AssertionError(
                "\n".join(f"{name} failed:\n{logged(self.folder, name)[-3000:]}" for name in failed)
            )

    def failures(self) -> set[str]:
        """Processes that ended, neither in order nor killed."""
        return {event["from"] for event in self.observer.of("exited") if event["code"] not in (0, -9)}

    async def _start(
        self,
        name: str,
        arguments: list[str],
        log: Path,
        on_event: Callable[..., None],
        user: int | None = None,
    ) -> Child:
        died = self.dying.pop(name, None)
        if name in self.pids and name in self.held:
            await self.observer.until(
                lambda: self.observer.newest_round(without=name) > self.held[name], f"a round without {name}"
            )
        if name in self.pids and name in self.held_for:
            await self.observer.until(self.held_for[name], f"what {name} is held back for")
        if name in self.pids and name in self.pauses:
            await asyncio.sleep(self.pauses.pop(name))
        self.before_start(name)
        if died is not None:
            died.back_after = self.observer.newest_round()
        environment = dict(self.environment(name))
        if name.startswith("peer-"):
            home = self.folder.path / "peers" / name
            environment |= {homes.GUARDED: str(home.parent), homes.OWN: str(home)}
            for death in self.deaths:
                if death.name == name and death.back_after is None:
                    environment[failpoints.VARIABLE] = f"{death.point}:{death.armed}"
                    self.dying[name] = death
                    break
        child = await self.nursery.start(name, arguments, log, on_event, user, environment)
        self.pids[name] = child.process.pid
        return child

    async def kill(self, *names: str) -> None:
        """Kill processes at once, and see them end. What starts them again waits as long as they are held back."""
        counts = {name: len(self.deaths_of(name)) for name in names}
        for name in names:
            os.kill(self.pids[name], signal.SIGKILL)
        await self.until(
            lambda: all(len(self.deaths_of(name)) > count for name, count in counts.items()),
            f"the end of {', '.join(names)}",
        )

    def is_certified(self, name: str, after: int) -> bool:
        """Whether an update of a peer is in a certificate of a round after ``after``, and the peer knows."""
        return any(event["own"] and event["round"] > after for event in self.observer.of("applied", name))

    def has_applied(self, name: str, number: int) -> bool:
        """Whether a peer told that it has applied a round."""
        return any(event["round"] == number for event in self.observer.of("applied", name))

    def last_told(self, name: str) -> int:
        """The newest round that a peer told it has applied."""
        return max((event["round"] for event in self.observer.of("applied", name)), default=0)

    def hold_until_after(self, name: str, number: int) -> None:
        """Let a process that is held back go once the others have applied a round after this one."""
        self.held[name] = number
        self.observer.news.set()

    async def applied_by_all(self, names: Sequence[str], number: int | None = None) -> None:
        """Until these peers have told a round; without a number the newest that anybody has told by now."""
        number = self.observer.newest_round() if number is None else number
        await self.until(
            lambda: all(self.has_applied(name, number) for name in names), f"round {number} of all"
        )

    def deaths_of(self, name: str) -> list[int]:
        """The exit codes of a process."""
        return [event["code"] for event in self.observer.of("exited", name)]


def round_bound_s(recipe: Recipe) -> float:
    """Within how many seconds a round must close once nothing hinders it: the rule's deadlines, each seat proposing
    and submitting once.
    """
    rounds, seats = recipe.rounds, recipe.membership.peers
    timing = Timing(rounds.d0_s, rounds.cut_s, rounds.hard_s)
    return timing.hard_s + timing.settle_s + timing.attempt_start(seats) + seats * timing.d0_s


async def ledger_history(folder: RunFolder) -> tuple[RunState, list[LedgerEvent]]:
    """Where a run stands on its ledger, and all that the ledger says of it."""
    async with open_ledger(folder) as ledger:
        run = folder.link().run
        return await ledger.run_state(run), await LedgerFeed(ledger, run).next()


def logged(folder: RunFolder, name: str) -> str:
    """What a process wrote to its standard error."""
    return (folder.path / f"{name}.log").read_text()


def own_messages(folder: RunFolder, name: str) -> list[Message]:
    """What a peer's log holds of what it said, in order."""
    log = EventLog(folder.path / "peers" / name / "peer.sqlite")
    records = [decode_own(entry.data, Hash(entry.head), entry.round) for entry in log.entries(OWN)]
    log.close()
    envelopes = (decode_canonical(record.raw, Envelope) for record in records)
    return [decode_body(envelope.kind, envelope.body) for envelope in envelopes]


def check_consistent(observer: Observer, folder: RunFolder, names: list[str]) -> None:
    """That nobody saw anybody say two things, or anything against the rules, and nobody did by its own account."""
    assert not observer.of("equivocation")
    assert not observer.of("refused")
    for name in names:
        said = [
            message for message in own_messages(folder, name) if message.kind in ("update", "have", "key")
        ]
        assert said
        places = [(message.kind, message.previous_head) for message in said]
        assert len(places) == len(set(places))
