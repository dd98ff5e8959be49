"""From a certified list to the next state: open every update, check it, apply them all. Used by peers and by replay."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from distrai.algorithms.algorithm import Algorithm, Entry, StepResult
from distrai.algorithms.errors import PayloadError
from distrai.algorithms.state import GlobalState
from distrai.network.store import MissingBlob
from distrai.protocol.blobs import BlobRef
from distrai.protocol.cipher import binding, unseal_chunks
from distrai.protocol.errors import ProtocolError
from distrai.protocol.lists import CertifiedList
from distrai.protocol.messages import Update
from distrai.protocol.primitives import MemberId

ReadBlob = Callable[[BlobRef], Iterable[bytes]]
"""Gives the chunks of a blob: a ciphertext is never in memory as a whole."""


@dataclass(frozen=True)
class Aggregation:
    """The algorithm of a run with the absolute checks of its recipe."""

    algorithm: Algorithm
    norm_ceiling: float
    read: ReadBlob

    def open(self, update: Update, key: bytes) -> bytes:
        """The checked payload of an update whose key is known.

        Raises a ProtocolError (it does not open) or a PayloadError (an absolute check fails).
        """
        bound = binding(update.run, update.round, update.previous_head, update.member)
        payload = unseal_chunks(self.read(update.blob), update.blob.chunk_count, key, bound)
        self.algorithm.check(payload, self.norm_ceiling)
        return payload

    def verdict(self, update: Update, key: bytes) -> str | None:
        """Why an update may not be listed, as "Rule: reason"; None if it may.

        A ciphertext that was held and is gone belongs to a round that is long over: somebody announced it again.
        """
        try:
            self.open(update, key)
        except (ProtocolError, PayloadError, MissingBlob) as error:
            return f"{type(error).__name__}: {error}"
        return None

    def apply(self, state: GlobalState, certified: CertifiedList) -> StepResult:
        """The state that a list leads to, and each entry's weight. Raises as ``open``."""
        entries = []
        for update, entry in zip(certified.updates, certified.entries, strict=True):
            entries.append(Entry(update.member, update.tokens, self.open(update, entry.key)))
        return self.algorithm.step(state, entries)


def members_of(certified: CertifiedList) -> list[MemberId]:
    """Whose updates a list holds, in order."""
    return [update.member for update in certified.updates]
