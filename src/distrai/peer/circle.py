"""What a newcomer knows of a run: what its ledger says, which peers there are, and what they show."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from distrai.network.interface import Endpoint, NetworkError, Transport
from distrai.network.records import open_record
from distrai.peer.snapshots import DOCUMENT, ENDPOINTS_SHOWN_MAX, Shown, Snapshot, decode_shown
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.errors import ProtocolError
from distrai.protocol.history import enrol
from distrai.protocol.ledger_events import Announced, Certified, Joined, KeyChanged, LedgerEvent, RollCalled
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain

ASK_S = 15.0
"""For the answer of one peer."""
WAVES_MAX = 4
"""Peers name others, and those others again."""


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
    _sequences: dict[MemberId, int] = field(default_factory=dict)

    def introduce(self, endpoints: Iterable[Endpoint]) -> None:
        """Take addresses from the ledger or a link."""
        for endpoint in endpoints:
            if endpoint.address != self.me:
                self.endpoints.setdefault(endpoint.member, endpoint)

    async def ask(self, roster: Mapping[MemberId, Address]) -> None:
        """Ask all peers what they show, and those that they name as well; ``roster`` says whose key is whose."""
        self.shown.clear()
        asked: set[MemberId] = set()
        for _ in range(WAVES_MAX):
            new = [item for member, item in self.endpoints.items() if member not in asked | self.liars]
            if not new:
                return
            asked |= {item.member for item in new}
            for found in await asyncio.gather(*(self._ask(item) for item in new)):
                self.learn(found, roster)

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

    def learn(self, records: Iterable[bytes], roster: Mapping[MemberId, Address]) -> None:
        """Take signed records of where members are; what is forged, foreign or old is ignored."""
        for raw in records:
            try:
                record, signer = open_record(raw, self.domain, recover)
            except ProtocolError:
                continue
            is_newer = record.sequence > self._sequences.get(record.member, -1)
            is_of_member = record.run == self.run and roster.get(record.member) == signer
            if is_newer and is_of_member and signer != self.me:
                self._sequences[record.member] = record.sequence
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
        """Up to this round nobody who shows a snapshot promises to have updates any more; 0 if nobody shows one."""
        return min((item.round for shown in self.shown.values() for item in shown.snapshots), default=0)
