"""Where somebody begins who was not there from the start: a snapshot, from all who show the same one at once.

Nothing that peers show is believed. Heads and state roots are the ledger's, lists must be what its certificates commit
to, and the state must have the root. Where peers show different snapshots the one that most show comes first; whoever
shows a wrong one is not asked again.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from distrai.network.interface import Endpoint, NetworkError, Transport
from distrai.network.records import open_record
from distrai.network.store import BlobStore
from distrai.peer.checkpoint import Checkpoint
from distrai.peer.following import LIST_BYTES_PER_TRAINER
from distrai.peer.snapshots import DOCUMENT, ENDPOINTS_SHOWN_MAX, Shown, Snapshot, decode_shown
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.errors import ProtocolError
from distrai.protocol.history import enrol, reconstruct, rounds_needed
from distrai.protocol.ledger_events import Announced, Certified, Joined, KeyChanged, LedgerEvent, RollCalled
from distrai.protocol.lists import CertifiedList, check_list, decode_list
from distrai.protocol.merkle import state_root
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.signatures import recover
from distrai.protocol.standing import RunRules
from distrai.protocol.typed_data import Domain

ASK_S = 15.0
"""For the answer of one peer."""
WAVES_MAX = 4
"""Peers name others, and those others again."""
DOWNLOAD_S = 24 * 3600.0
LIST_S = 60.0
HOLDERS_MAX = 16
"""Peers that one blob is fetched from at once."""
CHOICES_MAX = 8
"""Different snapshots that are tried: each wrong one costs a download."""

Tell = Callable[..., None]
"""Takes the name of an event and its facts."""


class NoSnapshot(ValueError):
    """No peer gave anything that one could begin from."""


@dataclass(frozen=True)
class Start:
    """Where to begin: a head, the blob of its state, which is in the store, and the newest lists by round."""

    checkpoint: Checkpoint
    blob: BlobRef
    lists: dict[int, CertifiedList]


@dataclass
class History:
    """What the ledger says of a run, in order, and what follows for someone who asks around."""

    events: list[LedgerEvent]

    @property
    def round(self) -> int:
        """The newest round on the ledger."""
        return max((round_of(event) for event in self.events), default=0)

    def certificates(self) -> dict[int, Body]:
        """The certified bodies by round."""
        return {event.body.round: event.body for event in self.events if isinstance(event, Certified)}

    def until(self, snapshot: Snapshot) -> list[LedgerEvent]:
        """The events that lead to a snapshot's head; none if there is no such head."""
        for at, event in enumerate(self.events):
            if isinstance(event, Certified | RollCalled) and (round_of(event), event.head) == (
                snapshot.round,
                snapshot.head,
            ):
                return self.events[: at + 1]
        return []

    def roster(self) -> dict[MemberId, Address]:
        """Who takes part now, with which key."""
        roster: dict[MemberId, Address] = {}
        for event in self.events:
            enrol(roster, event)
        return roster

    def endpoints(self) -> list[Endpoint]:
        """The addresses that the ledger names, the newest of each member that takes part."""
        roster = self.roster()
        urls = {event.member: event.endpoint for event in self.events if isinstance(event, Announced)}
        return [Endpoint(member, roster[member], (url,)) for member, url in urls.items() if member in roster]

    def people(self) -> int:
        """How many members there ever were: a list has no more entries."""
        return len({event.member for event in self.events if isinstance(event, Joined | KeyChanged)})


def round_of(event: LedgerEvent) -> int:
    """The round that an event ends; 0 for one that ends none."""
    match event:
        case Certified(body=body):
            return body.round
        case RollCalled(round=number):
            return number
        case _:
            return 0


@dataclass
class Circle:
    """The peers of a run that are known here, and what they show."""

    transport: Transport
    domain: Domain
    run: int
    me: Address
    endpoints: dict[MemberId, Endpoint] = field(default_factory=dict)
    shown: dict[MemberId, Shown] = field(default_factory=dict)
    liars: set[MemberId] = field(default_factory=set)

    def introduce(self, endpoints: Iterable[Endpoint]) -> None:
        """Take addresses from the ledger or a link."""
        for endpoint in endpoints:
            if endpoint.address != self.me:
                self.endpoints.setdefault(endpoint.member, endpoint)

    async def ask(self, roster: dict[MemberId, Address]) -> None:
        """Ask all peers what they show, and those that they name as well; ``roster`` says whose key is whose."""
        self.shown.clear()
        asked: set[MemberId] = set()
        for _ in range(WAVES_MAX):
            new = [item for member, item in self.endpoints.items() if member not in asked | self.liars]
            if not new:
                return
            asked |= {item.member for item in new}
            for found in await asyncio.gather(*(self._ask(item) for item in new)):
                for raw in found:
                    self._learn(raw, roster)

    async def _ask(self, endpoint: Endpoint) -> tuple[bytes, ...]:
        """Ask one peer; whom it names."""
        try:
            async with asyncio.timeout(ASK_S):
                shown = decode_shown(await self.transport.ask(endpoint, DOCUMENT))
        except (NetworkError, TimeoutError):
            return ()
        except ProtocolError:
            self.liars.add(endpoint.member)
            return ()
        if shown.run == self.run:
            self.shown[endpoint.member] = shown
        return shown.endpoints[:ENDPOINTS_SHOWN_MAX]

    def _learn(self, raw: bytes, roster: dict[MemberId, Address]) -> None:
        try:
            record, signer = open_record(raw, self.domain, recover)
        except ProtocolError:
            return
        if record.run == self.run and roster.get(record.member) == signer and signer != self.me:
            self.endpoints[record.member] = record.endpoint(signer)

    def snapshots(self) -> list[tuple[Snapshot, list[Endpoint]]]:
        """What is shown, by how many first and then the newest, each with those who show it."""
        named: dict[Snapshot, list[Endpoint]] = {}
        for member, shown in self.shown.items():
            for snapshot in set(shown.snapshots):
                named.setdefault(snapshot, []).append(self.endpoints[member])
        return sorted(named.items(), key=lambda item: (-len(item[1]), -item[0].round))

    def lists(self, number: int) -> list[tuple[BlobRef, list[Endpoint]]]:
        """Blobs that are said to be the list of a round, the one that most name first."""
        named: dict[BlobRef, list[Endpoint]] = {}
        for member, shown in self.shown.items():
            for blob in {blob for at, blob in shown.lists if at == number}:
                named.setdefault(blob.ref, []).append(self.endpoints[member])
        return sorted(named.items(), key=lambda item: -len(item[1]))

    def pruned_through(self) -> int:
        """Up to this round nobody who answers promises to have updates any more."""
        oldest = [min((item.round for item in shown.snapshots), default=0) for shown in self.shown.values()]
        return min(oldest, default=0)


@dataclass
class Newcomer:
    """Finds a start for somebody who was not there."""

    circle: Circle
    blobs: BlobStore
    rules: RunRules
    state_bytes: int
    tell: Tell

    async def start(self, history: History) -> Start | None:
        """The best snapshot that can be had; None if the run is young enough to begin at genesis.

        Raises NoSnapshot if peers show some and none of them is true, or nobody answers.
        """
        await self.circle.ask(history.roster())
        if not self.circle.shown:
            raise NoSnapshot(
                "no peer of the run answers: see that this machine reaches the addresses on the ledger "
                "(`distrai doctor RUN` tells), and that the run is going on"
            )
        choices = self.circle.snapshots()[:CHOICES_MAX]
        for snapshot, holders in choices:
            if (start := await self._take(history, snapshot, holders)) is not None:
                return start
        if choices and self.circle.pruned_through() > 0:
            raise NoSnapshot(
                "peers show snapshots, and none of them is what the ledger says: try again later"
            )
        return None

    async def _take(self, history: History, snapshot: Snapshot, holders: Sequence[Endpoint]) -> Start | None:
        """Begin from one snapshot, if it is true."""
        events = history.until(snapshot)
        holders = [item for item in holders if item.member not in self.circle.liars][:HOLDERS_MAX]
        if not events or not holders:
            return None
        if snapshot.state.size != self.state_bytes:
            self._blame(holders, "shows a state of another size")
            return None
        certificates = history.certificates()
        lists = {}
        for number in rounds_needed(events):
            if (found := await self.list(certificates[number], history.people())) is None:
                return None
            lists[number] = found
        standing, roster = reconstruct(self.rules, events, lists)
        assert standing is not None
        self.tell(
            "downloading", what="snapshot", round=snapshot.round, bytes=self.state_bytes, holders=len(holders)
        )
        try:
            await self.circle.transport.fetch(snapshot.state.ref, holders, DOWNLOAD_S, "snapshots")
            state = await asyncio.to_thread(self.blobs.read, snapshot.state.ref)
        except (NetworkError, ValueError) as error:
            self.tell("snapshot-refused", round=snapshot.round, why=str(error))
            return None
        if await asyncio.to_thread(state_root, state) != standing.state_root:
            self.blobs.delete(snapshot.state.ref)
            self._blame(holders, f"shows a state of round {snapshot.round} that is not the ledger's")
            return None
        return Start(Checkpoint(standing, roster, events[-1].at), snapshot.state.ref, lists)

    async def list(self, body: Body, people: int) -> CertifiedList | None:
        """The list of a certificate, from whoever has it."""
        for blob, holders in self.circle.lists(body.round):
            honest = [item for item in holders if item.member not in self.circle.liars][:HOLDERS_MAX]
            if not honest or blob.size > LIST_BYTES_PER_TRAINER * (2 * people + 1):
                continue
            try:
                await self.circle.transport.fetch(blob, honest, LIST_S, "snapshots")
                certified = decode_list(self.blobs.read(blob))
                check_list(certified, body)
            except NetworkError:
                continue
            except ProtocolError as error:
                self.blobs.delete(blob)
                self._blame(honest, f"shows a wrong list of round {body.round}: {error}")
                continue
            return certified
        return None

    def _blame(self, holders: Iterable[Endpoint], why: str) -> None:
        for holder in holders:
            self.circle.liars.add(holder.member)
            self.tell("liar", member=holder.member.hex(), why=why)
