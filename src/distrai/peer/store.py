"""A peer's home on disk: event log, blobs, states, private state, and what an archive publishes.

``home/`` holds ``peer.sqlite`` (the event log), ``blobs/``, ``states/`` (the common state after a round), ``private/``
(what only this peer has: error feedback and a kept inner optimiser, by the head they belong to) and ``public/``
(certificates and lists by round, for whoever wants to replay the run).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from distrai.network.store import BlobStore
from distrai.peer.engine import Checkpoint
from distrai.peer.events import Apply, Persist
from distrai.peer.log import open_log
from distrai.peer.records import (
    APPLIED,
    MEMBER,
    OWN,
    CertificateRecord,
    GenesisRecord,
    decode_checkpoint,
    decode_own,
    encode_checkpoint,
    encode_own,
)
from distrai.protocol.blobs import blob_ref
from distrai.protocol.ledger_events import Position
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import ZERO_HASH, Hash, MemberId

STATES_KEPT = 3
"""States after the newest rounds that stay on disk."""
ROUNDS_OF_BLOBS_KEPT = 8
"""Rounds whose ciphertexts and lists a peer that is no archive keeps."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that after a crash it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@dataclass(frozen=True)
class PublicFolder:
    """Certificates and lists by round: with the blobs, all that a replay reads."""

    path: Path

    @property
    def genesis_path(self) -> Path:
        """Where genesis and first seats are."""
        return self.path / "genesis.msgpack"

    def certificate_path(self, round_number: int) -> Path:
        """Where the certificate of a round is."""
        return self.path / "certificates" / f"{round_number:08d}.msgpack"

    def list_path(self, round_number: int) -> Path:
        """Where the list of a round is."""
        return self.path / "lists" / f"{round_number:08d}.msgpack"


class PeerStore:
    """Everything that one peer keeps."""

    def __init__(self, home: Path, *, archive: bool) -> None:
        """Open or make the home. A damaged log is put aside; ``damaged_log`` is then where it lies."""
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.home = home
        self.archive = archive
        self.log, self.damaged_log = open_log(home / "peer.sqlite")
        if self.log.last(APPLIED) is None:
            for state in (home / "states").glob("*.bin"):  # of rounds that this log knows nothing of
                state.unlink()
        self.blobs = BlobStore(home / "blobs")
        self.public = PublicFolder(home / "public")

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

    def own_records(self, after: int) -> list[Persist]:
        """The own messages of the rounds after ``after``: a Have may be on disk before the checkpoint it follows."""
        entries = self.log.entries(OWN)
        return [decode_own(item.data, Hash(item.head), item.round) for item in entries if item.round > after]

    def checkpoint(self) -> tuple[Checkpoint, Position] | None:
        """The newest applied head, or None before the first."""
        entry = self.log.last(APPLIED)
        return None if entry is None else decode_checkpoint(entry.data)

    def recent_updates(self) -> Iterator[CertifiedList]:
        """The lists of the newest rounds."""
        for path in sorted((self.public.path / "lists").glob("*.msgpack"))[-ROUNDS_OF_BLOBS_KEPT:]:
            yield msgspec.msgpack.decode(path.read_bytes(), type=CertifiedList)

    # What follows a certificate

    def save_applied(self, apply: Apply, state: bytes, private: bytes) -> None:
        """Make a head durable: its state, the private state that goes with it, its list, and last the checkpoint."""
        standing = apply.standing
        write_atomically(self.public.list_path(standing.round), apply.certified.to_bytes())
        if not apply.body.is_empty:
            write_atomically(self.state_path(standing.round), state)
        write_atomically(self.private_path(standing.head), private)
        self.log.append(APPLIED, standing.round, standing.head, encode_checkpoint(apply))
        self._prune(standing.round, standing.head, apply.before.head)

    def save_certificate(self, record: CertificateRecord) -> None:
        """Publish a certificate (an archive does)."""
        write_atomically(self.public.certificate_path(record.body.round), msgspec.msgpack.encode(record))

    def save_genesis(self, record: GenesisRecord) -> None:
        """Publish how the run began."""
        write_atomically(self.public.genesis_path, msgspec.msgpack.encode(record))

    def genesis(self) -> GenesisRecord:
        """What was published of how the run began."""
        return msgspec.msgpack.decode(self.public.genesis_path.read_bytes(), type=GenesisRecord)

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
        paths = sorted((self.home / "states").glob("*.bin"))
        kept = [path for path in paths if int(path.stem) <= round_number]
        return kept[-1].read_bytes() if kept else initial

    def private_path(self, head: Hash) -> Path:
        """The file of the private state that goes with a head."""
        return self.home / "private" / f"{head.hex()}.bin"

    def trained_path(self, head: Hash) -> Path:
        """The file of the private state after training from a head, before its certificate."""
        return self.home / "private" / f"{head.hex()}.trained.bin"

    def list_bytes(self, round_number: int) -> bytes | None:
        """The list of a round, if it is kept."""
        path = self.public.list_path(round_number)
        return path.read_bytes() if path.exists() else None

    def _prune(self, round_number: int, head: Hash, previous: Hash) -> None:
        """Forget what nobody will ask for: old states and private states; old ciphertexts unless this is an archive."""
        for path in sorted((self.home / "states").glob("*.bin"))[:-STATES_KEPT]:
            path.unlink()
        keep = {self.private_path(head), self.private_path(previous), self.trained_path(previous)}
        for path in (self.home / "private").iterdir():
            if path not in keep and path.suffix == ".bin":  # not what is being written just now
                path.unlink()
        if not self.archive:
            self._prune_round(round_number - ROUNDS_OF_BLOBS_KEPT)

    def _prune_round(self, round_number: int) -> None:
        data = self.list_bytes(round_number)
        if data is None:
            return
        self.blobs.delete(blob_ref(data))  # there if somebody asked for it, or it was asked for
        for update in msgspec.msgpack.decode(data, type=CertifiedList).updates:
            self.blobs.delete(update.blob)
        self.public.list_path(round_number).unlink()
