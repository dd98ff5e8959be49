"""What a peer keeps on its disk for newcomers, and until when: snapshots, the lists that go with them, and updates."""

import threading
import time
from itertools import islice
from pathlib import Path

from distrai.network.store import BlobStore
from distrai.peer.public import PublicFolder, write_atomically
from distrai.peer.snapshots import Blob, Shelf, Snapshot
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.standing import RECENT_LISTS, Standing

UNSETTLED_ROUNDS_MAX = 4096


class Offering:
    """The shelf of one peer, and the blobs behind it. Any thread may call anything."""

    def __init__(self, home: Path, blobs: BlobStore, public: PublicFolder) -> None:
        self.blobs, self.public = blobs, public
        self.shelf = Shelf(home / "snapshots.msgpack", time.monotonic)
        self._lock = threading.RLock()
        self._lists: dict[int, BlobRef] = {}
        self._pruned_through = 0
        self._kept_after: int | None = None

    def write_list(self, number: int, data: bytes | None) -> None:
        """Keep the list of a round, or none, in the place of what a reorg may have made void."""
        with self._lock:
            if (blob := self._lists.pop(number, None)) is not None:
                self.blobs.delete(blob)
            path = self.public.list_path(number)
            if data is None:
                path.unlink(missing_ok=True)
            else:
                write_atomically(path, data)

    def applied(self, standing: Standing, state: Path | None, round_bytes: int) -> None:
        """Keep the state of this round, if it is one of those that every peer keeps (None: still the initial one)."""
        with self._lock:
            self.shelf.landed()
            if (
                state is not None
                and standing.round % self.shelf.period(state.stat().st_size, round_bytes) == 0
            ):
                self.put(standing, self.blobs.link(state))

    def put(self, standing: Standing, state: BlobRef) -> None:
        """Keep the state at ``standing``, at the cost of an older one."""
        with self._lock:
            needed = self._lists_needed_at(standing)
            self._tidy(self.shelf.put(Snapshot(standing.round, standing.head, Blob.of(state)), needed))

    def revert(self, number: int) -> None:
        """The ledger went back to this round: what is of later ones is void."""
        with self._lock:
            self._tidy(self.shelf.forget_after(number))

    def shown(self) -> tuple[tuple[Snapshot, ...], dict[int, BlobRef]]:
        """Snapshots, and the lists that go with them, as blobs: of some rounds before the oldest one, and all since."""
        with self._lock:
            oldest, needed = self.shelf.oldest or 0, self.shelf.lists_needed
            wanted = [
                number
                for number in self.public.list_rounds()
                if number > oldest or number in needed or self._is_unsettled(number)
            ]
            for number in wanted:
                if number not in self._lists:
                    self._lists[number] = self.blobs.link(self.public.list_path(number))
            return self.shelf.kept, {number: self._lists[number] for number in wanted}

    def keep_lists_after(self, number: int | None) -> None:
        """Keep and show the lists of all rounds after this one: what they accepted is not settled. None: no more."""
        with self._lock:
            self._kept_after = number

    def _is_unsettled(self, number: int) -> bool:
        return self._kept_after is not None and number > self._kept_after

    def prune(self, through: int) -> None:
        """Forget the updates of rounds up to this one, and their lists, but for what newcomers need."""
        with self._lock:
            if self._kept_after is not None:  # whatever becomes of settling, a disk is not filled
                self._kept_after = max(self._kept_after, through - UNSETTLED_ROUNDS_MAX)
            through = min(through, self.shelf.oldest or 0)
            for number in self.public.list_rounds():
                is_needed = number in self.shelf.lists_needed or self._is_unsettled(number)
                if number > through or (is_needed and number <= self._pruned_through):
                    continue
                for update in self.public.read_list(number).updates:
                    self.blobs.delete(update.blob)
                if not is_needed:
                    path = self.public.list_path(number)
                    self._lists.pop(number, None)
                    self.blobs.delete(blob_ref(path.read_bytes()))  # there if somebody asked for it
                    path.unlink()
            self._pruned_through = max(through, self._pruned_through)

    def _lists_needed_at(self, standing: Standing) -> tuple[int, ...]:
        """Whoever begins here needs the newest list, and the newest that are not empty; more of both with staleness."""
        rounds = [known for known in self.public.list_rounds() if known <= standing.round]
        filled = (known for known in reversed(rounds) if self.public.read_list(known).entries)
        more = len(standing.bases)
        return tuple(sorted({*rounds[-(more + 1) :], *islice(filled, RECENT_LISTS + more)}))

    def _tidy(self, gone: tuple[BlobRef, ...]) -> None:
        # before anything is deleted: what it names must be there after a crash
        write_atomically(self.shelf.path, self.shelf.record())
        for blob in gone:
            self.blobs.delete(blob)
