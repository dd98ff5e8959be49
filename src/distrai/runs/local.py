"""A whole network on this machine: a ledger process and peers, each with a home of its own, until the run is done.

This process opens the run, invites the peers that it started, says when to begin and then only watches: rounds are
between the peers and the ledger. It starts again what died, and ends what it started. Where the run pays, it fills the
pot before, and waits until the peers have settled the last round. The ledger may also be one that is there already.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distrai.ledger.client import LedgerClient
from distrai.ledger.keys import NodeKey
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.recipe import Recipe
from distrai.runs.chain import Chain, open_owner
from distrai.runs.children import Child, ChildFailed, StartChild
from distrai.runs.folder import RunFolder, RunInfo, make_home
from distrai.runs.invitation import Invitation, format_invitation
from distrai.runs.listening import Listening
from distrai.runs.opening import Opener, Report, told
from distrai.runs.paying import Paying
from distrai.runs.purse import NEWS, Purse

__all__ = ["LocalRun", "Report"]

RESTARTS_MAX = 20
"""How often one process is started again before the run gives up on it."""
RESTART_PAUSE_S = 0.5
LOOK_S = 1.0
"""How often something is looked at that comes true by itself."""
_CHANGES = ("applied", "ready", "exited", "settlement-done", *NEWS)


@dataclass
class LocalRun:
    """One local run, from opening or resuming it to its last round."""

    folder: RunFolder
    report: Report
    device: str = "auto"
    users: tuple[int, ...] = ()
    """System users that the peers run as, in turn; empty: the own one."""
    start: StartChild = Child.start
    """How a process is started."""
    listening: Listening = field(default_factory=Listening)
    """Where ledger and peers listen."""
    chain: Chain | None = None
    """The chain to be on, where that is there already; None: one of the run's own, or what the folder says."""
    owner: NodeKey | None = None
    """The opener's key, once it was needed."""
    ledger: Child | None = None
    peers: dict[int, Child] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    finished: set[int] = field(default_factory=set)
    rounds: int = 0
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = 0
    purse: Purse | None = None
    """What this run pays for, once it is open."""

    async def run(self, recipe: Recipe | None, base: Path) -> bool:
        """Do the rounds of a run; True if all were done. ``recipe`` None resumes what is in the folder.

        ``base`` is the folder that the recipe's paths start from. Where the run pays, the last epoch is settled then,
        or waiting for that was given up. Raises RecipeError, NoRun, ChildFailed, NotEnough, NotEnoughGas, LedgerError.
        """
        self.folder.path.mkdir(parents=True, exist_ok=True)
        try:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._stop_children)
                info = await (self._resumed() if self.folder.exists() else self._open(recipe, base))
                purse = Purse.opened(self.folder, info, self._owner(), self.device, self.report)
                self.purse = await stack.enter_async_context(purse)
                return await self._run(stack, info, self.purse.paying)
        except BaseExceptionGroup as group:  # the first thing that went wrong says it all
            raise group.exceptions[0] from None

    def stop(self) -> None:
        """End the run in order, as Ctrl-C does."""
        self.stopping.set()
        self.progress.set()

    async def _run(self, stack: AsyncExitStack, info: RunInfo, paying: Paying | None) -> bool:
        link, owner = self.folder.link(), self._owner()
        self._invite()
        client = await LedgerClient.connect(link.rpc, link.registry, link.chain_id, owner)
        stack.push_async_callback(client.close)
        if paying is not None:
            if await paying.is_over(info.rounds):
                return True  # nobody is needed any more
            await paying.begin()
        await self._start_peers(info, client, owner, paying)
        return await self._watch(info, paying)

    # The ledger

    async def _start_ledger(self) -> tuple[str, int]:
        self.folder.ledger.mkdir(parents=True, exist_ok=True)
        arguments = ["distrai.ledger.embedded", "--dir", str(self.folder.ledger), "--parent-pipe"]
        arguments += self.listening.ledger_arguments()
        self.ledger = await self.start(
            "ledger", arguments, self.folder.path / "ledger.log", self._on_event, None
        )
        ready = await self.ledger.said("ready")
        return str(ready["url"]), int(ready["chain_id"])

    def _owner(self) -> NodeKey:
        if self.owner is None:
            self.owner = open_owner(self.folder, None if self.chain is None else self.chain.wallet)
        return self.owner

    async def _resumed(self) -> RunInfo:
        info, link = self.folder.read(), self.folder.link()
        if info.external:
            url = link.rpc if self.chain is None else self.chain.rpc
        else:
            url, chain_id = await self._start_ledger()
            if link.chain_id != chain_id:
                raise ChildFailed(
                    "the ledger in this folder is of another run: restore the folder, or start a new one"
                )
        info = replace(info, link=str(replace(link, rpc=url)))
        self.folder.write(info)
        self.report({"event": "resumed", **told(info)})
        return info

    async def _open(self, recipe: Recipe | None, base: Path) -> RunInfo:
        assert recipe is not None
        if self.chain is None:
            url, chain_id = await self._start_ledger()
            opener = Opener(self.folder, url, chain_id, self._owner(), self.report)
        else:
            opener = await Opener.on(self.chain, self.folder, self._owner(), self.report)
        return await opener.open(recipe, base)

    def _invite(self) -> None:
        """Say what others need to join."""
        link = self.folder.link()
        if link.genesis is not None:
            url = self.listening.told(link.rpc)
            invitation = Invitation(url, link.chain_id, link.registry, link.run, link.genesis)
            text, is_open = format_invitation(invitation), invitation.leaves_this_machine
            self.report({"event": "invitation", "link": text, "open": is_open})

    # The peers

    async def _start_peers(
        self, info: RunInfo, client: LedgerClient, owner: NodeKey, paying: Paying | None
    ) -> None:
        """Start the archive first: it is where the others ask for what the run starts from."""
        self.rounds = info.rounds
        state = await client.run_state(self.folder.link().run)
        members: dict[int, MemberId] = {}
        for number in range(info.peers):
            await self._start_peer(number, info)
            if number == 0:
                members[0] = await self._admit(0, client, owner, paying)
        rest = [self._admit(number, client, owner, paying) for number in range(1, info.peers)]
        members |= dict(enumerate(await asyncio.gather(*rest), start=1))
        if not state.started:
            await client.start(self.folder.link().run, sorted(members.values()))
        if paying is not None:
            await paying.started()
        self.report({"event": "started", "members": {f"peer-{n}": m.hex() for n, m in members.items()}})

    async def _start_peer(self, number: int, info: RunInfo) -> None:
        arguments = ["distrai.peer", "--home", str(self.folder.peer(number)), "--link", info.link]
        arguments += ["--device", self.device, *(["--archive"] if number == 0 else [])]
        arguments += self.listening.peer_arguments(number)
        user = self.users[number % len(self.users)] if self.users else None
        log = self.folder.path / f"peer-{number}.log"
        make_home(self.folder.peer(number), user)
        self.peers[number] = await self.start(f"peer-{number}", arguments, log, self._on_event, user)

    async def _admit(
        self, number: int, client: LedgerClient, owner: NodeKey, paying: Paying | None
    ) -> MemberId:
        """Invite a peer of this run, let it earn, and wait until it takes part."""
        child = self.peers[number]
        said = await child.said("member")
        member = MemberId(bytes.fromhex(said["member"]))
        if paying is not None:
            await paying.admit(member, Address(bytes.fromhex(said["address"])))
        run = self.folder.link().run
        await child.tell({"invitation": client.invitation(owner, run, member).hex()})
        await child.said("ready")
        return member

    # Watching

    def _on_event(self, name: str, event: dict[str, Any]) -> None:
        self.report({**event, "from": name})
        kind = event["event"]
        if kind in ("applied", "ready") and event.get("round", -1) >= self.rounds:
            self.finished.add(int(name.removeprefix("peer-")))
        if self.purse is not None:
            self.purse.take(name, event)
        if kind in _CHANGES:
            self.progress.set()

    async def _watch(self, info: RunInfo, paying: Paying | None) -> bool:
        """Wait for the last round and, where the run pays, until that is settled."""
        await self._until(lambda: len(self.finished) == info.peers, info)
        if paying is not None and not self.stopping.is_set():
            await self._settle(info, paying)
            return not self.stopping.is_set()
        return len(self.finished) == info.peers

    async def _settle(self, info: RunInfo, paying: Paying) -> None:
        """The peers settle what the last rounds earned; then nobody can earn any more."""
        purse = self.purse
        assert purse is not None
        self.report({"event": "settling", "what": "the seats sign what was earned"})
        purse.begin_settling()
        await self._until(lambda: purse.settled or purse.is_waited_for_in_vain(), info, LOOK_S)
        if purse.settled:
            await self._until_done(paying.close(), info)
        elif not self.stopping.is_set():
            self.report({"event": "settlement-given-up", "why": purse.why, "folder": str(self.folder.path)})

    async def _until_done(self, work: Coroutine[Any, Any, None], info: RunInfo) -> None:
        """Do something with the ledger while processes that end are started again. Raises what it raises."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self.progress.set())
        try:
            await self._until(task.done, info)
        finally:
            task.cancel()
        if task.done() and not task.cancelled():
            task.result()

    async def _until(self, condition: Callable[[], bool], info: RunInfo, look_s: float | None = None) -> None:
        """Wait for something, or to be stopped; start again what ended before it.

        It is looked at when something happens and, if it may come true by itself, every ``look_s``.
        """
        while not condition() and not self.stopping.is_set():
            self.progress.clear()
            ended = [number for number, child in self.peers.items() if child.process.returncode is not None]
            ledger_ended = self.ledger is not None and self.ledger.process.returncode is not None
            if ended or ledger_ended:
                self.restarts += 1
                if self.restarts > RESTARTS_MAX:
                    raise ChildFailed(
                        f"processes of this run keep ending; see the logs in {self.folder.path}"
                    )
                await asyncio.sleep(RESTART_PAUSE_S)
                if ledger_ended:
                    await self._start_ledger()
                for number in ended:
                    self.report({"event": "restarting", "from": f"peer-{number}"})
                    await self._start_peer(number, info)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(look_s):
                    await self.progress.wait()

    async def _stop_children(self) -> None:
        for child in self.peers.values():
            if child.process.stdin is not None:
                child.process.stdin.close()
        await asyncio.gather(*(child.stop() for child in self.peers.values()))
        if self.ledger is not None:
            await self.ledger.stop()
