"""Where somebody begins who was not there from the start: a snapshot, from all who show the same one at once.

Nothing that peers show is believed. Heads and state roots are the ledger's, lists must be what its certificates commit
to, and the state must have the root. Where peers show different snapshots the one that most show comes first; whoever
shows a wrong one is not asked again.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from distrai.network.interface import Endpoint, NetworkError
from distrai.network.store import BlobStore
from distrai.peer.checkpoint import Checkpoint
from distrai.peer.circle import Circle, History
from distrai.peer.following import LIST_BYTES_PER_TRAINER
from distrai.peer.snapshots import Snapshot
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.errors import ProtocolError, WrongTrainersRoot, WrongUpdatesRoot
from distrai.protocol.history import reconstruct, rounds_needed
from distrai.protocol.lists import CertifiedList, Trainer, check_list, check_signatures, decode_list
from distrai.protocol.merkle import state_root
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.signatures import recover
from distrai.protocol.standing import RunRules

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


def trainer_keys(trainers: Iterable[Trainer]) -> dict[MemberId, Address]:
    """Whose updates may be in a list, and the keys that sign them."""
    return {trainer.member: trainer.key for trainer in trainers}


def signers(
    number: int, staleness: int, after: Mapping[int, Mapping[MemberId, Address] | None]
) -> dict[int, Mapping[MemberId, Address]]:
    """The keys that sign the updates which round ``number`` may list, by the updates' own round, as far as known.

    ``after`` has those who train after each certified round, None for who is not known. A roll call in between only
    takes some of them away.
    """
    found = {}
    for following in range(number - staleness, number + 1):
        newest = max((known for known in after if known < following), default=None)
        keys = None if newest is None else after[newest]
        if keys is not None:
            found[following] = keys
    return found


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
        shown = self.circle.snapshots()
        possible = [(item, holders) for item, holders in shown if self._is_possible(history, item, holders)]
        for snapshot, holders in possible[:CHOICES_MAX]:
            if (start := await self._take(history, snapshot, holders)) is not None:
                return start
        if shown and self.circle.pruned_through() > 0:
            raise NoSnapshot(
                "peers show snapshots, and none of them is what the ledger says: try again later"
            )
        return None

    def _is_possible(self, history: History, snapshot: Snapshot, holders: Sequence[Endpoint]) -> bool:
        """Whether the ledger has such a head, and a state this size: invented ones must not crowd out the true ones."""
        if not history.until(snapshot):
            return False
        if snapshot.state.size != self.state_bytes:
            self._blame(holders, "shows a state of another size")
            return False
        return True

    async def _take(self, history: History, snapshot: Snapshot, holders: Sequence[Endpoint]) -> Start | None:
        """Begin from one snapshot, if it is true."""
        events = history.until(snapshot)
        holders = [item for item in holders if item.member not in self.circle.liars][:HOLDERS_MAX]
        if not holders:
            return None
        certificates = history.certificates()
        lists: dict[int, CertifiedList] = {}
        for number in rounds_needed(events, self.rules.staleness):
            after = {
                known: trainer_keys(lists[known].trainers) if known in lists else None
                for known in certificates
            }
            trainers = signers(number, self.rules.staleness, after)
            if (found := await self.list(certificates[number], history.people(), trainers)) is None:
                return None
            lists[number] = found
        standing, roster = reconstruct(self.rules, events, lists)
        assert standing is not None
        self.tell(
            "downloading", what="snapshot", round=snapshot.round, bytes=self.state_bytes, holders=len(holders)
        )
        was_here = self.blobs.has(snapshot.state.ref)
        try:
            await self.circle.transport.fetch(snapshot.state.ref, holders, DOWNLOAD_S, "snapshots")
            state = await asyncio.to_thread(self.blobs.read, snapshot.state.ref)
        except (NetworkError, ValueError) as error:
            self.tell("snapshot-refused", round=snapshot.round, why=str(error))
            return None
        if await asyncio.to_thread(state_root, state) != standing.state_root:
            self._drop(snapshot.state.ref, was_here)
            self._blame(holders, f"shows a state of round {snapshot.round} that is not the ledger's")
            return None
        return Start(Checkpoint(standing, roster, events[-1].at), snapshot.state.ref, lists)

    async def list(
        self, body: Body, people: int, trainers: Mapping[int, Mapping[MemberId, Address]]
    ) -> CertifiedList | None:
        """The list of a certificate, from whoever has it. ``trainers``: the keys that sign updates, as far as known."""
        for blob, holders in self.circle.lists(body.round):
            honest = [item for item in holders if item.member not in self.circle.liars][:HOLDERS_MAX]
            if not honest or blob.size > LIST_BYTES_PER_TRAINER * (2 * people + 1):
                continue
            was_here = self.blobs.has(blob)
            try:
                await self.circle.transport.fetch(blob, honest, LIST_S, "snapshots")
                certified = decode_list(self.blobs.read(blob))
                check_list(certified, body)
                if all(update.round in trainers for update in certified.updates):
                    keys = {
                        one.member: key
                        for one in certified.updates
                        if (key := trainers[one.round].get(one.member))
                    }
                    check_signatures(certified, keys, self.circle.domain, recover)
            except NetworkError:
                continue
            except (WrongUpdatesRoot, WrongTrainersRoot):
                self._drop(blob, was_here)  # no lie: it may be of before a reorg
                continue
            except ProtocolError as error:
                self._drop(blob, was_here)
                self._blame(honest, f"shows a wrong list of round {body.round}: {error}")
                continue
            return certified
        return None

    def _drop(self, blob: BlobRef, was_here: bool) -> None:
        """Delete what is wrong, unless it was here before: somebody may show the recipe, or the data, as a list."""
        if not was_here:
            self.blobs.delete(blob)

    def _blame(self, holders: Iterable[Endpoint], why: str) -> None:
        for holder in holders:
            self.circle.liars.add(holder.member)
            self.tell("liar", member=holder.member.hex(), why=why)
