"""What leaves first where an uplink is narrow: chunks that nobody else has yet.

Who fetches a blob asks *politely* first: "unless you have something rarer to send". Then a holder refuses while it
sends the same chunk to somebody else, or a chunk of which fewer copies have left: whoever gets that one passes it on.
So each chunk leaves a slow author about once. A plain request is refused only where too many answers are on their way
already: nobody can keep a chunk from others by asking for it.
"""

import itertools
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from distrai.network.holders import Busy
from distrai.protocol.primitives import Hash

_BLOBS_REMEMBERED = 256


@dataclass(frozen=True)
class UploadLimits:
    """How much may be on its way to others."""

    at_once: int = 128
    """Chunks on their way out at a time: they are in memory."""
    fresh_s: float = 15.0
    """How long a chunk that is on its way counts: who takes it slowly does not keep others waiting."""
    hold_s: float = 0.1
    """How long after a chunk the next one as rare is waited for."""


class Uploads:
    """The chunks that one server sends, and how many copies of each have left. Touched by the event loop only."""

    def __init__(
        self, limits: UploadLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits or UploadLimits()
        self._clock = clock
        self._sent: OrderedDict[Hash, Counter[int]] = OrderedDict()
        self._going: dict[int, tuple[Hash, int, int, float]] = {}
        self._ended: dict[int, float] = {}
        self._serial = itertools.count()

    def copies(self, hash_: Hash, index: int, *, relayed: bool) -> int:
        """How many others have the chunk, as far as this server knows."""
        sent = self._sent.get(hash_)
        return int(relayed) + (0 if sent is None else sent[index])

    @contextmanager
    def sending(self, hash_: Hash, index: int, *, polite: bool, relayed: bool) -> Iterator[None]:
        """Around the sending of one chunk; ``relayed``: it was fetched, so that somebody else has it. Raises Busy."""
        copies, now = self.copies(hash_, index, relayed=relayed), self._clock()
        if len(self._going) >= self.limits.at_once or (polite and self._has_rarer(hash_, index, copies, now)):
            raise Busy("has something rarer to send")
        number = next(self._serial)
        self._going[number] = (hash_, index, copies, now)
        try:
            yield
            self._count(hash_, index)
        finally:
            del self._going[number]
            self._ended[copies] = self._clock()

    def _has_rarer(self, hash_: Hash, index: int, copies: int, now: float) -> bool:
        for other_hash, other_index, other_copies, since in self._going.values():
            if now - since < self.limits.fresh_s and (
                other_copies < copies or (other_hash, other_index) == (hash_, index)
            ):
                return True
        return any(level < copies and now - at < self.limits.hold_s for level, at in self._ended.items())

    def _count(self, hash_: Hash, index: int) -> None:
        self._sent.setdefault(hash_, Counter())[index] += 1
        self._sent.move_to_end(hash_)
        while len(self._sent) > _BLOBS_REMEMBERED:
            self._sent.popitem(last=False)
