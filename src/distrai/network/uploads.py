"""What leaves first where an uplink is narrow: chunks that nobody else has yet.

Who fetches a blob asks *politely* first: "unless you have something fresh to send". Then a holder refuses while it
sends a chunk that has not left before, if what was asked for has left already or is that chunk: whoever gets it passes
it on. So each chunk leaves a slow author about once before any leaves twice. A plain request is refused only where too
many answers are on their way already: nobody can keep a chunk from others by asking for it.
"""

import itertools
import time
from collections import OrderedDict
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
    """How long a fresh chunk on its way counts: who takes it slowly does not keep others waiting."""
    hold_s: float = 0.05
    """How long after a fresh chunk the next one is waited for."""


class Uploads:
    """The chunks that one server sends, and which have left before. Touched by the event loop only."""

    def __init__(
        self, limits: UploadLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits or UploadLimits()
        self._clock = clock
        self._sent: OrderedDict[Hash, set[int]] = OrderedDict()
        self._count = 0
        self._fresh: dict[int, tuple[Hash, int, float]] = {}
        self._fresh_ended_at = float("-inf")
        self._serial = itertools.count()

    @contextmanager
    def sending(self, hash_: Hash, index: int, *, polite: bool, relayed: bool) -> Iterator[None]:
        """Around the sending of one chunk; ``relayed``: it was fetched, so that somebody else has it. Raises Busy."""
        is_fresh = not relayed and index not in self._sent.get(hash_, ())
        if self._count >= self.limits.at_once or (polite and not self._is_its_turn(hash_, index, is_fresh)):
            raise Busy("has something rarer to send")
        number, began = next(self._serial), self._clock()
        self._count += 1
        if is_fresh:
            self._fresh[number] = (hash_, index, began)
        try:
            yield
            self._remember(hash_, index)
        finally:
            self._count -= 1
            if self._fresh.pop(number, None) is not None:
                self._fresh_ended_at = self._clock()

    def _is_its_turn(self, hash_: Hash, index: int, is_fresh: bool) -> bool:
        now = self._clock()
        going = [what for *what, since in self._fresh.values() if now - since < self.limits.fresh_s]
        if is_fresh:
            return [hash_, index] not in going
        return not going and now - self._fresh_ended_at >= self.limits.hold_s

    def _remember(self, hash_: Hash, index: int) -> None:
        self._sent.setdefault(hash_, set()).add(index)
        self._sent.move_to_end(hash_)
        while len(self._sent) > _BLOBS_REMEMBERED:
            self._sent.popitem(last=False)
