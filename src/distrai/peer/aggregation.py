"""From a certified list to the next state: open every update, check it, apply them all. Used by peers and by replay."""

import mmap
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from distrai.algorithms.algorithm import Algorithm, Entry, StepResult
from distrai.algorithms.errors import PayloadError
from distrai.algorithms.state import GlobalState
from distrai.network.store import MissingBlob
from distrai.protocol.blobs import BlobRef
from distrai.protocol.cipher import binding, opened_chunks, unseal_chunks
from distrai.protocol.errors import ProtocolError
from distrai.protocol.lists import CertifiedList
from distrai.protocol.messages import Update
from distrai.protocol.primitives import MemberId

ReadBlob = Callable[[BlobRef], Iterable[bytes]]
"""Gives the chunks of a blob: a ciphertext is never in memory as a whole."""

IN_MEMORY_MAX = 4 << 20
"""Bytes of the largest opened payload that is kept in memory; longer ones lie in a file while they are needed."""


@dataclass(frozen=True)
class Aggregation:
    """The algorithm of a run with the absolute checks of its recipe."""

    algorithm: Algorithm
    norm_ceiling: float
    read: ReadBlob
    scratch: Path | None = None
    """The folder of the files that hold large opened payloads; None: the system's for temporary files."""

    def open(self, update: Update, key: bytes) -> bytes | memoryview:
        """The checked payload of an update whose key is known; a large one is mapped from a file without a name.

        Raises a ProtocolError (it does not open) or a PayloadError (an absolute check fails).
        """
        bound = binding(update.run, update.round, update.previous_head, update.member)
        chunks, count = self.read(update.blob), update.blob.chunk_count
        payload: bytes | memoryview
        if update.blob.size <= IN_MEMORY_MAX:
            payload = unseal_chunks(chunks, count, key, bound)
        else:
            payload = self._in_file(opened_chunks(chunks, count, key, bound))
        self.algorithm.check(payload, self.norm_ceiling, update.round)
        return payload

    def _in_file(self, chunks: Iterable[bytes]) -> memoryview:
        """However many updates a list has, the system may take their pages back: nothing here grows with them."""
        if self.scratch is not None:
            self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.scratch) as file:
            file.writelines(chunks)
            file.flush()
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def verdict(self, update: Update, key: bytes) -> str | None:
        """Why an update may not be listed, as "Rule: reason"; None if it may.

        A ciphertext that was held and is gone belongs to a round that is long over: somebody announced it again.
        """
        try:
            self.open(update, key)
        except (ProtocolError, PayloadError, MissingBlob) as error:
            return f"{type(error).__name__}: {error}"
        return None

    def entry(self, update: Update, key: bytes, round_number: int) -> Entry:
        """What an update contributes to the certificate of a round. Raises as ``open``."""
        return Entry(update.member, update.tokens, self.open(update, key), round_number - update.round)

    def apply(self, state: GlobalState, certified: CertifiedList, round_number: int) -> StepResult:
        """The state that the list of a round leads to, and each entry's weight. Raises as ``open``."""
        pairs = zip(certified.updates, certified.entries, strict=True)
        entries = [self.entry(update, entry.key, round_number) for update, entry in pairs]
        return self.algorithm.step(state, entries, round_number)


def members_of(certified: CertifiedList) -> list[MemberId]:
    """Whose updates a list holds, in order."""
    return [update.member for update in certified.updates]
