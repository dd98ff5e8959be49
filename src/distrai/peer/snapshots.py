"""What a peer keeps and shows for newcomers: finished states of some recent rounds, and the lists since then.

Every peer picks the same rounds (multiples of a power of two that grows with the pace), so that a newcomer gets one
snapshot from all of them at once. Two are kept: the older one is there for as long again as it takes to make another.
Nothing of this is believed by whoever reads it: see ``newcomer.py``.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median

import msgspec

from distrai.protocol.blobs import BlobRef
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.errors import MalformedMessage
from distrai.protocol.primitives import HASH_SIZE, Hash

DOCUMENT = "snapshots"
"""The name of the document that newcomers ask for."""
SNAPSHOTS_KEPT = 2
ENDPOINTS_SHOWN_MAX = 64
LISTS_SHOWN_MAX = 256
PERIOD_ROUNDS_MIN, PERIOD_ROUNDS_MAX = 4, 32
PERIOD_S = 30.0
"""A newer snapshot comes no sooner than this: whoever downloads the older one needs time for it."""
BYTES_PER_S = 1_000_000
"""What a newcomer can be expected to download in a second; a larger state gets more time."""
UPDATES_PER_STATE = 8
"""The updates that are kept for newcomers take no more disk than so many states (and no less than UPDATES_FREE)."""
UPDATES_FREE = 64 << 20
PACE_ROUNDS = 8


class Blob(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A blob's name and size, in a document."""

    hash: Hash
    size: int

    @property
    def ref(self) -> BlobRef:
        """The same as a reference. Raises WrongBlob."""
        return BlobRef(self.hash, self.size)

    @classmethod
    def of(cls, blob: BlobRef) -> "Blob":
        """A reference, for a document."""
        return cls(blob.hash, blob.size)


class Snapshot(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The state after a round: ``head`` is the one that the round made."""

    round: int
    head: Hash
    state: Blob


class Shown(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A peer's document: its snapshots, newest last; lists by round; signed records of where others are."""

    run: int
    snapshots: tuple[Snapshot, ...]
    lists: tuple[tuple[int, Blob], ...]
    endpoints: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """The bytes of the document."""
        return encode_canonical(self)


def decode_shown(data: bytes) -> Shown:
    """Read a document that came from outside. Raises MalformedMessage, NotCanonical or WrongBlob."""
    shown = decode_canonical(data, Shown)
    if any(len(item.head) != HASH_SIZE or item.round < 0 for item in shown.snapshots):
        raise MalformedMessage("a snapshot is of a round and its head of 32 bytes")
    for blob in (*(item.state for item in shown.snapshots), *(blob for _, blob in shown.lists)):
        blob.ref  # noqa: B018  (checks it)
    return shown


class Shelf:
    """The snapshots of one peer, remembered in a file. One thread at a time uses it."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """``path`` is where it is remembered, ``clock`` gives local seconds."""
        self.path, self.clock = path, clock
        self.kept: tuple[Snapshot, ...] = ()
        self._needed: dict[int, tuple[int, ...]] = {}
        self._landed: deque[float] = deque(maxlen=PACE_ROUNDS + 1)
        if path.exists():
            with suppress(msgspec.DecodeError):  # damaged: the next snapshot begins a new shelf
                record = msgspec.msgpack.decode(path.read_bytes(), type=_Record)
                self.kept, self._needed = record.kept, record.needed

    def landed(self) -> None:
        """A round is over: the pace follows from when they are."""
        self._landed.append(self.clock())

    @property
    def pace_s(self) -> float:
        """Seconds for a round of late, as a median; 0 if not known."""
        times = [later - earlier for earlier, later in pairwise(self._landed)]
        return median(times) if times else 0.0

    def period(self, state_bytes: int, round_bytes: int) -> int:
        """Rounds from one snapshot to the next; ``round_bytes`` are all updates of a round. The first comes early."""
        if not self.kept:
            return PERIOD_ROUNDS_MIN
        enough_s = max(PERIOD_S, state_bytes / BYTES_PER_S)
        room = max(UPDATES_FREE, UPDATES_PER_STATE * state_bytes)
        rounds = PERIOD_ROUNDS_MIN
        while (
            rounds < PERIOD_ROUNDS_MAX
            and 0 < rounds * self.pace_s < enough_s
            and 2 * SNAPSHOTS_KEPT * rounds * round_bytes <= room
        ):
            rounds *= 2
        return rounds

    def put(self, snapshot: Snapshot, lists: tuple[int, ...]) -> tuple[BlobRef, ...]:
        """Keep a snapshot, and the lists of these rounds for it. The states that go for it."""
        older = [item for item in self.kept if item.round < snapshot.round]
        self._needed[snapshot.round] = lists
        return self._keep((*older, snapshot)[-SNAPSHOTS_KEPT:])

    def forget_after(self, number: int) -> tuple[BlobRef, ...]:
        """The ledger went back to this round: later snapshots are void. Their states, of which none is wanted."""
        if all(item.round <= number for item in self.kept):
            return ()
        return self._keep(tuple(item for item in self.kept if item.round <= number))

    def _keep(self, kept: tuple[Snapshot, ...]) -> tuple[BlobRef, ...]:
        wanted = {item.state for item in kept}
        gone = tuple(item.state.ref for item in self.kept if item.state not in wanted)
        self.kept = kept
        rounds = {item.round for item in kept}
        self._needed = {number: lists for number, lists in self._needed.items() if number in rounds}
        return gone

    def record(self) -> bytes:
        """What is to be written to ``path`` after a change."""
        return msgspec.msgpack.encode(_Record(self.kept, self._needed))

    @property
    def oldest(self) -> int | None:
        """The round of the oldest snapshot: who starts from it needs the updates after that."""
        return self.kept[0].round if self.kept else None

    @property
    def lists_needed(self) -> frozenset[int]:
        """Rounds up to the snapshots' own whose lists a newcomer needs beside them."""
        return frozenset(number for lists in self._needed.values() for number in lists)


class _Record(msgspec.Struct, frozen=True, array_like=True):
    kept: tuple[Snapshot, ...]
    needed: dict[int, tuple[int, ...]]
