"""A peer's home on disk: event log, blobs, states, private state, and what an archive publishes.

``home/`` holds ``peer.sqlite`` (the event log), ``blobs/``, ``states/`` (the common state after a round), ``private/``
(what only this peer has: error feedback and a kept inner optimiser, by the head they belong to) and ``public/``
(certificates and lists by round, for whoever wants to replay the run).
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from distrai.network.store import BlobStore
from distrai.peer.checkpoint import Checkpoint
from distrai.peer.events import Apply, Persist
from distrai.peer.following import KEPT_HEADS
from distrai.peer.leftovers import Leftovers
from distrai.peer.log import LogEntry, open_log
from distrai.peer.offering import Offering
from distrai.peer.public import PublicFolder, write_atomically
from distrai.peer.records import (
    ADOPTED,
    APPLIED,
    MEMBER,
    OWN,
    REVERTED,
    checkpoint_of,
    decode_checkpoint,
    decode_own,
    encode_checkpoint,
    encode_own,
)
from distrai.protocol.blobs import BlobRef
from distrai.protocol.errors import ReorgTooDeep
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import ZERO_HASH, Hash, MemberId
from distrai.protocol.standing import Standing

__all__ = ["PeerStore", "PublicFolder", "write_atomically"]

REORG_BLOCKS_MAX = 64
"""Blocks that a reorg may take back: states of older heads are not kept, but for the last one."""
ROUNDS_OF_BLOBS_KEPT = 8
"""Rounds whose ciphertexts and lists a peer that is no archive keeps."""


def _until_head(entries: list[LogEntry], head: Hash) -> list[LogEntry]:
    """The entries up to the newest one at ``head``; none if there is no such."""
    at = next((index for index in reversed(range(len(entries))) if entries[index].head == head), -1)
    return entries[: at + 1]


def within_reach(kept: list[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that a reorg may lead back to, oldest first: the last two in any case.

    If the first block within reach is gone, the checkpoint before it is where to go on from.
    """
    newest = kept[-1].at
    reach = 0 if newest is None else newest.block_number - REORG_BLOCKS_MAX
    near = (at for at, item in enumerate(kept) if item.at is not None and item.at.block_number > reach)
    return kept[max(0, min(next(near, 0) - 1, len(kept) - 2)) :]


class PeerStore:
    """Everything that one peer keeps."""

    def __init__(self, home: Path, *, archive: bool) -> None:
        """Open or make the home. A damaged log is put aside; ``damaged_log`` is then where it lies."""
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.home = home
        self.archive = archive
        self.log, self.damaged_log = open_log(home / "peer.sqlite")
        self._kept = self._read_checkpoints()
        reached = self._kept[-1].standing
        self._forget_states_after(0 if reached is None else reached.round)
        self.blobs = BlobStore(home / "blobs")
        self.leftovers = Leftovers(home / "leftovers", self.blobs)
        self.public = PublicFolder(home / "public")
        self.offering = Offering(home, self.blobs, self.public)
        self.on_change: Callable[[], None] = lambda: None
        """Called, by whichever thread applies, when there is something new to show."""
        self.on_list: Callable[[int, CertifiedList], None] = lambda _number, _certified: None
        """Called likewise with the list of every round that is applied: lists themselves are pruned soon."""

    def close(self) -> None:
        """Close the log."""
        self.log.close()

    # Whether the log is whole

    def begin(self, member: MemberId, round_number: int) -> None:
        """Begin the log of a member that can have spoken in no round after ``round_number``; once, before it joins.

        A log without this entry was lost: what the member has said in that round is not known any more.
        """
        if self.log.last(MEMBER) is None:
            self.log.append(MEMBER, round_number, ZERO_HASH, member)

    def silent_through(self) -> int:
        """The newest round in which this peer must say nothing; 0 if its log is whole."""
        entry = self.log.last(MEMBER)
        return 0 if entry is None else entry.round

    # What the engine persists

    def persist(self, record: Persist) -> None:
        """Make an own message durable."""
        self.log.append(OWN, record.round, record.head, encode_own(record))

    def own_records(self) -> list[Persist]:
        """The own messages since the oldest kept head: one may be on disk before the checkpoint it follows."""
        oldest = self._kept[0].standing
        after = 0 if oldest is None else min([oldest.round, *(base.round for base in oldest.bases)])
        entries = self.log.entries(OWN)
        return [decode_own(item.data, Hash(item.head), item.round) for item in entries if item.round > after]

    def checkpoints(self) -> list[Checkpoint]:
        """Where an engine can go on from, oldest first: the kept applied heads, and the start if it is near."""
        return list(self._kept)

    def _read_checkpoints(self) -> list[Checkpoint]:
        """From the log, without those that reorgs have made void."""
        kinds = (APPLIED, REVERTED, ADOPTED)
        entries = sorted(
            (item for kind in kinds for item in self.log.entries(kind)), key=lambda item: item.seq
        )
        kept: list[LogEntry] = []
        for entry in entries:
            if entry.kind == APPLIED:
                kept.append(entry)
            elif entry.kind == ADOPTED:
                kept = []
            else:
                kept = _until_head(kept, Hash(entry.head))
        from_genesis = not kept or kept[0].round == 1
        found = [decode_checkpoint(entry.data) for entry in kept[-KEPT_HEADS - 1 :]]
        return within_reach([Checkpoint(), *found] if from_genesis and len(found) <= KEPT_HEADS else found)

    def recent_updates(self) -> Iterator[CertifiedList]:
        """The lists of the newest rounds."""
        for path in sorted((self.public.path / "lists").glob("*.msgpack"))[-ROUNDS_OF_BLOBS_KEPT:]:
            yield msgspec.msgpack.decode(path.read_bytes(), type=CertifiedList)

    # What follows a certificate

    def save_applied(self, apply: Apply, state: bytes, private: bytes) -> None:
        """Make a head durable: its state, the private state that goes with it, its list, and last the checkpoint."""
        standing = apply.standing
        # None where a reorg put a roll call in the place of this round's certificate.
        listed = None if apply.certified is None else apply.certified.to_bytes()
        self.offering.write_list(standing.round, listed)
        if apply.certified is not None:
            self.on_list(standing.round, apply.certified)
        if apply.body is not None and not apply.body.is_empty:
            write_atomically(self.state_path(standing.round), state)
        else:
            self.state_path(standing.round).unlink(missing_ok=True)
        self.leftovers.put(standing.round, apply.leftovers)
        write_atomically(self.private_path(standing.head), private)
        self._log_applied(checkpoint_of(apply))
        updates = () if apply.certified is None else apply.certified.updates
        round_bytes = sum(update.blob_size for update in updates)
        self.offering.applied(standing, self._state_file(standing.round), round_bytes)
        self._prune(standing.round, apply.before.head)
        self.on_change()

    def _log_applied(self, checkpoint: Checkpoint) -> None:
        standing = checkpoint.standing
        assert standing is not None
        self.log.append(APPLIED, standing.round, standing.head, encode_checkpoint(checkpoint))
        self._kept = [*self._kept, checkpoint][-KEPT_HEADS - 1 :]

    def adopt(self, checkpoint: Checkpoint, state: BlobRef, lists: Mapping[int, CertifiedList]) -> None:
        """Begin from a snapshot: a head that was not lived through here, its state's blob, and the newest lists."""
        standing = checkpoint.standing
        assert standing is not None
        for number, certified in lists.items():
            self.offering.write_list(number, certified.to_bytes())
        self._forget_states_after(0)
        self.blobs.give(state, self.state_path(standing.round))
        self.log.append(ADOPTED, standing.round, standing.head, b"")
        self._kept = []
        self._log_applied(checkpoint)
        self.offering.put(standing, state)

    def revert(self, standing: Standing | None) -> None:
        """The ledger went back to this head: the checkpoints and states after it are void. Raises ReorgTooDeep."""
        number, head = (0, ZERO_HASH) if standing is None else (standing.round, standing.head)
        kept = list(self._kept)
        while kept and kept[-1].standing is not None and kept[-1].standing.head != head:
            kept.pop()
        if not kept:
            raise ReorgTooDeep(
                f"the ledger went back to round {number}, whose state is not kept any more: join again from a snapshot"
            )
        self.log.append(REVERTED, number, head, b"")
        self._kept = kept
        self._forget_states_after(number)
        self.offering.revert(number)

    def _forget_states_after(self, number: int) -> None:
        """Else a later empty round would seem to leave one of them."""
        for path in (self.home / "states").glob("*.bin"):
            if int(path.stem) > number:
                path.unlink()

    def save_endpoints(self, records: tuple[bytes, ...]) -> None:
        """Remember where the others are."""
        write_atomically(self.home / "endpoints.msgpack", msgspec.msgpack.encode(records))

    def endpoints(self) -> tuple[bytes, ...]:
        """The records of the last start, signed; those who moved since are heard of again."""
        path = self.home / "endpoints.msgpack"
        try:
            return msgspec.msgpack.decode(path.read_bytes(), type=tuple[bytes, ...])
        except (FileNotFoundError, msgspec.DecodeError):
            return ()

    def state_path(self, round_number: int) -> Path:
        """The file of the state after a round."""
        return self.home / "states" / f"{round_number:08d}.bin"

    def state_after(self, round_number: int, initial: bytes) -> bytes:
        """The state after a round (empty rounds leave the one before, at first the initial one)."""
        path = self._state_file(round_number)
        return initial if path is None else path.read_bytes()

    def has_state(self, round_number: int) -> bool:
        """Whether the state after a round is kept here, and not the initial one."""
        return self._state_file(round_number) is not None

    def _state_file(self, round_number: int) -> Path | None:
        paths = sorted((self.home / "states").glob("*.bin"))
        return next((path for path in reversed(paths) if int(path.stem) <= round_number), None)

    def private_path(self, head: Hash) -> Path:
        """The file of the private state that goes with a head."""
        return self.home / "private" / f"{head.hex()}.bin"

    def trained_path(self, head: Hash) -> Path:
        """The file of the private state after training from a head, before its certificate."""
        return self.home / "private" / f"{head.hex()}.trained.bin"

    def list_bytes(self, round_number: int) -> bytes | None:
        """The list of a round, if it is kept."""
        try:
            return self.public.list_path(round_number).read_bytes()
        except FileNotFoundError:  # another thread may prune it at any time
            return None

    def _prune(self, round_number: int, previous: Hash) -> None:
        """Forget what nobody will ask for: states and private states that no reorg leads back to; old ciphertexts."""
        self._kept = within_reach(self._kept)
        kept = [item.standing for item in self._kept if item.standing is not None]
        oldest = kept[0].round if len(kept) > 1 else 0
        states = sorted((self.home / "states").glob("*.bin"))
        base = [path for path in states if int(path.stem) <= oldest]  # the newest is what ``oldest`` follows
        for path in base[:-1]:
            path.unlink()
        bases = {base.head for standing in kept for base in standing.bases}
        heads = [previous, *(standing.head for standing in kept), *bases]
        keep = {*map(self.private_path, heads), *map(self.trained_path, heads)}
        for path in (self.home / "private").iterdir():
            if path not in keep and path.suffix == ".bin":  # not what is being written just now
                path.unlink()
        self.leftovers.prune(round_number - ROUNDS_OF_BLOBS_KEPT, lambda: self._listed(round_number))
        if not self.archive:
            self.offering.prune(round_number - ROUNDS_OF_BLOBS_KEPT)

    def _listed(self, round_number: int) -> frozenset[Hash]:
        """The ciphertexts in the lists of the rounds that a leftover may belong to after a reorg."""
        first = max(1, round_number - 2 * ROUNDS_OF_BLOBS_KEPT)
        lists = (self.list_bytes(number) for number in range(first, round_number + 1))
        found = (msgspec.msgpack.decode(data, type=CertifiedList) for data in lists if data is not None)
        return frozenset(update.blob_hash for certified in found for update in certified.updates)
