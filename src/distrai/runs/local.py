"""A whole network on this machine: a ledger process and peers, each with a home of its own, until the run is done.

This process opens the run, invites the peers that it started, says when to begin and then only watches: rounds are
between the peers and the ledger. It starts again what died, and ends what it started.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distrai.ledger.client import LedgerClient
from distrai.ledger.interface import Limits, Opening
from distrai.ledger.keys import NodeKey, create_key, load_key
from distrai.network.store import BlobStore
from distrai.peer.link import Link
from distrai.protocol.primitives import MemberId
from distrai.protocol.recipe import Recipe, ResolvedRecipe
from distrai.runs.children import Child, ChildFailed, StartChild
from distrai.runs.folder import RunFolder, RunInfo, make_home
from distrai.runs.invitation import Invitation, format_invitation
from distrai.runs.listening import Listening
from distrai.runs.resolving import advice, resolve

Report = Callable[[dict[str, Any]], None]
"""Takes what happens, one event at a time; ``event`` says what it is."""

RESTARTS_MAX = 20
"""How often one process is started again before the run gives up on it."""
RESTART_PAUSE_S = 0.5


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
    ledger: Child | None = None
    peers: dict[int, Child] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    finished: set[int] = field(default_factory=set)
    rounds: int = 0
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BaseException | None = None

    async def run(self, recipe: Recipe | None, base: Path) -> bool:
        """Do the rounds of a run; True if all were done. ``recipe`` None resumes what is in the folder.

        ``base`` is the folder that the recipe's paths start from. Raises RecipeError, NoRun, ChildFailed.
        """
        self.folder.path.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._stop_children)
            url, chain_id = await self._start_ledger()
            owner = self._owner()
            if self.folder.exists():
                info = await self._resumed(url, chain_id)
            else:
                assert recipe is not None
                info = await self._open(recipe, base, url, chain_id, owner)
            self._invite()
            client = await LedgerClient.connect(url, self.folder.link().registry, chain_id, owner)
            stack.push_async_callback(client.close)
            await self._start_peers(info, client, owner)
            return await self._watch(info)

    def stop(self) -> None:
        """End the run in order, as Ctrl-C does."""
        self.stopping.set()
        self.progress.set()

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
        path = self.folder.owner_key
        return load_key(path) if path.exists() else create_key(path)

    async def _resumed(self, url: str, chain_id: int) -> RunInfo:
        info = self.folder.read()
        link = self.folder.link()
        if link.chain_id != chain_id:
            raise ChildFailed(
                "the ledger in this folder is of another run: restore the folder, or start a new one"
            )
        info = replace(info, link=str(replace(link, rpc=url)))
        self.folder.write(info)
        self.report({"event": "resumed", **_told(info)})
        return info

    async def _open(self, recipe: Recipe, base: Path, url: str, chain_id: int, owner: NodeKey) -> RunInfo:
        for text in advice(recipe):
            self.report({"event": "advice", "why": text})
        self.report(
            {"event": "preparing", "what": "reading and cutting up the data, drawing the first parameters"}
        )
        make_home(self.folder.archive)
        blobs = BlobStore(self.folder.archive / "blobs")
        resolved = await asyncio.to_thread(resolve, recipe, base, blobs)
        registry = await LedgerClient.deploy_registry(url, chain_id, owner)
        client = await LedgerClient.connect(url, registry, chain_id, owner)
        try:
            run = await client.open_run(_opening(resolved), _limits(recipe))
            genesis = (await client.run_state(run)).head
        finally:
            await client.close()
        info = RunInfo(
            link=str(Link(url, chain_id, registry, run, genesis)),
            preset=recipe.algorithm.preset,
            peers=recipe.membership.peers,
            rounds=recipe.rounds.count,
            recipe_hash="0x" + resolved.blob.hash.hex(),
            name=recipe.name,
        )
        self.folder.write(info)
        self.report({"event": "opened", **_told(info)})
        return info

    def _invite(self) -> None:
        """Say what others need to join."""
        link = self.folder.link()
        if link.genesis is not None:
            url = self.listening.told(link.rpc)
            invitation = Invitation(url, link.chain_id, link.registry, link.run, link.genesis)
            text, is_open = format_invitation(invitation), invitation.leaves_this_machine
            self.report({"event": "invitation", "link": text, "open": is_open})

    # The peers

    async def _start_peers(self, info: RunInfo, client: LedgerClient, owner: NodeKey) -> None:
        """Start the archive first: it is where the others ask for what the run starts from."""
        self.rounds = info.rounds
        state = await client.run_state(self.folder.link().run)
        members: dict[int, MemberId] = {}
        for number in range(info.peers):
            await self._start_peer(number, info)
            if number == 0:
                members[0] = await self._admit(0, client, owner)
        rest = [self._admit(number, client, owner) for number in range(1, info.peers)]
        members |= dict(enumerate(await asyncio.gather(*rest), start=1))
        if not state.started:
            await client.start(self.folder.link().run, sorted(members.values()))
        self.report({"event": "started", "members": {f"peer-{n}": m.hex() for n, m in members.items()}})

    async def _start_peer(self, number: int, info: RunInfo) -> None:
        arguments = ["distrai.peer", "--home", str(self.folder.peer(number)), "--link", info.link]
        arguments += ["--device", self.device, *(["--archive"] if number == 0 else [])]
        arguments += self.listening.peer_arguments(number)
        user = self.users[number % len(self.users)] if self.users else None
        log = self.folder.path / f"peer-{number}.log"
        make_home(self.folder.peer(number), user)
        self.peers[number] = await self.start(f"peer-{number}", arguments, log, self._on_event, user)

    async def _admit(self, number: int, client: LedgerClient, owner: NodeKey) -> MemberId:
        """Invite a peer of this run, and wait until it takes part."""
        child = self.peers[number]
        member = MemberId(bytes.fromhex((await child.said("member"))["member"]))
        run = self.folder.link().run
        await child.tell({"invitation": client.invitation(owner, run, member).hex()})
        await child.said("ready")
        return member

    # Watching

    def _on_event(self, name: str, event: dict[str, Any]) -> None:
        self.report({**event, "from": name})
        if event["event"] in ("applied", "ready") and event.get("round", -1) >= self.rounds:
            self.finished.add(int(name.removeprefix("peer-")))
        if event["event"] in ("applied", "ready", "exited"):
            self.progress.set()

    async def _watch(self, info: RunInfo) -> bool:
        """Wait for the last round; start again what ended before it."""
        restarts = 0
        while len(self.finished) < info.peers and not self.stopping.is_set():
            self.progress.clear()
            ended = [number for number, child in self.peers.items() if child.process.returncode is not None]
            ledger_ended = self.ledger is not None and self.ledger.process.returncode is not None
            if ended or ledger_ended:
                restarts += 1
                if restarts > RESTARTS_MAX:
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
            await self.progress.wait()
        return len(self.finished) == info.peers

    async def _stop_children(self) -> None:
        for child in self.peers.values():
            if child.process.stdin is not None:
                child.process.stdin.close()
        await asyncio.gather(*(child.stop() for child in self.peers.values()))
        if self.ledger is not None:
            await self.ledger.stop()


def _told(info: RunInfo) -> dict[str, Any]:
    return {
        "link": info.link,
        "preset": info.preset,
        "peers": info.peers,
        "rounds": info.rounds,
        "name": info.name,
    }


def _opening(resolved: ResolvedRecipe) -> Opening:
    return Opening(
        recipe_hash=resolved.blob.hash,
        state_root=resolved.initial_root,
        data_hash=resolved.corpus.hash,
        tokenizer_hash=resolved.tokenizer_hash,
    )


def _limits(recipe: Recipe) -> Limits:
    members = recipe.membership
    return Limits(
        min_seats=members.min_seats,
        max_seats=members.max_seats,
        stall_seconds=recipe.rounds.stall_seconds,
        roll_call_min=members.roll_call_min,
        open_admission=members.admission == "open",
    )
