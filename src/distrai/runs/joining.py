"""One ``distrai join``: a peer of this machine in a run that others opened, until it is over or this peer leaves.

The peer is a process of its own. This one tells it that it may join where it can (the owner's key lies in a local run's
folder), passes on invitations that somebody types, and says to the user what happens.
"""

import asyncio
import json
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distrai.ledger.keys import NodeKey, load_key
from distrai.ledger.statements import invitation
from distrai.network.http.addresses import is_own
from distrai.peer.link import Link, parse_link
from distrai.protocol.primitives import SIGNATURE_SIZE, MemberId
from distrai.protocol.typed_data import Domain
from distrai.runs.children import Child, ChildFailed, StartChild
from distrai.runs.folder import RunFolder, make_home, write_json
from distrai.runs.invitation import parse_invitation
from distrai.runs.wallet import Wallet

RUNS = Path("runs")
Report = Callable[[dict[str, Any]], None]


class CannotJoin(ValueError):
    """What is asked for cannot be; the message says what to do."""


@dataclass(frozen=True)
class JoinTarget:
    """Which run to join, and where this peer lives. ``owner``: the key of who opened it, where that lies here."""

    link: Link
    home: Path
    owner: Path | None = None

    @property
    def _of(self) -> dict[str, Any]:
        return {
            "chain": self.link.chain_id,
            "registry": "0x" + self.link.registry.hex(),
            "run": self.link.run,
        }

    def check_home(self) -> bool:
        """Whether the home is there. Raises CannotJoin if it is of another run."""
        mark = self.home / "joined.json"
        if mark.exists() and json.loads(mark.read_bytes()) != self._of:
            raise CannotJoin(f"{self.home} is the home of a peer in another run: choose another --home")
        return mark.exists()

    def claim_home(self) -> None:
        """Make the home, or see that it is of this run. Raises CannotJoin."""
        make_home(self.home)
        mark = self.home / "joined.json"
        if self.check_home():
            return
        if any(self.home.iterdir()):
            raise CannotJoin(f"{self.home} is there and is no peer's home: choose a new or empty --home")
        write_json(mark, self._of)


@dataclass(frozen=True)
class JoinOptions:
    """How to take part. ``leave``: Ctrl-C leaves the run; else the same command goes on later."""

    device: str = "auto"
    leave: bool = True
    invitation: bytes = b""
    arguments: tuple[str, ...] = ()
    """Further ones for the peer's process."""
    pays: bool = False
    """Whether the run pays whom its owner names."""


def choose_join(what: str, home: Path | None) -> JoinTarget:
    """Which run is meant by a folder or a link. Raises NoRun or CannotJoin."""
    if not what.startswith("distrai:"):
        folder = RunFolder(Path(what))
        if not folder.path.is_dir():
            raise CannotJoin(
                f"{what!r} is no folder of a run and no link to one: give what `distrai run` printed (distrai://...)"
            )
        link = folder.link()
        owner = folder.owner_key if folder.owner_key.exists() else None
        return JoinTarget(link, home or folder.path / "joined", owner)
    link = parse_link(what.strip())
    if link.genesis is None and not is_own(urlsplit(link.rpc).hostname or ""):
        link = parse_invitation(what).link  # says what is missing
    return JoinTarget(link, home or RUNS / f"joined-{link.chain_id}-{link.run}")


def read_invitation(text: str) -> bytes:
    """An invitation as people pass it on: 0x and 130 digits. Raises CannotJoin."""
    try:
        data = bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != SIGNATURE_SIZE:
        raise CannotJoin(
            f"{text.strip()[:40]!r} is no invitation: it is what `distrai invite` prints, 0x and {2 * SIGNATURE_SIZE} "
            "digits"
        )
    return data


def read_member(text: str) -> MemberId:
    """A member id as people pass it on. Raises CannotJoin."""
    try:
        data = bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != 32:
        raise CannotJoin(f"{text.strip()[:80]!r} is no member: `distrai join` prints its id, 64 digits")
    return MemberId(data)


def invite(folder: RunFolder, member: MemberId) -> bytes:
    """What lets a member into the run in a folder, signed with the owner's key there. Raises NoRun or KeyFileError."""
    return sign_invitation(owner_key(folder), folder.link(), member)


def owner_key(folder: RunFolder) -> NodeKey:
    """The key of who opened the run in a folder. Raises NoRun or KeyFileError, or a WalletError for its password."""
    wallet = folder.read().wallet
    return Wallet(Path(wallet)).open() if wallet else load_key(folder.owner_key)


def sign_invitation(owner: NodeKey, link: Link, member: MemberId) -> bytes:
    """What the run's owner signs to let a member in."""
    return owner.sign(invitation(Domain(link.chain_id, link.registry), link.run, member))


@dataclass
class Joining:
    """One session of one joined peer."""

    target: JoinTarget
    options: JoinOptions
    report: Report
    start: StartChild = Child.start
    peer: Child | None = None
    rounds: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    finished: bool = False
    left: bool = False
    settle_s: float = 0.0
    """How long the seats may need to settle what was earned, once all rounds are done."""
    settled: bool = False

    async def run(self) -> None:
        """Take part until the run is over, or a signal. Raises CannotJoin or ChildFailed."""
        self.target.claim_home()
        arguments = ["distrai.peer", "--home", str(self.target.home), "--link", str(self.target.link)]
        arguments += ["--device", self.options.device, "--snapshot"]
        arguments += [*(["--leave-on-stop"] if self.options.leave else []), *self.options.arguments]
        log = self.target.home / "peer.log"
        self.peer = await self.start("peer", arguments, log, self._on_event, None)
        try:
            if self.options.invitation:
                await self.peer.tell({"invitation": self.options.invitation.hex()})
            await self.over.wait()
        finally:
            await self.peer.stop()
        code = self.peer.process.returncode
        if code and not self.finished:
            failed = self.peer.events.get("failed", {})
            why = failed.get("why", f"exit status {code}; see {log}")
            if failed.get("error") == "LedgerUnreachable" and self.target.owner is not None:
                why += f". If the run is not going on: distrai run {self.target.owner.parent}"
            raise ChildFailed(f"this peer stopped: {why}")

    def interrupt(self, times: int) -> None:
        """A signal came: the first time leave in order (or just stop), the second time end at once."""
        if times == 1 and self.options.leave and self.peer is not None:
            self._tell({"leave": True})
        else:
            self.over.set()

    def accept(self, text: str) -> None:
        """Somebody typed an invitation."""
        try:
            self._tell({"invitation": read_invitation(text).hex()})
        except CannotJoin as error:
            self.report({"event": "advice", "why": str(error)})

    def _tell(self, command: dict[str, Any]) -> None:
        if self.peer is None or self.peer.process.stdin is None:
            return  # not started yet: it asks again
        if self.peer.process.returncode is None:
            self.peer.process.stdin.write(json.dumps(command).encode() + b"\n")

    def _on_event(self, name: str, event: dict[str, Any]) -> None:
        self.report({**event, "from": name})
        match event["event"]:
            case "invitation-needed" if not self.options.invitation:
                self._invite_oneself(MemberId(bytes.fromhex(event["member"])))
            case "ready":
                self.rounds = int(event.get("rounds", 0))
                self.settle_s = float(event.get("settle_s", 0.0))
            case "settlement-done":
                self.settled = True
            case "left":
                self.left = True
            case "exited":
                self.over.set()
        if self.rounds and event["event"] in ("ready", "applied") and event["round"] >= self.rounds:
            self._finish()
        if self.finished and self.settled:
            self.over.set()

    def _finish(self) -> None:
        """All rounds are done: the other seats may need this one's signature yet."""
        self.finished = True
        if self.settle_s == 0.0 or self.settled:
            self.over.set()
            return
        self.report({"event": "settling", "what": "the seats sign what was earned"})
        asyncio.get_running_loop().call_later(self.settle_s, self.over.set)

    def _invite_oneself(self, member: MemberId) -> None:
        """Where the owner's key is at hand nobody need be asked; else say whom to ask for what."""
        if self.target.owner is not None:
            signed = sign_invitation(load_key(self.target.owner), self.target.link, member)
            self._tell({"invitation": signed.hex()})
        else:
            command = f"distrai invite RUN {member.hex()}{' --pay' if self.options.pays else ''}"
            self.report({"event": "ask-owner", "member": member.hex(), "command": command})


def run_join(target: JoinTarget, options: JoinOptions, report: Report) -> Joining:
    """Take part until the run is over or a signal says to stop. Raises what makes that impossible."""
    joining = Joining(target, options, report)

    async def run() -> None:
        loop, asked = asyncio.get_running_loop(), 0

        def on_signal() -> None:
            nonlocal asked
            asked += 1
            joining.interrupt(asked)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        _listen(loop, joining)
        await joining.run()

    asyncio.run(run())
    return joining


def _listen(loop: asyncio.AbstractEventLoop, joining: Joining) -> None:
    """Take invitations that are typed. Any kind of input will do, so a thread waits for it."""

    def read() -> None:
        for line in sys.stdin:
            if line.strip() and not loop.is_closed():
                loop.call_soon_threadsafe(joining.accept, line)

    if sys.stdin is not None and sys.stdin.isatty():
        threading.Thread(target=read, name="invitations", daemon=True).start()
